// SPDX-License-Identifier: Apache-2.0
// What the ipcache must hold, from the node's own addresses and the cluster's nodes. Pure.
import { type Address, familyOf, NO_ADDRESS } from "../../base/addr.ts";
import { formatPrefix, type Prefix, prefixOf } from "../../base/prefix.ts";
import { type IdentitySpec, type NodeAddresses, ReservedIdentity } from "./spec.ts";

/** One entry of the ipcache, before it is encoded. */
export interface IpcacheEntry {
  readonly prefix: Prefix;
  readonly identity: number;
  /** Address of the node that holds it, NO_ADDRESS for this node. */
  readonly node: Address;
  readonly remoteNode: boolean;
}

const host = (address: Address): Prefix => prefixOf(address, familyOf(address) === 4 ? 32 : 128);

function addNode(node: NodeAddresses, into: Map<string, IpcacheEntry>): void {
  for (const address of [...node.internalAddresses, ...node.otherAddresses]) {
    const reachedBy = node.internalAddresses.find((a) => familyOf(a) === familyOf(address)) ?? address;
    const prefix = host(address);
    const key = formatPrefix(prefix);
    if (into.has(key)) continue;
    into.set(key, { prefix, identity: ReservedIdentity.REMOTE_NODE, node: reachedBy, remoteNode: true });
  }
}

/**
 * Entries by prefix text. This node's addresses win over what another node's object claims, so that no object of the
 * API can make the node a stranger to itself; of two nodes that claim one address, the first by name has it.
 */
export function planIpcache(spec: IdentitySpec): Map<string, IpcacheEntry> {
  const entries = new Map<string, IpcacheEntry>();
  const own = spec.nodes.find((node) => node.name === spec.nodeName);
  const ownAddresses = [
    ...spec.hostAddresses,
    ...(own?.internalAddresses ?? []),
    ...(own?.otherAddresses ?? []),
  ];
  for (const address of ownAddresses) {
    const prefix = host(address);
    entries.set(formatPrefix(prefix), {
      prefix,
      identity: ReservedIdentity.HOST,
      node: NO_ADDRESS,
      remoteNode: false,
    });
  }
  const others = spec.nodes.filter((node) => node.name !== spec.nodeName);
  for (const node of others.sort((a, b) => (a.name < b.name ? -1 : 1))) addNode(node, entries);
  return entries;
}
