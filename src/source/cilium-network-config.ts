// SPDX-License-Identifier: Apache-2.0
// CiliumNetworkConfig: an object that some guides tell their readers to write, with fields such as
// `enableBPFMasquerade` in its spec. Read as aliases of the keys of cilium-config; Cilium itself has no such kind.
import * as z from "zod";
import type { ApiObject } from "./client.ts";
import { decodeObject, describe, formatPath, metadata } from "./decode.ts";

export interface NetworkConfigField {
  /** `enableBPFMasquerade`, `bpf.masquerade`. */
  readonly alias: string;
  readonly text: string;
  /** `CiliumNetworkConfig kube-system/x spec.enableBPFMasquerade`. */
  readonly path: string;
}

export interface NetworkConfigObject {
  readonly origin: string;
  readonly name: string;
  readonly fields: readonly NetworkConfigField[];
}

const schema = z.looseObject({
  metadata,
  spec: z
    .looseObject({})
    .nullish()
    .transform((value) => value ?? {}),
});

const MAX_DEPTH = 4;

function flatten(value: unknown, at: string[], visit: (path: string[], text: string) => void): void {
  if (value === null || value === undefined) return;
  if (Array.isArray(value)) visit(at, value.map(String).join(","));
  else if (typeof value !== "object") visit(at, String(value));
  else if (at.length < MAX_DEPTH) {
    for (const [key, inner] of Object.entries(value)) flatten(inner, [...at, key], visit);
  }
}

/** @throws Fault OBJECT_INVALID */
export function decodeNetworkConfig(object: ApiObject): NetworkConfigObject {
  const config = decodeObject(schema, object, "CiliumNetworkConfig");
  const origin = describe(object, "CiliumNetworkConfig");
  const fields: NetworkConfigField[] = [];
  flatten(config.spec, [], (path, text) => {
    fields.push({ alias: path.join("."), text, path: `${origin} spec.${formatPath(path)}` });
  });
  return { origin, name: config.metadata.name, fields };
}
