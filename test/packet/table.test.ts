// SPDX-License-Identifier: Apache-2.0
// The table itself: what the sweep removes and what it leaves, and a table that grows while its flows live on in the old one.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { MAPS } from "../../src/maps/gen/maps.ts";
import type { Flow, FlowKey } from "../../src/maps/gen/types.ts";
import { SweepMode } from "../../src/maps/gen/verdict.ts";
import { longAgo } from "../support/datapath.ts";
import { differences } from "../support/packet-fields.ts";
import { ENDPOINT_B, INTERNET, NODE, POD_A, POD_B, POD_FAR, setLive } from "../support/packet-node.ts";
import { type Bench, reset, send } from "../support/packet-rows.ts";
import { FAMILIES, fromNet, fromPodA, fromPodB, Rig, TCP, toPodA, UDP } from "../support/transports.ts";

const PORT = 46000;
let rig: Rig;
let bench: Bench;
before(() => {
  rig = new Rig();
  bench = rig.load();
});
beforeEach(() => reset(bench));
after(() => rig?.close());

function open(b: Bench, port: number, dst = INTERNET): void {
  for (const f of FAMILIES) {
    assert.equal(send(b, "from_pod", "hla", UDP.open(fromPodA(f, POD_A, dst), port, f)), "redirect");
  }
}

function change(b: Bench, fields: Partial<Flow>, which: (key: FlowKey) => boolean = () => true): void {
  for (const [key, flow] of b.datapath.flows.entries()) {
    if (which(key)) b.datapath.flows.set(key, { ...flow, ...fields });
  }
}

/** Claims so old that no record can be under way. */
function age(b: Bench): void {
  for (const [key, reply] of b.datapath.replies.entries()) {
    b.datapath.replies.set(key, { ...reply, claim: longAgo() });
  }
}

test("the sweep leaves live flows alone", () => {
  open(bench, PORT);
  open(bench, PORT + 1, POD_FAR);
  age(bench);
  const result = bench.datapath.sweep();
  assert.deepEqual(result, { visited: 4n, removed: 0n, repliesRemoved: 0n, masqueraded: 2n });
  assert.equal(bench.datapath.flows.entries().length, 4);
  assert.equal(bench.datapath.replies.entries().length, 2);
});

test("the sweep removes expired records and their index entries", () => {
  open(bench, PORT);
  open(bench, PORT + 1);
  age(bench);
  change(bench, { expires: longAgo() }, (key) => key.sport === PORT);
  const result = bench.datapath.sweep(0);
  assert.deepEqual(result, { visited: 4n, removed: 2n, repliesRemoved: 2n, masqueraded: 2n });
  assert.ok(bench.datapath.flows.entries().every(([key]) => key.sport === PORT + 1));
  assert.ok(bench.datapath.replies.entries().every(([key]) => key.dport === PORT + 1));
});

test("the sweep removes the flows of a pod that is gone, opened by it or towards it", () => {
  open(bench, PORT);
  for (const f of FAMILIES) {
    assert.equal(send(bench, "from_net", "eth0", TCP.open(fromNet(f, POD_FAR, POD_B), PORT, f)), "redirect");
  }
  age(bench);
  setLive(bench.datapath, [ENDPOINT_B]);
  assert.equal(bench.datapath.sweep().removed, 2n);
  setLive(bench.datapath, []);
  assert.equal(bench.datapath.sweep().removed, 2n);
  assert.equal(bench.datapath.replies.entries().length, 0);
});

test("the sweep removes flows under an address that the node has lost, when it is told to", () => {
  open(bench, PORT);
  open(bench, PORT + 1, POD_FAR);
  age(bench);
  assert.equal(bench.datapath.sweep(SweepMode.SWEEP_ADDRESSES).removed, 0n, "the node has it");
  for (const f of FAMILIES) bench.datapath.table(MAPS.node_addrs).delete(NODE[f]);
  assert.equal(bench.datapath.sweep(0).removed, 0n, "nobody asked");
  const result = bench.datapath.sweep(SweepMode.SWEEP_ADDRESSES);
  assert.deepEqual(result, { visited: 4n, removed: 2n, repliesRemoved: 2n, masqueraded: 0n });
});

test("the sweep leaves an index entry alone while its record may be under way", () => {
  open(bench, PORT);
  bench.datapath.flows.clear();
  assert.equal(bench.datapath.sweep().repliesRemoved, 0n);
  age(bench);
  assert.equal(bench.datapath.sweep(0).repliesRemoved, 0n, "a sweep of the records alone");
  assert.equal(bench.datapath.sweep().repliesRemoved, 2n);
});

test("the sweep of an empty table visits nothing", () => {
  assert.deepEqual(bench.datapath.sweep(), { visited: 0n, removed: 0n, repliesRemoved: 0n, masqueraded: 0n });
});

test("flows live on while the table grows", () => {
  const grown = rig.load(undefined, 64);
  grown.restore();
  open(grown, PORT);
  grown.datapath.grow(128);
  for (const f of FAMILIES) {
    const packet = UDP.answer(fromNet(f, INTERNET, NODE), PORT, f).bytes();
    const back = grown.datapath.run("from_net", packet, { ifindex: grown.devices.eth0 });
    assert.equal(back.verdict, "redirect");
    assert.deepEqual(
      differences(UDP.answer(toPodA(f, INTERNET, POD_A, 63), PORT, f).bytes(), back.packet),
      [],
    );
    const more = UDP.more(fromPodA(f, POD_A, INTERNET), PORT, f).bytes();
    const out = grown.datapath.run("from_pod", more, { ifindex: grown.devices.hla });
    assert.deepEqual(differences(UDP.more(fromPodA(f, NODE, INTERNET, 63), PORT, f).bytes(), out.packet), []);
  }
  assert.equal(grown.datapath.flows.entries().length, 0, "known flows stay where they are");
  for (const f of FAMILIES) {
    assert.equal(send(grown, "from_pod", "hlb", UDP.open(fromPodB(f, POD_B, INTERNET), PORT, f)), "redirect");
  }
  const fresh = grown.datapath.flows.entries();
  assert.equal(fresh.length, 2, "new flows go to the new table");
  assert.ok(
    fresh.every(([, flow]) => flow.xsport !== PORT),
    "and take no port of an old one",
  );
  assert.equal(grown.datapath.sweep().visited, 4n, "the sweep sees both");
});
