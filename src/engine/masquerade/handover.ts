// SPDX-License-Identifier: Apache-2.0
// A connection that netfilter has translated, as a record of the flow table and its index entry, so that it goes on with
// its translation when the programs take over. Pure.
import type { Connection } from "../../kernel/netlink/conntrack.ts";
import type { Flow, FlowKey, Reply } from "../../maps/gen/types.ts";
import { FlowState, MasqueradeRule } from "../../maps/gen/verdict.ts";

/** Ticks that a flow may be idle, as the programs count it. */
export interface FlowTimeouts {
  readonly timeoutTcp: number;
  readonly timeoutTcpSyn: number;
  readonly timeoutAny: number;
}

/** The pod that opened the connection. */
export interface FlowOwner {
  readonly id: number;
  readonly identity: number;
}

/** What stands in `flows` and in `replies` for one flow. */
export interface FlowEntries {
  readonly key: FlowKey;
  readonly flow: Flow;
  readonly replyKey: FlowKey;
  readonly reply: Reply;
}

const TCP = 6;
const UDP = 17;
const ICMP = 1;
const ICMPV6 = 58;
/** enum tcp_conntrack: from TIME_WAIT on there is nothing to go on with. */
const TCP_TIME_WAIT = 7;

/** Records can stand for these protocols only. */
const PROTOCOLS: readonly number[] = [TCP, UDP, ICMP, ICMPV6];

/** Both entries, or undefined for what the programs would not have translated so, or what is over. */
export function flowEntries(
  connection: Connection,
  owner: FlowOwner,
  { now, timeouts }: { now: number; timeouts: FlowTimeouts },
): FlowEntries | undefined {
  const { original, reply, answered, tcpState } = connection;
  const { proto } = original;
  if (!connection.sourceTranslated || connection.destinationTranslated) return undefined;
  if (!PROTOCOLS.includes(proto) || (proto === TCP && tcpState >= TCP_TIME_WAIT)) return undefined;
  const echo = proto === ICMP || proto === ICMPV6;
  const key: FlowKey = {
    saddr: original.source,
    daddr: original.destination,
    // For an echo the identifier stands where the opener's port does.
    sport: echo ? original.id : original.sourcePort,
    dport: echo ? 0 : original.destinationPort,
    proto,
  };
  const xsport = echo ? reply.id : reply.destinationPort;
  const tcpIdle = answered ? timeouts.timeoutTcp : timeouts.timeoutTcpSyn;
  return {
    key,
    flow: {
      xsaddr: reply.destination,
      xdaddr: key.daddr,
      xsport,
      xdport: key.dport,
      // 0 means that somebody is ending the record.
      expires: (now + (proto === TCP ? tcpIdle : timeouts.timeoutAny)) >>> 0 || 1,
      created: now,
      endpoint: owner.id,
      proxyPort: 0,
      service: 0,
      state: FlowState.FLOW_XSOURCE | (answered ? FlowState.FLOW_REPLIED : 0),
      rule: MasqueradeRule.MASQ_POD,
      identity: owner.identity,
    },
    replyKey: { saddr: key.daddr, daddr: reply.destination, sport: key.dport, dport: xsport, proto },
    reply: { saddr: key.saddr, sport: key.sport, service: 0, claim: now },
  };
}
