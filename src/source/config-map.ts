// SPDX-License-Identifier: Apache-2.0
// ConfigMap: its text, for the two that the agent reads, cilium-config and ip-masq-agent in kube-system.
import * as z from "zod";
import type { ApiObject } from "./client.ts";
import { decodeObject, describe, metadata } from "./decode.ts";

/** Text by key, and what the object is called in messages. */
export interface ConfigMapObject {
  readonly origin: string;
  readonly data: ReadonlyMap<string, string>;
}

/** What people write into ConfigMaps by hand: numbers and booleans without quotes are taken as their text. */
const scalar = z.union([z.string(), z.number(), z.boolean()]).transform(String);

const schema = z.looseObject({
  metadata,
  data: z
    .record(z.string(), scalar)
    .nullish()
    .transform((value) => value ?? {}),
});

/** @throws Fault OBJECT_INVALID */
export function decodeConfigMap(object: ApiObject): ConfigMapObject {
  const map = decodeObject(schema, object, "ConfigMap");
  return { origin: describe(object, "ConfigMap"), data: new Map(Object.entries(map.data)) };
}
