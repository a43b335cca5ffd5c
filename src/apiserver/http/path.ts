// SPDX-License-Identifier: Apache-2.0
// Reads a request target: which resource, namespace, object and subresource it names. Segments are decoded once and
// compared, never joined into anything.
import { faults } from "../faults.ts";

/** A URL under /api/v1 or /apis/GROUP/VERSION that names a resource. */
export interface ResourcePath {
  group: string;
  version: string;
  plural: string;
  namespace: string | undefined;
  name: string | undefined;
  subresource: string;
}

/** A target split into decoded segments and its query. */
export interface Target {
  segments: string[];
  query: URLSearchParams;
}

/** @throws Fault API_BAD_REQUEST when the target is not valid, API_URL_TOO_LONG */
export function readTarget(url: string, limit: number): Target {
  if (url.length > limit) throw faults.API_URL_TOO_LONG({ what: "the URL", limit });
  const mark = url.indexOf("?");
  const path = mark < 0 ? url : url.slice(0, mark);
  let segments: string[];
  try {
    segments = path
      .split("/")
      .filter((s) => s !== "")
      .map(decodeURIComponent);
  } catch (cause) {
    throw faults.API_BAD_REQUEST({ why: "the path is not valid percent-encoding" }, cause);
  }
  return { segments, query: new URLSearchParams(mark < 0 ? "" : url.slice(mark + 1)) };
}

/** Subresources of namespaces: `/namespaces/NAME/status` is no object named "status". */
const OF_NAMESPACES = new Set(["status", "finalize"]);

/** @returns undefined when the target names no resource (discovery, health, nothing) */
export function resourcePath(segments: readonly string[]): ResourcePath | undefined {
  const core = segments[0] === "api";
  if (!core && segments[0] !== "apis") return undefined;
  const [group, version] = core ? ["", segments[1]] : [segments[1], segments[2]];
  const rest = segments.slice(core ? 2 : 3);
  if (group === undefined || version === undefined || rest.length === 0) return undefined;
  let namespace: string | undefined;
  if (rest[0] === "namespaces" && rest.length > 2 && !OF_NAMESPACES.has(rest[2] as string)) {
    namespace = rest[1];
    rest.splice(0, 2);
  }
  const [plural = "", name, ...subresource] = rest;
  return { group, version, plural, namespace, name, subresource: subresource.join("/") };
}
