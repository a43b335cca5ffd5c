// SPDX-License-Identifier: Apache-2.0
// What may be asked of the route engine: which nodes there are, which pods they hold, and how they are reached.
import type { Address } from "../../base/addr.ts";
import type { Prefix } from "../../base/prefix.ts";

/** One node of the cluster, as its Node or CiliumNode object says. */
export interface NodeSpec {
  readonly name: string;
  /** InternalIP addresses, in the order of the object: the way to the node. */
  readonly internalAddresses: readonly Address[];
  /** All other addresses that are the node's: ExternalIP and the like. */
  readonly otherAddresses: readonly Address[];
  /** Ranges that the node's pods take their addresses from. */
  readonly podCidrs: readonly Prefix[];
}

export interface RouteSpec {
  /** Name of this node among `nodes`. */
  readonly nodeName: string;
  readonly nodes: readonly NodeSpec[];
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  /** Write a route to every other node's pods by way of its InternalIP. */
  readonly autoDirectNodeRoutes: boolean;
}

/** Which devices carry the programs, and what their masquerade addresses are taken from. */
export interface DeviceSpec {
  /** Names, `eth+` for all that begin with eth; empty: found from the default routes and the node's addresses. */
  readonly patterns: readonly string[];
  readonly nodeAddresses: readonly Address[];
  readonly ipv4: boolean;
  readonly ipv6: boolean;
}
