// SPDX-License-Identifier: Apache-2.0
// Node: the addresses by which a node is reached and the ranges of its pods; and the object that the agent writes for its
// own node where nothing else does (plain Linux, embedded API server).
import { isIP } from "node:net";
import * as z from "zod";
import { type Address, parseAddress } from "../base/addr.ts";
import { formatPrefix, prefixFamily } from "../base/prefix.ts";
import type { NodeSpec } from "../engine/route/spec.ts";
import type { ApiObject } from "./client.ts";
import { decodeObject, listOf, metadata, nameText, prefixText } from "./decode.ts";

/** What is used of a Node. */
export interface NodeObject extends NodeSpec {
  readonly labels: Readonly<Record<string, string>>;
  readonly ready: boolean;
}

const schema = z.looseObject({
  metadata,
  spec: z
    .looseObject({ podCIDR: z.string().optional(), podCIDRs: listOf(prefixText) })
    .nullish()
    .transform((value) => value ?? { podCIDRs: [] }),
  status: z
    .looseObject({
      addresses: listOf(z.looseObject({ type: z.string(), address: z.string() })),
      conditions: listOf(z.looseObject({ type: z.string(), status: z.string() })),
    })
    .nullish()
    .transform((value) => value ?? { addresses: [], conditions: [] }),
});

const MAX_ADDRESSES = 64;

/** @throws Fault OBJECT_INVALID */
export function decodeNode(object: ApiObject): NodeObject {
  const node = decodeObject(schema, object, "Node");
  // Hostname and DNS entries of the list are names; only numbers are addresses.
  const numbers = node.status.addresses.filter((a) => isIP(a.address) !== 0).slice(0, MAX_ADDRESSES);
  const pick = (internal: boolean): Address[] => [
    ...new Set(
      numbers.filter((a) => (a.type === "InternalIP") === internal).map((a) => parseAddress(a.address)),
    ),
  ];
  const { podCIDR, podCIDRs } = node.spec;
  const ranges = podCIDRs.length === 0 && podCIDR ? [prefixText.parse(podCIDR)] : podCIDRs;
  return {
    name: node.metadata.name,
    labels: node.metadata.labels ?? {},
    internalAddresses: pick(true),
    otherAddresses: pick(false),
    podCidrs: ranges,
    ready: node.status.conditions.some((c) => c.type === "Ready" && c.status === "True"),
  };
}

/** Path and object of a Node for a host that nobody else registers. */
export function encodeNode(
  node: NodeSpec,
  version: string,
): { path: string; collection: string; object: object } {
  const collection = "/api/v1/nodes";
  const path = `${collection}/${encodeURIComponent(node.name)}`;
  const podCIDRs = node.podCidrs.map(formatPrefix);
  const first = node.podCidrs.find((cidr) => prefixFamily(cidr) === 4) ?? node.podCidrs[0];
  const object = {
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      name: nameText.parse(node.name),
      labels: { "kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux" },
    },
    spec: { ...(first ? { podCIDR: formatPrefix(first) } : {}), podCIDRs },
    status: {
      addresses: [
        ...node.internalAddresses.map((address) => ({ type: "InternalIP", address })),
        { type: "Hostname", address: node.name },
      ],
      conditions: [
        { type: "Ready", status: "True", reason: "HooklineReady", message: "networking is ready" },
      ],
      nodeInfo: { kubeletVersion: `hookline-${version}` },
    },
  };
  return { collection, path, object };
}
