// SPDX-License-Identifier: Apache-2.0
// Ports that live flows hold towards one remote endpoint, written as records and index entries: a whole range is held within
// a second, and pod a, which holds them, never sent a packet.
import type { Flow, FlowKey } from "../../src/maps/gen/types.ts";
import { FlowState, MasqueradeRule } from "../../src/maps/gen/verdict.ts";
import { nowTicks, type TestDatapath } from "./datapath.ts";
import { ENDPOINT_A, INTERNET, NODE, POD_A } from "./packet-node.ts";
import type { Family, Transport } from "./transports.ts";

const TICKS_OF_LIFE = 1_000_000;

/** Towards INTERNET's service port, under the node's address. */
export interface Holding {
  readonly datapath: TestDatapath;
  readonly family: Family;
  readonly transport: Transport;
}

/** The tuple of the replies to a flow of `port`; port 0 stands for the remote endpoint. */
export function repliesTo(family: Family, transport: Transport, port: number): FlowKey {
  return {
    saddr: INTERNET[family],
    daddr: NODE[family],
    sport: transport.servicePort,
    dport: port,
    proto: transport.proto[family],
  };
}

/** Pod a holds `port` by an established flow from the same port. `fields` differ from that. */
export function hold({ datapath, family, transport }: Holding, port: number, fields?: Partial<Flow>): void {
  const now = nowTicks();
  const [daddr, dport, proto] = [INTERNET[family], transport.servicePort, transport.proto[family]];
  datapath.flows.set(
    { saddr: POD_A[family], daddr, sport: port, dport, proto },
    {
      xsaddr: NODE[family],
      xdaddr: daddr,
      xsport: port,
      xdport: dport,
      expires: now + TICKS_OF_LIFE,
      created: now,
      endpoint: ENDPOINT_A,
      proxyPort: 0,
      service: 0,
      state: FlowState.FLOW_XSOURCE | FlowState.FLOW_REPLIED,
      rule: MasqueradeRule.MASQ_POD,
      identity: 0,
      ...fields,
    },
  );
  datapath.replies.set(repliesTo(family, transport, port), {
    saddr: POD_A[family],
    sport: port,
    service: 0,
    claim: now - 100,
  });
}
