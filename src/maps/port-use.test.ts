// SPDX-License-Identifier: Apache-2.0
// Records counted by their remote endpoints, and refusals read off the data plane's entries.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CROWD_SIZE,
  FLOW_KEY_SIZE,
  FLOW_SIZE,
  type Flow,
  readCrowd,
  writeFlow,
  writeFlowKey,
} from "./gen/types.ts";
import { FlowState } from "./gen/verdict.ts";
import { blankFlow, PortCounts, portRefusals } from "./port-use.ts";

const NODE = "172.20.0.11";
const NODE6 = "fd00::11";
const XSOURCE = FlowState.FLOW_XSOURCE;

/** Counts one record; `fields` of its translation. */
function add(counts: PortCounts, proto: number, fields: Partial<Flow>): void {
  const key = new DataView(new ArrayBuffer(FLOW_KEY_SIZE + 8));
  const value = new DataView(new ArrayBuffer(FLOW_SIZE + 8));
  writeFlowKey(key, 8, { saddr: "10.0.0.1", daddr: "192.0.2.1", sport: 1, dport: 2, proto });
  writeFlow(value, 8, blankFlow({ state: XSOURCE, ...fields }));
  counts.add(key, 8, value, 8);
}

test("each address of the node, remote address, port and protocol is a range of its own", () => {
  const counts = new PortCounts();
  const remote = { xsaddr: NODE, xdaddr: "198.51.100.10", xdport: 443 };
  for (let port = 0; port < 3; port++) add(counts, 6, { ...remote, xsport: port });
  add(counts, 6, { ...remote, state: 0 });
  add(counts, 17, remote);
  add(counts, 6, { ...remote, xdport: 444 });
  add(counts, 6, { ...remote, xdaddr: "198.51.100.11" });
  add(counts, 6, { ...remote, xsaddr: "172.20.0.12" });
  const six = { xsaddr: NODE6, xdaddr: "2001:db8::10", xdport: 0 };
  for (let id = 0; id < 2; id++) add(counts, 58, { ...six, xsport: id });
  const top = counts.top(2);
  assert.deepEqual(top, [
    { proto: 6, source: NODE, remote: "198.51.100.10", port: 443, held: 3 },
    { proto: 58, source: NODE6, remote: "2001:db8::10", port: 0, held: 2 },
  ]);
  assert.equal(counts.top(100).length, 6);
  assert.equal(counts.fullest(4, 12), 0.25);
  assert.equal(counts.fullest(6, 12), 2 / 65_536, "identifiers have their own range");
});

test("100,000 endpoints: none is taken for another, and the count of a busy one is right", () => {
  const counts = new PortCounts();
  for (let i = 0; i < 100_000; i++) {
    add(counts, 6, { xsaddr: NODE, xdaddr: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, xdport: 443 });
    if (i % 10 === 0) add(counts, 6, { xsaddr: NODE, xdaddr: "198.51.100.10", xdport: 443 });
  }
  const [busy, ...others] = counts.top(100_000);
  assert.equal(busy?.remote, "198.51.100.10");
  assert.equal(busy.held, 10_000);
  assert.ok(others.every(({ held }) => held === 1));
});

test("refusals: the most first, those of nobody left out, a clock that is behind is no future", () => {
  const crowd = readCrowd(new DataView(new ArrayBuffer(CROWD_SIZE)), 0);
  const tuple = { saddr: "198.51.100.10", daddr: NODE, sport: 443, dport: 0, proto: 6 };
  const now = 5;
  const rows = portRefusals(
    [
      [tuple, { ...crowd, refused: 2n, refusedAt: 6 }],
      [
        { ...tuple, sport: 444 },
        { ...crowd, refused: 7n, refusedAt: 0xffff_fff0 },
      ],
      [{ ...tuple, sport: 445 }, crowd],
    ],
    now,
    32,
  );
  assert.deepEqual(
    rows.map(({ port, refused, secondsAgo }) => [port, refused, Math.round(secondsAgo * 1000)]),
    [
      [444, 7, Math.round(21 * 16.777216)],
      [443, 2, 0],
    ],
  );
});
