// SPDX-License-Identifier: Apache-2.0
// CiliumNodeConfig (cilium.io/v2): keys of cilium-config for the nodes that its nodeSelector matches.
import * as z from "zod";
import type { ApiObject } from "./client.ts";
import { decodeObject, describe, metadata } from "./decode.ts";
import { decodeSelector, type LabelSelector, selectorSchema } from "./label-selector.ts";

export interface NodeConfigObject {
  readonly origin: string;
  readonly name: string;
  readonly selector: LabelSelector;
  readonly defaults: ReadonlyMap<string, string>;
}

const scalar = z.union([z.string(), z.number(), z.boolean()]).transform(String);

const schema = z.looseObject({
  metadata,
  spec: z.looseObject({
    nodeSelector: selectorSchema,
    defaults: z
      .record(z.string(), scalar)
      .nullish()
      .transform((value) => value ?? {}),
  }),
});

/** @throws Fault OBJECT_INVALID */
export function decodeNodeConfig(object: ApiObject): NodeConfigObject {
  const config = decodeObject(schema, object, "CiliumNodeConfig");
  return {
    origin: describe(object, "CiliumNodeConfig"),
    name: config.metadata.name,
    selector: decodeSelector(config.spec.nodeSelector),
    defaults: new Map(Object.entries(config.spec.defaults)),
  };
}
