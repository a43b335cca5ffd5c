// SPDX-License-Identifier: Apache-2.0
// Request bodies in Kubernetes' protobuf form, for the kinds that newer kubectl writes that way (`kubectl create
// namespace|configmap|secret|serviceaccount|service` and DeleteOptions). Field numbers are those of the published
// generated.proto files; an envelope of "k8s\0" and runtime.Unknown holds the kind and the message.
import { faults } from "../faults.ts";
import type { JsonObject } from "../json.ts";

export const PROTOBUF = "application/vnd.kubernetes.protobuf";

type Type = "text" | "bytes" | "number" | "flag" | "time" | "intOrString" | Message;
/** `*` repeats, `{}` is a map from text; the field's own type comes last. */
type Field = [name: string, type: Type, form?: "*" | "{}"];
interface Message {
  [number: number]: Field;
}

const OWNER: Message = {
  1: ["kind", "text"],
  3: ["name", "text"],
  4: ["uid", "text"],
  5: ["apiVersion", "text"],
  6: ["controller", "flag"],
  7: ["blockOwnerDeletion", "flag"],
};

const METADATA: Message = {
  1: ["name", "text"],
  2: ["generateName", "text"],
  3: ["namespace", "text"],
  5: ["uid", "text"],
  6: ["resourceVersion", "text"],
  8: ["creationTimestamp", "time"],
  9: ["deletionTimestamp", "time"],
  11: ["labels", "text", "{}"],
  12: ["annotations", "text", "{}"],
  13: ["ownerReferences", OWNER, "*"],
  14: ["finalizers", "text", "*"],
};

const REFERENCE: Message = { 1: ["kind", "text"], 2: ["namespace", "text"], 3: ["name", "text"] };

const PORT: Message = {
  1: ["name", "text"],
  2: ["protocol", "text"],
  3: ["port", "number"],
  4: ["targetPort", "intOrString"],
  5: ["nodePort", "number"],
  6: ["appProtocol", "text"],
};

const SERVICE: Message = {
  1: ["ports", PORT, "*"],
  2: ["selector", "text", "{}"],
  3: ["clusterIP", "text"],
  4: ["type", "text"],
  5: ["externalIPs", "text", "*"],
  7: ["sessionAffinity", "text"],
  8: ["loadBalancerIP", "text"],
  9: ["loadBalancerSourceRanges", "text", "*"],
  10: ["externalName", "text"],
  11: ["externalTrafficPolicy", "text"],
  12: ["healthCheckNodePort", "number"],
  13: ["publishNotReadyAddresses", "flag"],
  17: ["ipFamilyPolicy", "text"],
  18: ["clusterIPs", "text", "*"],
  19: ["ipFamilies", "text", "*"],
  20: ["allocateLoadBalancerNodePorts", "flag"],
  21: ["loadBalancerClass", "text"],
  22: ["internalTrafficPolicy", "text"],
  23: ["trafficDistribution", "text"],
};

const KINDS: Record<string, Message> = {
  "v1/Namespace": { 1: ["metadata", METADATA] },
  "v1/ConfigMap": {
    1: ["metadata", METADATA],
    2: ["data", "text", "{}"],
    3: ["binaryData", "bytes", "{}"],
    4: ["immutable", "flag"],
  },
  "v1/Secret": {
    1: ["metadata", METADATA],
    2: ["data", "bytes", "{}"],
    3: ["type", "text"],
    4: ["stringData", "text", "{}"],
    5: ["immutable", "flag"],
  },
  "v1/ServiceAccount": {
    1: ["metadata", METADATA],
    2: ["secrets", REFERENCE, "*"],
    3: ["imagePullSecrets", { 1: ["name", "text"] }, "*"],
    4: ["automountServiceAccountToken", "flag"],
  },
  "v1/Service": { 1: ["metadata", METADATA], 2: ["spec", SERVICE] },
  DeleteOptions: {
    1: ["gracePeriodSeconds", "number"],
    2: ["preconditions", { 1: ["uid", "text"], 2: ["resourceVersion", "text"] }],
    3: ["orphanDependents", "flag"],
    4: ["propagationPolicy", "text"],
    5: ["dryRun", "text", "*"],
  },
};

/** Zero values that mean something: those of optional fields. Other zeros are how the encoder writes "absent". */
const KEEPS_ZERO = new Set([
  "gracePeriodSeconds",
  "orphanDependents",
  "immutable",
  "automountServiceAccountToken",
]);

const UNKNOWN: Message = {
  1: ["type", { 1: ["apiVersion", "text"], 2: ["kind", "text"] }],
  2: ["raw", "bytes"],
};

/** Position of the reader in a message; every read is checked against the end. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#at >= this.#bytes.length;
  }

  varint(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) break;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asIntN(64, value);
    }
    throw malformed();
  }

  chunk(): Buffer {
    const length = Number(this.varint());
    if (length < 0 || this.#at + length > this.#bytes.length) throw malformed();
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  skip(wire: number): void {
    if (wire === 0) this.varint();
    else if (wire === 2) this.chunk();
    else if (wire === 1) this.#at += 8;
    else if (wire === 5) this.#at += 4;
    else throw malformed();
  }
}

function malformed() {
  return faults.API_BAD_REQUEST({ why: "the body is not a valid protobuf message" });
}

function scalar(type: Type, reader: Reader): unknown {
  if (type === "number") return Number(reader.varint());
  if (type === "flag") return reader.varint() !== 0n;
  const bytes = reader.chunk();
  if (type === "text") return bytes.toString("utf8");
  if (type === "bytes") return bytes.toString("base64");
  if (type === "time") {
    const { seconds } = message(bytes, { 1: ["seconds", "number"] });
    return typeof seconds === "number" ? new Date(seconds * 1000).toISOString() : undefined;
  }
  if (type === "intOrString") {
    const { kind, number, text } = message(bytes, {
      1: ["kind", "number"],
      2: ["number", "number"],
      3: ["text", "text"],
    });
    return kind === 1 ? text : number;
  }
  return message(bytes, type);
}

const isZero = (value: unknown) =>
  value === "" ||
  value === 0 ||
  value === false ||
  value === undefined ||
  (typeof value === "object" && Object.keys(value as object).length === 0);

function message(bytes: Buffer, fields: Message): JsonObject {
  const out: JsonObject = {};
  const reader = new Reader(bytes);
  while (!reader.done) {
    const tag = Number(reader.varint());
    const field = fields[tag >>> 3];
    if (!field) {
      reader.skip(tag & 7);
      continue;
    }
    const [name, type, form] = field;
    if (((tag & 7) === 0) !== (type === "number" || type === "flag")) throw malformed();
    if (form === "{}") {
      const { key = "", value = "" } = message(reader.chunk(), { 1: ["key", "text"], 2: ["value", type] });
      if (key === "__proto__") throw faults.API_BAD_REQUEST({ why: `a field must not be named "__proto__"` });
      out[name] = { ...(out[name] as JsonObject | undefined), [String(key)]: value };
      continue;
    }
    const value = scalar(type, reader);
    if (form === "*") out[name] = [...((out[name] as unknown[] | undefined) ?? []), value];
    else if (!isZero(value) || KEEPS_ZERO.has(name)) out[name] = value;
  }
  return out;
}

/**
 * The document that a protobuf body means.
 * @throws Fault API_BAD_REQUEST when it cannot be read, API_MEDIA_TYPE for kinds that are taken as JSON only
 */
export function readProtobuf(body: Buffer): JsonObject {
  if (body.subarray(0, 4).toString("latin1") !== "k8s\0") throw malformed();
  const { type, raw } = message(body.subarray(4), UNKNOWN);
  const { apiVersion, kind } = (type ?? {}) as { apiVersion?: string; kind?: string };
  const name = kind === "DeleteOptions" ? kind : `${apiVersion}/${kind}`;
  const fields = Object.hasOwn(KINDS, name) ? KINDS[name] : undefined;
  if (!fields) throw faults.API_MEDIA_TYPE({ type: `${PROTOBUF} of ${name}`, accepted: "application/json" });
  const document = message(Buffer.from(String(raw ?? ""), "base64"), fields);
  return kind === "DeleteOptions" ? document : { apiVersion, kind, ...document };
}
