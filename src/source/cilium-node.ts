// SPDX-License-Identifier: Apache-2.0
// CiliumNode (cilium.io/v2): what this agent tells other agents and people of its node.
import { formatPrefix } from "../base/prefix.ts";
import type { NodeSpec } from "../engine/route/spec.ts";

/** Path of the object, and the object. */
export function encodeCiliumNode(node: NodeSpec): { path: string; collection: string; object: object } {
  const collection = "/apis/cilium.io/v2/ciliumnodes";
  return {
    collection,
    path: `${collection}/${encodeURIComponent(node.name)}`,
    object: {
      apiVersion: "cilium.io/v2",
      kind: "CiliumNode",
      metadata: { name: node.name },
      spec: {
        addresses: [
          ...node.internalAddresses.map((ip) => ({ type: "InternalIP", ip })),
          ...node.otherAddresses.map((ip) => ({ type: "ExternalIP", ip })),
        ],
        ipam: { podCIDRs: node.podCidrs.map(formatPrefix) },
      },
    },
  };
}
