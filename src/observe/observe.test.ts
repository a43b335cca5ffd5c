// SPDX-License-Identifier: Apache-2.0
// Events become flows with texts and names; a slow listener loses flows and is told how many.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { FlowEvent } from "../maps/gen/types.ts";
import { DropReason, EventKind, Hook, MasqueradeRule } from "../maps/gen/verdict.ts";
import { decodeFlow, formatEnd, tcpFlagNames } from "./decode.ts";
import { enrichFlow } from "./enrich.ts";
import { FanOut, FlowQueue } from "./fan-out.ts";

const event: FlowEvent = {
  time: 9_000_000_000n,
  saddr: "10.0.0.2",
  daddr: "198.51.100.10",
  xsaddr: "172.20.0.11",
  xdaddr: "198.51.100.10",
  sport: 40000,
  dport: 80,
  xsport: 40000,
  xdport: 80,
  ifindex: 2,
  identity: 0,
  remoteIdentity: 2,
  ruleArg: 0,
  len: 74,
  endpoint: 7,
  kind: EventKind.EVENT_NEW_FLOW,
  hook: Hook.HOOK_TO_NET,
  reason: 0,
  rule: MasqueradeRule.MASQ_POD,
  proto: 6,
  tcpFlags: 0x12,
};
const clock = { nowNs: 10_000_000_000n, nowMs: Date.parse("2026-01-01T00:00:10Z") };

test("a new flow: time, texts, translation", () => {
  const flow = decodeFlow(event, clock);
  assert.equal(flow.time, "2026-01-01T00:00:09.000Z");
  assert.equal(flow.verdict, "FORWARDED");
  assert.equal(flow.hook, "to_net");
  assert.equal(flow.tcpFlags, "SYN, ACK");
  assert.equal(flow.ruleText, "pod traffic that leaves the cluster: masqueraded");
  assert.deepEqual(flow.translated, { source: "172.20.0.11:40000", destination: "198.51.100.10:80" });
  assert.equal(flow.reasonText, "");
});

test("a flow that keeps its addresses has no translation", () => {
  assert.equal(decodeFlow({ ...event, xsaddr: event.saddr }, clock).translated, undefined);
});

test("a drop: Cilium's code and text", () => {
  const flow = decodeFlow(
    { ...event, kind: EventKind.EVENT_DROP, reason: DropReason.DROP_NAT_NO_MAPPING, xsaddr: "::" },
    clock,
  );
  assert.deepEqual(
    [flow.kind, flow.verdict, flow.reason, flow.reasonText, flow.translated],
    ["drop", "DROPPED", 167, "No mapping for NAT masquerade", undefined],
  );
});

test("names of pods, devices and source lines; a line only for the rules that stand on one", () => {
  const names = {
    ofAddress: (a: string) => (a === "10.0.0.2" ? "default/web" : ""),
    ofDevice: (i: number) => `eth${i}`,
    ofSource: (i: number) => `line ${i}`,
  };
  const masqueraded = enrichFlow(decodeFlow(event, clock), 3, names);
  assert.deepEqual(
    [masqueraded.source.name, masqueraded.device, masqueraded.ruleSource],
    ["default/web", "eth2", ""],
  );
  const kept = decodeFlow({ ...event, rule: MasqueradeRule.MASQ_NONMASQ_CIDR }, clock);
  assert.equal(enrichFlow(kept, 3, names).ruleSource, "line 3");
});

test("ends and flags as text", () => {
  assert.equal(formatEnd("fd00::1", 80), "[fd00::1]:80");
  assert.equal(formatEnd("fd00::1", 0), "fd00::1");
  assert.equal(tcpFlagNames(0), "");
});

test("a slow listener loses what does not fit, is told, and holds up nobody", () => {
  const hub = new FanOut();
  const slow = new FlowQueue(2);
  const quick = new FlowQueue();
  hub.join(slow);
  hub.join(quick);
  for (let i = 0; i < 5; i++) hub.publish(decodeFlow(event, clock));
  hub.lostInKernel(4);
  assert.equal(quick.take().length, 6);
  const items = slow.take();
  assert.deepEqual(items.slice(2), [
    { lost: 3, where: "queue" },
    { lost: 4, where: "kernel" },
  ]);
  assert.deepEqual(slow.take(), []);
  hub.leave(slow);
  assert.equal(hub.clients, 1);
});
