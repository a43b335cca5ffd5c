// SPDX-License-Identifier: Apache-2.0
// A connection that netfilter has translated, as the flow table would have it, so that it goes on with its translation when
// the programs take over. Pure.
import type { Connection } from "../../kernel/netlink/conntrack.ts";
import type { Adoption } from "../../maps/gen/types.ts";
import { FlowState } from "../../maps/gen/verdict.ts";

/** What the program `adopt` is given. */
export type AdoptedFlow = Omit<Adoption, "adopted">;

/** The pod that opened the connection. */
export interface FlowOwner {
  readonly id: number;
  readonly identity: number;
}

const TCP = 6;
const UDP = 17;
const ICMP = 1;
const ICMPV6 = 58;
/** enum tcp_conntrack: from TIME_WAIT on there is nothing to go on with. */
const TCP_TIME_WAIT = 7;

/** Records can stand for these protocols only. */
const PROTOCOLS: readonly number[] = [TCP, UDP, ICMP, ICMPV6];

/** The flow, or undefined for what the programs would not have translated so, or what is over. */
export function adoptedFlow(connection: Connection, owner: FlowOwner): AdoptedFlow | undefined {
  const { original, reply, answered, tcpState } = connection;
  const { proto } = original;
  if (!connection.sourceTranslated || connection.destinationTranslated) return undefined;
  if (!PROTOCOLS.includes(proto) || (proto === TCP && tcpState >= TCP_TIME_WAIT)) return undefined;
  const echo = proto === ICMP || proto === ICMPV6;
  return {
    key: {
      saddr: original.source,
      daddr: original.destination,
      // For an echo the identifier stands where the opener's port does.
      sport: echo ? original.id : original.sourcePort,
      dport: echo ? 0 : original.destinationPort,
      proto,
    },
    xsaddr: reply.destination,
    xsport: echo ? reply.id : reply.destinationPort,
    endpoint: owner.id,
    identity: owner.identity,
    state: FlowState.FLOW_XSOURCE | (answered ? FlowState.FLOW_REPLIED : 0),
  };
}
