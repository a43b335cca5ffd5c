// SPDX-License-Identifier: Apache-2.0
// What may be asked of the identity engine: whose addresses are whose.
import type { Address } from "../../base/addr.ts";

/** Security identities with a fixed number; the numbers are Cilium's. */
export const ReservedIdentity = {
  UNKNOWN: 0,
  HOST: 1,
  WORLD: 2,
  REMOTE_NODE: 6,
  KUBE_APISERVER: 7,
} as const;

export interface IdentitySpec {
  readonly nodeName: string;
  /** Every address of this node's own devices. */
  readonly hostAddresses: readonly Address[];
  readonly nodes: readonly NodeAddresses[];
}

/** A node of the cluster and its addresses; the first of a family is the one that other nodes reach it by. */
export interface NodeAddresses {
  readonly name: string;
  readonly internalAddresses: readonly Address[];
  readonly otherAddresses: readonly Address[];
}
