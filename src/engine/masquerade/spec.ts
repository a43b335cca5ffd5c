// SPDX-License-Identifier: Apache-2.0
// What may be asked of the masquerade engine: which destinations keep the pod's address, and which ports are not ours.
import type { Prefix } from "../../base/prefix.ts";

/** Where an input stands, for people: `ConfigMap kube-system/ip-masq-agent`, `data.config`, line 3. */
export interface SourceLine {
  readonly origin: string;
  readonly path: string;
  /** Line in the document, from 1; 0 if the input has no lines or is a default. */
  readonly line: number;
}

/** One range of destinations that pods reach under their own address, and who asked for it. */
export interface KeptRange {
  readonly prefix: Prefix;
  readonly source: SourceLine;
}

/** The ip-masq-agent's set: what is in force after defaults and link-local ranges have been put in. */
export interface IpMasqAgentSpec {
  readonly ranges: readonly KeptRange[];
}

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Ports that masquerading must not choose. */
export interface ReservedPortsSpec {
  /** Both TCP and UDP. */
  readonly nodePorts: PortRange;
  /** UDP port of the node's tunnel, 0 none. */
  readonly tunnelPort: number;
  /** Ports that sockets of the node listen on where the data plane does not see them. */
  readonly listening: { readonly tcp: ReadonlySet<number>; readonly udp: ReadonlySet<number> };
}

export interface MasqueradeSpec {
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  /** Native-routing CIDRs; for a family without one, the pod ranges of the cluster's nodes. */
  readonly nativeRanges: readonly KeptRange[];
  /** Undefined if enable-ip-masq-agent is off. */
  readonly ipMasqAgent: IpMasqAgentSpec | undefined;
}
