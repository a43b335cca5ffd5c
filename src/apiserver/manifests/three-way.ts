// SPDX-License-Identifier: Apache-2.0
// What a changed manifest does to a living object: fields that the manifest no longer has go, fields that it has are set,
// fields that others set (labels by kubectl, status by agents) stay.
import { isObject, type JsonObject, own } from "../json.ts";
import { mergePatch } from "../patch/merge-patch.ts";

/** `live` brought from the manifest `last` to the manifest `next`; `live` is not changed. */
export function threeWay(last: JsonObject | undefined, next: JsonObject, live: JsonObject): JsonObject {
  return mergePatch(without(live, last, next), next) as JsonObject;
}

function without(live: JsonObject, last: unknown, next: JsonObject): JsonObject {
  const result: JsonObject = { ...live };
  for (const [key, before] of Object.entries(isObject(last) ? last : {})) {
    const after = own(next, key);
    const now = own(result, key);
    if (after === undefined) delete result[key];
    else if (isObject(after) && isObject(now)) result[key] = without(now, before, after);
  }
  return result;
}
