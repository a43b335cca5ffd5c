// SPDX-License-Identifier: Apache-2.0
// A masqueraded flow of pod a, for tests of what comes later in it. Its port on the node is kept, or one that the test chose, so
// that a translated port cannot be taken for a kept one.
import assert from "node:assert/strict";
import { INTERNET, POD_A } from "./packet-node.ts";
import { type Bench, send } from "./packet-rows.ts";
import { type Family, fromPodA, type Transport } from "./transports.ts";

export interface Opened {
  family: Family;
  transport: Transport;
  /** Pod a's port, and the one that the flow has on the node. */
  port: number;
  xport: number;
  /** The node's stack routes: the flow is opened on the way out. */
  byStack?: boolean;
}

/** Values of struct flow, field expires, that are no time: bpf/stage/record.h. */
export const [TAKEN, MOVING, TOUCHED] = [0, 1, 2];

/** Pod a opens a flow to the internet, under its own port outside too if that is free. */
export function openKept(b: Bench, family: Family, transport: Transport, port: number): void {
  b.datapath.forget();
  const packet = transport.open(fromPodA(family, POD_A, INTERNET), port, family);
  assert.equal(send(b, "from_pod", "hla", packet), "redirect");
}

/** Pod a opens a flow to the internet. */
export function openTranslated(b: Bench, { family, transport, port, xport, byStack }: Opened): void {
  const [hook, device] = byStack ? (["to_net", "eth0"] as const) : (["from_pod", "hla"] as const);
  const first = transport.open(fromPodA(family, POD_A, INTERNET), port, family);
  assert.equal(send(b, hook, device, first), byStack ? "pass" : "redirect");
  const proto = transport.proto[family];
  const key = {
    saddr: POD_A[family],
    daddr: INTERNET[family],
    sport: port,
    dport: transport.servicePort,
    proto,
  };
  const flow = b.datapath.flows.get(key);
  assert.ok(flow, "a flow was opened");
  const reply = { saddr: key.daddr, daddr: flow.xsaddr, sport: flow.xdport, dport: flow.xsport, proto };
  const entry = b.datapath.replies.get(reply);
  assert.ok(entry, "and its index entry");
  b.datapath.flows.set(key, { ...flow, xsport: xport });
  b.datapath.replies.delete(reply);
  b.datapath.replies.set({ ...reply, dport: xport }, entry);
}
