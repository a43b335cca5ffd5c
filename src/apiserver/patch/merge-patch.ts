// SPDX-License-Identifier: Apache-2.0
// JSON merge patch (RFC 7386): objects merge, null removes, everything else replaces.
import { cloneJson, isObject, type JsonObject, own } from "../json.ts";

/** The patched document; neither argument is changed. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return cloneJson(patch);
  const result: JsonObject = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(own(result, key), value);
  }
  return result;
}
