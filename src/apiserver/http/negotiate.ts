// SPDX-License-Identifier: Apache-2.0
// Which form a client accepts: plain JSON, Tables for kubectl get, metadata only, aggregated discovery. The first entry of
// the Accept header that the server can make wins.
import { faults } from "../faults.ts";
import type { Form } from "../table/table.ts";

interface MediaType {
  type: string;
  parameters: Map<string, string>;
}

export function mediaTypes(header: string): MediaType[] {
  return header.split(",").map((entry) => {
    const [type = "", ...rest] = entry.split(";").map((part) => part.trim());
    const pairs = rest.map((part) => part.split("=").map((t) => t.trim()) as [string, string]);
    return { type: type.toLowerCase(), parameters: new Map(pairs) };
  });
}

const JSON_TYPES = new Set(["application/json", "application/*", "*/*", ""]);

/** @throws Fault API_NOT_ACCEPTABLE */
export function acceptedForm(header: string | undefined, query: URLSearchParams): Form {
  for (const { type, parameters } of mediaTypes(header ?? "")) {
    if (!JSON_TYPES.has(type)) continue;
    const as = parameters.get("as");
    if (as === undefined) return { as: "Object" };
    const version = parameters.get("v");
    if (parameters.get("g") !== "meta.k8s.io" || (version !== "v1" && version !== "v1beta1")) continue;
    if (as === "Table") {
      const include = query.get("includeObject");
      return { as, version, include: include === "None" || include === "Object" ? include : "Metadata" };
    }
    if (as === "PartialObjectMetadata" || as === "PartialObjectMetadataList") {
      return { as: "PartialObjectMetadata", version };
    }
  }
  throw faults.API_NOT_ACCEPTABLE({ accept: (header ?? "").slice(0, 200) });
}

/** The version of aggregated discovery that the client prefers over plain JSON, if any. */
export function aggregatedDiscovery(header: string | undefined): "v2" | "v2beta1" | undefined {
  for (const { type, parameters } of mediaTypes(header ?? "")) {
    if (type !== "application/json") continue;
    if (!parameters.has("as")) return undefined;
    const version = parameters.get("v");
    const discovery =
      parameters.get("g") === "apidiscovery.k8s.io" && parameters.get("as") === "APIGroupDiscoveryList";
    if (discovery && (version === "v2" || version === "v2beta1")) return version;
  }
  return undefined;
}
