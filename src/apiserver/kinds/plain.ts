// SPDX-License-Identifier: Apache-2.0
// The kinds that are mostly data: Namespace, ConfigMap, Secret, ServiceAccount, Event, Lease.
import { type FieldError, forbiddenValue, invalidValue } from "../faults.ts";
import { isObject, type JsonObject, type KubeObject, listAt, own, step, textAt } from "../json.ts";
import { dataKey, labelName } from "../names.ts";
import { AGE, column, NAME } from "../table/columns.ts";
import { age } from "../table/duration.ts";
import type { Kind } from "./kind.ts";

function count(object: KubeObject, ...fields: string[]): number {
  return fields.reduce((sum, field) => sum + Object.keys((own(object, field) as JsonObject) ?? {}).length, 0);
}

export const NAMESPACE: Kind = {
  group: "",
  version: "v1",
  kind: "Namespace",
  plural: "namespaces",
  singular: "namespace",
  shortNames: ["ns"],
  namespaced: false,
  model: "V1Namespace",
  description: "Namespace is a scope for names.",
  status: true,
  statusOnCreate: true,
  fields: ["status.phase"],
  name: labelName,
  columns: [NAME, column("Status", (n) => textAt(n, "status", "phase")), AGE],
  prepare(namespace) {
    const { metadata } = namespace;
    metadata.labels = { ...metadata.labels, "kubernetes.io/metadata.name": metadata.name };
    namespace.status = { phase: metadata.deletionTimestamp ? "Terminating" : "Active" };
    return undefined;
  },
};

const BASE64 = /^[A-Za-z0-9+/\s]*={0,2}\s*$/;

/** Keys of a ConfigMap or Secret, that binary values are base64, and that immutable ones stay as they are. */
function dataErrors(object: KubeObject, old: KubeObject | undefined, binary: string): FieldError[] {
  const errors: FieldError[] = [];
  for (const field of ["data", "binaryData"]) {
    const data = own(object, field);
    for (const [key, value] of Object.entries(isObject(data) ? data : {})) {
      const why = dataKey(key);
      if (why) errors.push(invalidValue(step(field, key), key, why));
      if (field === binary && !BASE64.test(String(value))) {
        errors.push(invalidValue(step(field, key), "<value>", "is not base64"));
      }
    }
  }
  if (own(old, "immutable") === true) {
    for (const field of ["data", "binaryData", "immutable"]) {
      if (JSON.stringify(own(object, field)) !== JSON.stringify(own(old, field))) {
        errors.push(forbiddenValue(field, "the object is immutable"));
      }
    }
  }
  return errors.slice(0, 20);
}

export const CONFIG_MAP: Kind = {
  group: "",
  version: "v1",
  kind: "ConfigMap",
  plural: "configmaps",
  singular: "configmap",
  shortNames: ["cm"],
  namespaced: true,
  model: "V1ConfigMap",
  description: "ConfigMap holds configuration as keys and texts.",
  columns: [NAME, column("Data", (o) => count(o, "data", "binaryData"), { type: "integer" }), AGE],
  validate: (object, old) => dataErrors(object, old, "binaryData"),
};

export const SECRET: Kind = {
  group: "",
  version: "v1",
  kind: "Secret",
  plural: "secrets",
  singular: "secret",
  namespaced: true,
  model: "V1Secret",
  description: "Secret holds confidential data as keys and base64 values.",
  fields: ["type"],
  columns: [
    NAME,
    column("Type", (o) => textAt(o, "type")),
    column("Data", (o) => count(o, "data"), { type: "integer" }),
    AGE,
  ],
  prepare(secret) {
    secret.type ??= "Opaque";
    const texts = own(secret, "stringData");
    if (isObject(texts)) {
      const data = (isObject(secret.data) ? secret.data : {}) as JsonObject;
      for (const [key, text] of Object.entries(texts))
        data[key] = Buffer.from(String(text)).toString("base64");
      secret.data = data;
      delete secret.stringData;
    }
    return undefined;
  },
  validate: (object, old) => dataErrors(object, old, "data"),
};

export const SERVICE_ACCOUNT: Kind = {
  group: "",
  version: "v1",
  kind: "ServiceAccount",
  plural: "serviceaccounts",
  singular: "serviceaccount",
  shortNames: ["sa"],
  namespaced: true,
  model: "V1ServiceAccount",
  description: "ServiceAccount is the identity that pods run under.",
  columns: [NAME, column("Secrets", (o) => listAt(o, "secrets").length, { type: "integer" }), AGE],
};

const lastSeen = (event: KubeObject) =>
  textAt(event, "series", "lastObservedTime") ||
  textAt(event, "lastTimestamp") ||
  textAt(event, "eventTime") ||
  event.metadata.creationTimestamp;

export const EVENT: Kind = {
  group: "",
  version: "v1",
  kind: "Event",
  plural: "events",
  singular: "event",
  shortNames: ["ev"],
  namespaced: true,
  model: "CoreV1Event",
  description: "Event is a report of something that happened to another object.",
  fields: [
    ...["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"].map(
      (f) => `involvedObject.${f}`,
    ),
    "reason",
    "reportingComponent",
    "source",
    "type",
  ],
  columns: [
    column("Last Seen", (e, now) => age(lastSeen(e), now)),
    column("Type", (e) => textAt(e, "type")),
    column("Reason", (e) => textAt(e, "reason")),
    column(
      "Object",
      (e) => `${textAt(e, "involvedObject", "kind").toLowerCase()}/${textAt(e, "involvedObject", "name")}`,
    ),
    column("Subobject", (e) => textAt(e, "involvedObject", "fieldPath"), { priority: 1 }),
    column("Source", (e) => textAt(e, "source", "component") || textAt(e, "reportingComponent"), {
      priority: 1,
    }),
    column("Message", (e) => textAt(e, "message").trim()),
    column(
      "First Seen",
      (e, now) => age(textAt(e, "firstTimestamp") || textAt(e, "eventTime") || lastSeen(e), now),
      {
        priority: 1,
      },
    ),
    column("Count", (e) => Number(own(e, "count") ?? 1), { type: "integer", priority: 1 }),
    { ...NAME, priority: 1 },
  ],
};

export const LEASE: Kind = {
  group: "coordination.k8s.io",
  version: "v1",
  kind: "Lease",
  plural: "leases",
  singular: "lease",
  namespaced: true,
  model: "V1Lease",
  description: "Lease says who holds something and until when.",
  columns: [NAME, column("Holder", (l) => textAt(l, "spec", "holderIdentity")), AGE],
};
