// SPDX-License-Identifier: Apache-2.0
// What the kernel says about the node's own network, as engines need it: links with their addresses, and where packets
// leave by default. Read by the agent through netlink; pure plans take it as an argument.
import type { Address } from "../../base/addr.ts";
import type { Prefix } from "../../base/prefix.ts";

/** One address of a link. `scope` is the kernel's: global, site, link or host. */
export interface LinkAddress {
  readonly address: Address;
  /** Bits of the subnet. */
  readonly length: number;
  readonly scope: "global" | "site" | "link" | "host";
  /** A further address of the same subnet, a temporary or a deprecated one: never chosen for masquerading. */
  readonly secondary: boolean;
}

/** One network device of the node. */
export interface Link {
  readonly ifindex: number;
  readonly name: string;
  readonly mac: string;
  readonly mtu: number;
  readonly up: boolean;
  readonly loopback: boolean;
  /** No link header: tun, WireGuard. */
  readonly layer3: boolean;
  /** Index of the bridge or bond that it is a port of, 0 if none. */
  readonly master: number;
  readonly addresses: readonly LinkAddress[];
  /** Addresses that are still checked for duplicates (RFC 4862 5.4): not usable yet. */
  readonly tentative: readonly Address[];
}

/** One route of the main table. */
export interface RouteFact {
  readonly destination: Prefix;
  readonly gateway?: Address;
  readonly ifindex: number;
  /** Written by this project for nodes: by a gateway or unreachable, with our protocol number. */
  readonly ours: boolean;
  readonly unreachable: boolean;
}

/** A route of the main table that names the source address of what takes it. */
export interface SourceRouteFact {
  readonly destination: Prefix;
  readonly ifindex: number;
  readonly source: Address;
}

export interface NetworkFacts {
  readonly links: readonly Link[];
  readonly routes: readonly RouteFact[];
  /** Routing rules ask for a packet's source or the device that it came in by, so pods' packets may go other ways than the node's. */
  readonly rulesBySource: boolean;
  /** A routing rule, or the choice among several next hops, asks for a packet's source port. */
  readonly routesBySourcePort: boolean;
  readonly sourceRoutes?: readonly SourceRouteFact[];
}
