// SPDX-License-Identifier: Apache-2.0
// What address management works from: the node's pod CIDRs, checked and split by family, and who holds which
// addresses. For the plan, which chooses, and the engine, which remembers.
import type { Address, Family } from "../../base/addr.ts";
import { formatPrefix, type Prefix, parsePrefix, prefixContains, prefixFamily } from "../../base/prefix.ts";
import { faults } from "./faults.ts";

/** The CIDRs to give pods' addresses from, each family in the order of the Node object. A family may be empty. */
export interface IpamSpec {
  readonly cidrs: { readonly [family in Family]: readonly Prefix[] };
}

/** One attachment of a container to a network; the triple is the CNI specification's primary key. */
export interface Owner {
  readonly containerId: string;
  readonly ifName: string;
  /** `name` of the CNI network configuration; collection of leaks is per network. */
  readonly network: string;
}

/** What one owner holds: at most one address per family. */
export interface Lease {
  readonly owner: Owner;
  readonly ipv4?: Address;
  readonly ipv6?: Address;
}

/** Text of an owner without the network: one interface of one container is one lease. */
export function ownerKey(owner: Pick<Owner, "containerId" | "ifName">): string {
  return `${owner.containerId}/${owner.ifName}`;
}

/** The addresses of a lease, IPv4 first. */
export function leaseAddresses(lease: Lease): Address[] {
  return [lease.ipv4, lease.ipv6].filter((a) => a !== undefined);
}

/** Offsets of a CIDR that pods may have, both ends included; `last < first` if there is none. */
export interface UsableRange {
  readonly first: bigint;
  readonly last: bigint;
}

/** Not given out: the network address, the first address (the router's), for IPv4 the broadcast address. */
export function usableRange(prefix: Prefix): UsableRange {
  const family = prefixFamily(prefix);
  const size = 1n << BigInt((family === 4 ? 32 : 128) - prefix.length);
  return { first: 2n, last: family === 4 ? size - 2n : size - 1n };
}

/**
 * Reads the node's `spec.podCIDRs`; families that are switched off are left out.
 * @throws Fault PREFIX_SYNTAX, IPAM_CIDR_TOO_SMALL, IPAM_CIDR_OVERLAP
 */
export function ipamSpec(
  podCidrs: readonly string[],
  enabled: { ipv4: boolean; ipv6: boolean } = { ipv4: true, ipv6: true },
): IpamSpec {
  const all: Prefix[] = [];
  for (const text of podCidrs) {
    const prefix = parsePrefix(text);
    const usable = usableRange(prefix);
    if (usable.last < usable.first) throw faults.IPAM_CIDR_TOO_SMALL({ cidr: formatPrefix(prefix) });
    const other = all.find((p) => prefixContains(p, prefix) || prefixContains(prefix, p));
    if (other) throw faults.IPAM_CIDR_OVERLAP({ first: formatPrefix(other), second: formatPrefix(prefix) });
    all.push(prefix);
  }
  return {
    cidrs: {
      4: enabled.ipv4 ? all.filter((p) => prefixFamily(p) === 4) : [],
      6: enabled.ipv6 ? all.filter((p) => prefixFamily(p) === 6) : [],
    },
  };
}
