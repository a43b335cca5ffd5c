// SPDX-License-Identifier: Apache-2.0
// Pod: what the agent wants to know of pods on its node, their labels and whether they are gone.
import * as z from "zod";
import type { ApiObject } from "./client.ts";
import { decodeObject, metadata } from "./decode.ts";

/** What is used of a Pod. */
export interface PodObject {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly hostNetwork: boolean;
}

const schema = z.looseObject({
  metadata,
  spec: z
    .looseObject({ nodeName: z.string().optional(), hostNetwork: z.boolean().optional() })
    .nullish()
    .transform((value) => value ?? {}),
});

/** @throws Fault OBJECT_INVALID */
export function decodePod(object: ApiObject): PodObject {
  const pod = decodeObject(schema, object, "Pod");
  return {
    namespace: pod.metadata.namespace ?? "default",
    name: pod.metadata.name,
    uid: pod.metadata.uid ?? "",
    labels: pod.metadata.labels ?? {},
    hostNetwork: pod.spec.hostNetwork ?? false,
  };
}
