// SPDX-License-Identifier: Apache-2.0
// The CRDs that the server is born with: the Cilium kinds that agents read and write, from their documented fields. Parts
// whose exact form is Cilium's matter stay open, so that objects from a real cluster load unchanged.
import type { Schema } from "../schema/types.ts";

const text: Schema = { type: "string" };
const flag: Schema = { type: "boolean" };
const count: Schema = { type: "integer", format: "int64" };
const texts: Schema = { type: "array", items: text };
const textMap: Schema = { type: "object", additionalProperties: text };
const open: Schema = { type: "object", "x-kubernetes-preserve-unknown-fields": true };
const object = (properties: Record<string, Schema>, more: Schema = {}): Schema => ({
  type: "object",
  properties,
  ...more,
});
const described = (description: string, schema: Schema): Schema => ({ ...schema, description });

const labelSelector = object({
  matchLabels: textMap,
  matchExpressions: {
    type: "array",
    items: object(
      {
        key: text,
        operator: { type: "string", enum: ["In", "NotIn", "Exists", "DoesNotExist"] },
        values: texts,
      },
      { required: ["key", "operator"] },
    ),
  },
});

interface Definition {
  kind: string;
  plural: string;
  singular: string;
  shortNames: string[];
  scope: "Namespaced" | "Cluster";
  description: string;
  properties: Record<string, Schema>;
  required?: string[];
  /** Has a status subresource. */
  status?: boolean;
  /** Versions served beside v2, with the same schema. */
  olderVersions?: string[];
  columns: [name: string, type: string, jsonPath: string, description: string][];
}

const AGE: Definition["columns"][number] = [
  "Age",
  "date",
  ".metadata.creationTimestamp",
  "Time since creation",
];

const NODE_CONFIG: Definition = {
  kind: "CiliumNodeConfig",
  plural: "ciliumnodeconfigs",
  singular: "ciliumnodeconfig",
  shortNames: [],
  scope: "Namespaced",
  description: "CiliumNodeConfig overrides keys of the cilium-config ConfigMap on the nodes it selects.",
  properties: {
    spec: described(
      "What is overridden, and where.",
      object(
        {
          nodeSelector: described(
            "Nodes concerned: {} means all nodes, no selector means none.",
            labelSelector,
          ),
          defaults: described("Keys and values as in the cilium-config ConfigMap.", textMap),
        },
        { required: ["defaults"] },
      ),
    ),
  },
  required: ["spec"],
  olderVersions: ["v2alpha1"],
  columns: [AGE],
};

const NETWORK_CONFIG: Definition = {
  kind: "CiliumNetworkConfig",
  plural: "ciliumnetworkconfigs",
  singular: "ciliumnetworkconfig",
  shortNames: [],
  scope: "Cluster",
  description: "CiliumNetworkConfig is an alias for keys of the cilium-config ConfigMap, in camel case.",
  properties: {
    spec: described(
      "Keys of the configuration in camel case.",
      object(
        {
          enableBPFMasquerade: described("As enable-bpf-masquerade.", flag),
          enableIPv4Masquerade: described("As enable-ipv4-masquerade.", flag),
          enableIPv6Masquerade: described("As enable-ipv6-masquerade.", flag),
          enableIPMasqAgent: described("As enable-ip-masq-agent.", flag),
          ipv4NativeRoutingCIDR: described("As ipv4-native-routing-cidr.", text),
          ipv6NativeRoutingCIDR: described("As ipv6-native-routing-cidr.", text),
          devices: described("As devices.", texts),
        },
        { "x-kubernetes-preserve-unknown-fields": true },
      ),
    ),
  },
  columns: [["BPF Masquerade", "boolean", ".spec.enableBPFMasquerade", "Masquerading in BPF"], AGE],
};

const NODE: Definition = {
  kind: "CiliumNode",
  plural: "ciliumnodes",
  singular: "ciliumnode",
  shortNames: ["cn", "ciliumn"],
  scope: "Cluster",
  description: "CiliumNode is what an agent tells of its node: addresses and pod CIDRs.",
  properties: {
    spec: described(
      "Facts of the node, written by its agent.",
      object(
        {
          addresses: described("Addresses and what each is for.", {
            type: "array",
            items: object({ ip: text, type: text }),
          }),
          ipam: object(
            { podCIDRs: described("Ranges that the node's pods get addresses from.", texts) },
            { "x-kubernetes-preserve-unknown-fields": true },
          ),
          bootid: text,
          "instance-id": text,
          nodeidentity: count,
          health: open,
          ingress: open,
          encryption: open,
          alibabaCloud: open,
          azure: open,
          eni: open,
        },
        { "x-kubernetes-preserve-unknown-fields": true },
      ),
    ),
    status: open,
  },
  required: ["spec"],
  status: true,
  columns: [
    [
      "CiliumInternalIP",
      "string",
      '.spec.addresses[?(@.type=="CiliumInternalIP")].ip',
      "Address of the agent",
    ],
    ["InternalIP", "string", '.spec.addresses[?(@.type=="InternalIP")].ip', "Address of the node"],
    AGE,
  ],
};

/** No status subresource, as in Cilium: agents create the object with its status. */
const ENDPOINT: Definition = {
  kind: "CiliumEndpoint",
  plural: "ciliumendpoints",
  singular: "ciliumendpoint",
  shortNames: ["cep", "ciliumep"],
  scope: "Namespaced",
  description: "CiliumEndpoint is what an agent tells of one pod: identity, addresses, state.",
  properties: {
    status: described(
      "State of the endpoint, written by its agent.",
      object(
        {
          id: described("Number of the endpoint on its node.", count),
          state: described("waiting-for-identity, regenerating, ready, disconnecting, ...", text),
          identity: object({ id: count, labels: texts }, { "x-kubernetes-preserve-unknown-fields": true }),
          networking: object({
            node: described("Address of the node.", text),
            addressing: { type: "array", items: object({ ipv4: text, ipv6: text }) },
          }),
          "external-identifiers": open,
          encryption: open,
          "named-ports": { type: "array", items: open },
          policy: open,
          health: open,
          log: { type: "array", items: open },
        },
        { "x-kubernetes-preserve-unknown-fields": true },
      ),
    ),
  },
  columns: [
    ["Security Identity", "integer", ".status.identity.id", "Security identity"],
    ["Endpoint State", "string", ".status.state", "State"],
    ["IPv4", "string", ".status.networking.addressing[0].ipv4", "IPv4 address"],
    ["IPv6", "string", ".status.networking.addressing[0].ipv6", "IPv6 address"],
  ],
};

function manifest(d: Definition) {
  const { kind, plural, singular, shortNames, scope, description, properties, columns } = d;
  const schema = object(properties, { description, ...(d.required ? { required: d.required } : {}) });
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.cilium.io` },
    spec: {
      group: "cilium.io",
      names: { kind, plural, singular, listKind: `${kind}List`, shortNames, categories: ["cilium"] },
      scope,
      versions: ["v2", ...(d.olderVersions ?? [])].map((version) => ({
        name: version,
        served: true,
        storage: version === "v2",
        schema: { openAPIV3Schema: schema },
        ...(d.status ? { subresources: { status: {} } } : {}),
        additionalPrinterColumns: columns.map(([name, type, jsonPath, text]) => ({
          name,
          type,
          jsonPath,
          description: text,
        })),
      })),
    },
  };
}

/** CustomResourceDefinition objects, ready to be stored. */
export const CILIUM_CRDS = [NODE_CONFIG, NETWORK_CONFIG, NODE, ENDPOINT].map(manifest);
