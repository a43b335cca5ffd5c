// SPDX-License-Identifier: Apache-2.0
// A table that grows, packet by packet: what lies in the smaller one is found before, while and after it is moved, under its
// translation, and the counts of records stay exact. What can happen at the same time on two processors: growth-order.test.ts.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { MAPS } from "../../src/maps/gen/maps.ts";
import type { Flow, FlowKey, Reply } from "../../src/maps/gen/types.ts";
import { FlowState } from "../../src/maps/gen/verdict.ts";
import { longAgo, nowTicks } from "../support/datapath.ts";
import { MOVING, openKept, TAKEN, TOUCHED } from "../support/opened-flow.ts";
import { differences } from "../support/packet-fields.ts";
import { ENDPOINT_A, ENDPOINT_B, INTERNET, NODE, POD_A, POD_B, setLive } from "../support/packet-node.ts";
import { type Bench, send } from "../support/packet-rows.ts";
import {
  type Family,
  forAll,
  fromNet,
  fromPodA,
  fromPodB,
  Rig,
  TCP,
  type Transport,
  toPodA,
  UDP,
} from "../support/transports.ts";

const PORT = 46000;
const SIZE = 64;

let rig: Rig;
let bench: Bench;
before(() => {
  rig = new Rig();
});
beforeEach(() => {
  bench = rig.load(undefined, SIZE);
  bench.restore();
});
after(() => rig?.close());

const openOne = (family: Family, transport: Transport, port = PORT): void =>
  openKept(bench, family, transport, port);

/** Both directions leave and arrive as before. */
function assertGoesOn(family: Family, transport: Transport, port = PORT): void {
  bench.datapath.forget();
  const { eth0, hla } = bench.devices;
  const answer = transport.answer(fromNet(family, INTERNET, NODE), port, family).bytes();
  const back = bench.datapath.run("from_net", answer, { ifindex: eth0 });
  assert.equal(back.verdict, "redirect", `${family} ${transport.name} back`);
  const inPod = transport.answer(toPodA(family, INTERNET, POD_A, 63), port, family).bytes();
  assert.deepEqual(differences(inPod, back.packet), []);
  const more = transport.more(fromPodA(family, POD_A, INTERNET), port, family).bytes();
  const out = bench.datapath.run("from_pod", more, { ifindex: hla });
  assert.equal(out.verdict, "redirect", `${family} ${transport.name} out`);
  const outside = transport.more(fromPodA(family, NODE, INTERNET, 63), port, family).bytes();
  assert.deepEqual(differences(outside, out.packet), []);
}

function records(): [FlowKey, Flow][] {
  return [...bench.datapath.flows.entries(), ...(bench.datapath.draining?.flows.entries() ?? [])];
}

function entries(): [FlowKey, Reply][] {
  return [...bench.datapath.replies.entries(), ...(bench.datapath.draining?.replies.entries() ?? [])];
}

/** Counts of records: all, pod a's, pod b's. */
function counts(): [bigint | undefined, number | undefined, number | undefined] {
  const owners = bench.datapath.table(MAPS.owners);
  return [
    bench.datapath.table(MAPS.table_use).get(0),
    owners.get(ENDPOINT_A)?.flows,
    owners.get(ENDPOINT_B)?.flows,
  ];
}

function change(fields: Partial<Flow>): void {
  const table = bench.datapath.draining?.flows ?? bench.datapath.flows;
  for (const [key, flow] of table.entries()) table.set(key, { ...flow, ...fields });
}

test("each flow is moved with its entry, and goes on at every step", () => {
  const kinds = forAll((family, transport) => ({ family, transport }));
  for (const { family, transport } of kinds) openOne(family, transport);
  const before = new Map(records().map(([key, flow]) => [JSON.stringify(key), flow.xsport]));
  bench.datapath.grow(4 * SIZE);
  for (let left = kinds.length; left >= 0; left--) {
    assert.equal(bench.datapath.draining?.flows.entries().length, left);
    assert.equal(bench.datapath.draining?.replies.entries().length, left);
    assert.equal(bench.datapath.flows.entries().length, kinds.length - left);
    assert.equal(bench.datapath.replies.entries().length, kinds.length - left);
    for (const { family, transport } of kinds) assertGoesOn(family, transport);
    const step = bench.datapath.move(1);
    assert.deepEqual([step.moved, step.removed], [left > 0 ? 1n : 0n, 0n]);
    assert.equal(step.left > 0n, left > 1, "more is left as long as there is");
  }
  assert.deepEqual(new Map(records().map(([key, flow]) => [JSON.stringify(key), flow.xsport])), before);
  assert.deepEqual(counts(), [BigInt(kinds.length), kinds.length, 0]);
});

test("a moved record has the state and the time that it had", () => {
  for (const f of [4, 6] as const) openOne(f, TCP);
  const expires = nowTicks() + 100_000;
  change({ state: FlowState.FLOW_XSOURCE | FlowState.FLOW_REPLIED | FlowState.FLOW_OPENER_FIN, expires });
  const wanted = records();
  bench.datapath.grow(SIZE);
  bench.datapath.move();
  const byKey = (a: [FlowKey, Flow], b: [FlowKey, Flow]) => (a[0].saddr < b[0].saddr ? -1 : 1);
  assert.deepEqual(bench.datapath.flows.entries().sort(byKey), wanted.sort(byKey));
});

test("dead records are not moved but removed, with their entries", () => {
  for (const f of [4, 6] as const) openOne(f, UDP);
  change({ expires: longAgo() });
  for (const f of [4, 6] as const) openOne(f, TCP);
  bench.datapath.grow(SIZE);
  assert.deepEqual(bench.datapath.move(), { moved: 2n, removed: 2n, repliesRemoved: 2n, left: 0n });
  assert.ok(records().every(([key]) => key.proto === 6));
  assert.equal(entries().length, 2);
  assert.deepEqual(counts(), [2n, 2, 0]);
});

test("records of a pod that is gone are not moved but removed", () => {
  for (const f of [4, 6] as const) openOne(f, TCP);
  setLive(bench.datapath, [ENDPOINT_B]);
  bench.datapath.grow(SIZE);
  assert.deepEqual(bench.datapath.move(), { moved: 0n, removed: 2n, repliesRemoved: 2n, left: 0n });
  assert.deepEqual(counts(), [0n, 0, 0]);
});

test("a port claimed before the exchange whose record was made after it: the entry is moved", () => {
  for (const f of [4, 6] as const) openOne(f, TCP);
  bench.datapath.grow(SIZE);
  const { draining, flows } = bench.datapath;
  for (const [key, flow] of draining?.flows.entries() ?? []) flows.set(key, flow);
  draining?.flows.clear();
  for (const f of [4, 6] as const) assertGoesOn(f, TCP);
  assert.deepEqual(bench.datapath.move(), { moved: 2n, removed: 0n, repliesRemoved: 0n, left: 0n });
  assert.equal(draining?.replies.entries().length, 0);
  for (const f of [4, 6] as const) assertGoesOn(f, TCP);
});

test("an entry that has no record at all is removed", () => {
  for (const f of [4, 6] as const) openOne(f, TCP);
  bench.datapath.grow(SIZE);
  bench.datapath.draining?.flows.clear();
  assert.deepEqual(bench.datapath.move(), { moved: 0n, removed: 0n, repliesRemoved: 2n, left: 0n });
});

test("packets use a record that is being moved, and ask for its refreshment", () => {
  for (const f of [4, 6] as const) openOne(f, TCP);
  bench.datapath.grow(SIZE);
  change({ expires: MOVING });
  for (const f of [4, 6] as const) assertGoesOn(f, TCP);
  assert.ok(records().every(([, flow]) => flow.expires === TOUCHED));
  bench.datapath.sweep();
  assert.equal(records().length, 2, "and nobody ends it");
});

test("a packet that finds the old record moved away finds the new one", () => {
  for (const f of [4, 6] as const) openOne(f, TCP);
  bench.datapath.grow(SIZE);
  const { draining, flows } = bench.datapath;
  for (const [key, flow] of draining?.flows.entries() ?? []) flows.set(key, flow);
  change({ expires: TAKEN });
  for (const f of [4, 6] as const) assertGoesOn(f, TCP);
});

test("the port of a dead flow of the smaller table is taken over", () => {
  for (const f of [4, 6] as const) openOne(f, UDP);
  bench.datapath.grow(SIZE);
  change({ expires: longAgo() });
  for (const f of [4, 6] as const) {
    bench.datapath.forget();
    const packet = UDP.open(fromPodB(f, POD_B, INTERNET), PORT, f);
    assert.equal(send(bench, "from_pod", "hlb", packet), "redirect");
  }
  assert.deepEqual(
    records().map(([, flow]) => [flow.endpoint, flow.xsport]),
    [
      [ENDPOINT_B, PORT],
      [ENDPOINT_B, PORT],
    ],
  );
  assert.equal(entries().length, 2);
  assert.deepEqual(counts(), [2n, 0, 2]);
});

test("a record is counted once for its owner, whoever makes, takes over, reopens or removes it", () => {
  for (const f of [4, 6] as const) openOne(f, UDP);
  assert.deepEqual(counts(), [2n, 2, 0]);
  change({ expires: longAgo() });
  for (const f of [4, 6] as const) openOne(f, UDP);
  assert.deepEqual(counts(), [2n, 2, 0], "reopened");
  change({ expires: longAgo(), endpoint: ENDPOINT_B });
  bench.datapath.table(MAPS.owners).set(ENDPOINT_A, { flows: 0, refused: 0 });
  bench.datapath.table(MAPS.owners).set(ENDPOINT_B, { flows: 2, refused: 0 });
  for (const f of [4, 6] as const) openOne(f, UDP);
  assert.deepEqual(counts(), [2n, 2, 0], "reopened by another pod, which has the address now");
  change({ expires: longAgo() });
  assert.equal(bench.datapath.sweep().removed, 2n);
  assert.deepEqual(counts(), [0n, 0, 0]);
});
