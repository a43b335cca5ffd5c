// SPDX-License-Identifier: Apache-2.0
// Schemas of the built-in kinds, from the field tables of the official client library: complete for every field of the
// API release it was made from, so nothing is written twice. What the library's tables lack (list merge keys, required
// fields, fields that are quantities) stands here, from the Kubernetes API reference.
import type { Definitions, Schema } from "./types.ts";

interface Attribute {
  baseName: string;
  type: string;
  format: string;
}

/** Merge keys of strategic merge patch; "" merges lists of scalars as sets. API reference, "patch merge key". */
const MERGE_KEYS: Record<string, string> = {
  "V1ObjectMeta.ownerReferences": "uid",
  "V1ObjectMeta.finalizers": "",
  "V1PodSpec.containers": "name",
  "V1PodSpec.initContainers": "name",
  "V1PodSpec.ephemeralContainers": "name",
  "V1PodSpec.volumes": "name",
  "V1PodSpec.imagePullSecrets": "name",
  "V1PodSpec.hostAliases": "ip",
  "V1PodSpec.topologySpreadConstraints": "topologyKey",
  "V1PodSpec.resourceClaims": "name",
  "V1PodSpec.schedulingGates": "name",
  "V1Container.ports": "containerPort",
  "V1Container.env": "name",
  "V1Container.volumeMounts": "mountPath",
  "V1Container.volumeDevices": "devicePath",
  "V1EphemeralContainer.ports": "containerPort",
  "V1EphemeralContainer.env": "name",
  "V1EphemeralContainer.volumeMounts": "mountPath",
  "V1EphemeralContainer.volumeDevices": "devicePath",
  "V1PodStatus.conditions": "type",
  "V1PodStatus.podIPs": "ip",
  "V1PodStatus.hostIPs": "ip",
  "V1PodStatus.resourceClaimStatuses": "name",
  "V1NodeSpec.podCIDRs": "",
  "V1NodeStatus.conditions": "type",
  "V1NodeStatus.addresses": "type",
  "V1NamespaceStatus.conditions": "type",
  "V1ServiceSpec.ports": "port",
  "V1ServiceStatus.conditions": "type",
  "V1ServiceAccount.secrets": "name",
};

const REQUIRED: Record<string, string[]> = {
  V1Container: ["name"],
  V1ContainerPort: ["containerPort"],
  V1CustomResourceDefinition: ["spec"],
  V1CustomResourceDefinitionNames: ["kind", "plural"],
  V1CustomResourceDefinitionSpec: ["group", "names", "scope", "versions"],
  V1CustomResourceDefinitionVersion: ["name", "served", "storage"],
  V1CustomResourceColumnDefinition: ["jsonPath", "name", "type"],
  V1Endpoint: ["addresses"],
  V1EndpointSlice: ["addressType"],
  V1EnvVar: ["name"],
  CoreV1Event: ["involvedObject"],
  V1NodeAddress: ["address", "type"],
  V1NodeCondition: ["status", "type"],
  V1OwnerReference: ["apiVersion", "kind", "name", "uid"],
  V1PodCondition: ["status", "type"],
  V1PodSpec: ["containers"],
  V1ServicePort: ["port"],
  V1Taint: ["effect", "key"],
  V1Volume: ["name"],
  V1VolumeMount: ["mountPath", "name"],
};

/** Fields that the tables call strings but that are quantities: numbers are accepted and kept as text. */
const QUANTITIES = new Set([
  "capacity",
  "allocatable",
  "requests",
  "limits",
  "overhead",
  "sizeLimit",
  "divisor",
  "hard",
]);

/** Model name to the name kubectl shows: V1PodSpec and CoreV1Event to io.k8s.PodSpec and io.k8s.Event. */
export function definitionName(model: string): string {
  return `io.k8s.${model.replace(/^(Core|Discovery|Apiextensions)?V\d+/, "")}`;
}

const SCALARS: Record<string, string> = { string: "string", boolean: "boolean" };

function typeSchema(type: string, format: string, seen: (model: string) => void): Schema {
  const list = /^Array<(.+)>$/.exec(type);
  if (list) return { type: "array", items: typeSchema(list[1] as string, format, seen) };
  const map = /^\{ \[key: string\]: (.+); \}$/.exec(type);
  if (map) return { type: "object", additionalProperties: typeSchema(map[1] as string, format, seen) };
  if (Object.hasOwn(SCALARS, type)) return { type: SCALARS[type] as string, ...(format ? { format } : {}) };
  if (type === "number") return { type: format.startsWith("int") ? "integer" : "number", format };
  if (type === "Date" || type === "V1MicroTime") return { type: "string", format: "date-time" };
  if (type === "IntOrString") return { "x-kubernetes-int-or-string": true };
  if (/^[A-Z]/.test(type)) {
    seen(type);
    return { $ref: definitionName(type) };
  }
  return { "x-kubernetes-preserve-unknown-fields": true };
}

type Models = Record<string, { getAttributeTypeMap?: () => Attribute[] | undefined }>;

function modelSchema(model: string, models: Models, seen: (model: string) => void): Schema {
  const properties: Record<string, Schema> = {};
  for (const { baseName, type, format } of models[model]?.getAttributeTypeMap?.() ?? []) {
    const schema = typeSchema(type, format, seen);
    const mergeKey = MERGE_KEYS[`${model}.${baseName}`];
    if (mergeKey !== undefined) {
      schema["x-kubernetes-patch-strategy"] = "merge";
      if (mergeKey) schema["x-kubernetes-patch-merge-key"] = mergeKey;
    }
    if (QUANTITIES.has(baseName)) {
      const quantity: Schema = { type: "string", format: "quantity" };
      if (schema.type === "string") Object.assign(schema, quantity);
      else if (typeof schema.additionalProperties === "object") schema.additionalProperties = quantity;
    }
    properties[baseName] = schema;
  }
  const required = REQUIRED[model];
  return { type: "object", properties, ...(required ? { required } : {}) };
}

let loaded: Promise<Definitions> | undefined;

/**
 * The definitions of all models that the built-in kinds reach (about 200), read once per process. Loading the
 * library's models costs 0.1 to 0.2 s in a process that does not have them yet, hence not at start-up.
 */
export function builtinDefinitions(roots: readonly string[]): Promise<Definitions> {
  loaded ??= import("@kubernetes/client-node/dist/gen/models/ObjectSerializer.js").then((module) => {
    const models = module as unknown as Models;
    const definitions = new Map<string, Schema>();
    const waiting = ["V1ObjectMeta", ...roots];
    const queued = new Set(waiting);
    const seen = (model: string) => {
      if (!queued.has(model)) waiting.push(model);
      queued.add(model);
    };
    for (let model = waiting.pop(); model !== undefined; model = waiting.pop()) {
      definitions.set(definitionName(model), modelSchema(model, models, seen));
    }
    return definitions;
  });
  return loaded;
}

export const METADATA: Schema = { $ref: definitionName("V1ObjectMeta") };
