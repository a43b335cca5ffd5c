// SPDX-License-Identifier: Apache-2.0
// Flows that are ended by hand, record by record: from alive to dead, from dead to gone, in whichever table they lie, with their
// index entries and all counts; and which are left alone. Many at once, beside packets and a growth: flush-race.test.ts.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { MAPS } from "../../src/maps/gen/maps.ts";
import type { Flow, FlowKey, Reply } from "../../src/maps/gen/types.ts";
import { ALL_ON } from "../support/datapath.ts";
import { hold } from "../support/held-ports.ts";
import { MOVING, openKept, TAKEN, TOUCHED } from "../support/opened-flow.ts";
import { ENDPOINT_A, ENDPOINT_B, INTERNET, NODE, POD_B } from "../support/packet-node.ts";
import { type Bench, reset, send } from "../support/packet-rows.ts";
import {
  FAMILIES,
  type Family,
  forAll,
  fromNet,
  fromPodB,
  Rig,
  TCP,
  type Transport,
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

function answers(family: Family, transport: Transport, port = PORT): boolean {
  bench.datapath.forget();
  const answer = transport.answer(fromNet(family, INTERNET, NODE), port, family).bytes();
  return bench.datapath.run("from_net", answer, { ifindex: bench.devices.eth0 }).verdict === "redirect";
}

function records(): [FlowKey, Flow][] {
  return [...bench.datapath.flows.entries(), ...(bench.datapath.draining?.flows.entries() ?? [])];
}

function entries(): [FlowKey, Reply][] {
  return [...bench.datapath.replies.entries(), ...(bench.datapath.draining?.replies.entries() ?? [])];
}

const keys = (): FlowKey[] => records().map(([key]) => key);

/** Records, entries, the count of all records, pod a's, pod b's. */
function counts(): unknown[] {
  const owners = bench.datapath.table(MAPS.owners);
  return [
    records().length,
    entries().length,
    bench.datapath.table(MAPS.table_use).get(0),
    owners.get(ENDPOINT_A)?.flows,
    owners.get(ENDPOINT_B)?.flows,
  ];
}

for (const grown of [false, true]) {
  test(`flows of all kinds end, then go, ${grown ? "from the table that is being drained" : "with their entries"}`, () => {
    const kinds = forAll((family, transport) => ({ family, transport }));
    for (const { family, transport } of kinds) openOne(family, transport);
    if (grown) bench.datapath.grow(SIZE);
    const n = kinds.length;
    assert.deepEqual(counts(), [n, n, BigInt(n), n, 0]);
    const all = keys();
    assert.deepEqual(bench.datapath.flush(all), { ended: n, removed: 0 });
    assert.deepEqual(counts(), [n, n, BigInt(n), n, 0], "a packet may be at work on them");
    for (const { family, transport } of kinds) assert.equal(answers(family, transport), false);
    assert.deepEqual(bench.datapath.flush(all), { ended: 0, removed: n });
    assert.deepEqual(counts(), [0, 0, 0n, 0, 0]);
    assert.deepEqual(bench.datapath.flush(all), { ended: 0, removed: 0 });
  });
}

test("only what is named ends", () => {
  for (const f of FAMILIES) for (const port of [PORT, PORT + 1]) openOne(f, TCP, port);
  const named = keys().filter(({ sport }) => sport === PORT);
  for (const _ of ["dead", "gone"]) bench.datapath.flush(named);
  assert.deepEqual(counts(), [2, 2, 2n, 2, 0]);
  for (const f of FAMILIES) {
    assert.equal(answers(f, TCP), false);
    assert.equal(answers(f, TCP, PORT + 1), true);
  }
});

test("a flow that was opened later stays, also one that was opened again while it was dead", () => {
  for (const f of FAMILIES) openOne(f, UDP);
  const opened = records().map(([, { created }]) => created);
  const [earliest, latest] = [Math.min(...opened), Math.max(...opened)];
  const all = keys();
  assert.deepEqual(bench.datapath.flush(all, earliest - 1), { ended: 0, removed: 0 });
  assert.deepEqual(bench.datapath.flush(all, latest), { ended: 2, removed: 0 });
  for (const f of FAMILIES) openOne(f, UDP);
  assert.deepEqual(bench.datapath.flush(all, earliest - 1), { ended: 0, removed: 0 }, "alive again");
  for (const f of FAMILIES) assert.equal(answers(f, UDP), true);
  assert.deepEqual(counts(), [2, 2, 2n, 2, 0]);
});

test("the port of an ended flow is free at once, before it is gone; its next owner is not touched", () => {
  for (const f of FAMILIES) openOne(f, UDP);
  const all = keys();
  bench.datapath.flush(all);
  for (const f of FAMILIES) {
    bench.datapath.forget();
    assert.equal(send(bench, "from_pod", "hlb", UDP.open(fromPodB(f, POD_B, INTERNET), PORT, f)), "redirect");
  }
  assert.deepEqual(
    records().map(([, flow]) => [flow.endpoint, flow.xsport]),
    FAMILIES.map(() => [ENDPOINT_B, PORT]),
  );
  assert.deepEqual(bench.datapath.flush(all), { ended: 0, removed: 0 });
  assert.deepEqual(counts(), [2, 2, 2n, 0, 2]);
});

for (const [what, expires] of Object.entries({
  taken: TAKEN,
  "being moved": MOVING,
  "being moved, and asked for": TOUCHED,
})) {
  test(`a record that is ${what} at that moment is left to whom it is held by`, () => {
    for (const f of FAMILIES) openOne(f, TCP);
    for (const [key, flow] of records()) bench.datapath.flows.set(key, { ...flow, expires });
    assert.deepEqual(bench.datapath.flush(keys()), { ended: 0, removed: 0 });
    assert.ok(records().every(([, flow]) => flow.expires === expires));
    assert.deepEqual(counts(), [2, 2, 2n, 2, 0]);
  });
}

test("of a record in the midst of its move the copy ends", () => {
  for (const f of FAMILIES) openOne(f, TCP);
  bench.datapath.grow(SIZE);
  const { draining, flows } = bench.datapath;
  for (const [key, flow] of draining?.flows.entries() ?? []) {
    flows.set(key, flow);
    draining?.flows.set(key, { ...flow, expires: MOVING });
  }
  assert.deepEqual(bench.datapath.flush(flows.entries().map(([key]) => key)), { ended: 2, removed: 0 });
  assert.ok(draining?.flows.entries().every(([, flow]) => flow.expires === MOVING));
});

for (const family of FAMILIES) {
  test(`IPv${family}: towards an endpoint that was out of ports the next flow gets the one that was freed`, () => {
    const range = { portMin: 40_000, portMax: 40_999 };
    const crowded = rig.load({ ...ALL_ON, ...range }, 4096);
    reset(crowded);
    const { datapath } = crowded;
    for (let port = range.portMin; port <= range.portMax; port++)
      hold({ datapath, family, transport: UDP }, port);
    const open = (sport: number) =>
      send(crowded, "from_pod", "hlb", UDP.open(fromPodB(family, POD_B, INTERNET), sport, family));
    assert.equal(open(1), "drop");
    assert.equal(open(2), "drop", "and now it is known that there is none");
    const middle = datapath.flows.entries().filter(([key]) => key.sport === 40_500);
    assert.deepEqual(datapath.flush(middle.map(([key]) => key)), { ended: 1, removed: 0 });
    assert.equal(open(3), "redirect");
    assert.equal(open(4), "drop");
  });
}
