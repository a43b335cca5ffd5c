// SPDX-License-Identifier: Apache-2.0
// Counting real maps: records by what the data plane takes them for, also over the wrap of its clock, in steps between
// which others get their turn.
import assert from "node:assert/strict";
import { test } from "node:test";
import { MapType, mapCreate } from "../kernel/bpf.ts";
import { BpfMap } from "../kernel/bpf-map.ts";
import { countEntries, countFlows } from "./fill.ts";
import { MAPS } from "./gen/maps.ts";
import { Table } from "./table.ts";
import { nowTicks } from "./ticks.ts";

function flowTable(maxEntries: number) {
  const { key, value, keySize, valueSize } = MAPS.flows.inner;
  const fd = mapCreate({ name: "hlt_flows", type: MapType.hash, keySize, valueSize, maxEntries });
  return new Table(new BpfMap(fd), { key, value });
}

function put(table: ReturnType<typeof flowTable>, index: number, expires: number): void {
  const saddr = "10.244.1.2";
  const daddr = "198.51.100.10";
  table.set(
    { saddr, daddr, sport: index & 0xffff, dport: index >> 16, proto: 6 },
    {
      ...{ xsaddr: "172.20.0.11", xdaddr: daddr, xsport: 0xffff, xdport: 0xffff, expires: expires >>> 0 },
      ...{
        created: 0xffff_ffff,
        endpoint: 0xffff,
        proxyPort: 0,
        service: 0,
        state: 33,
        rule: 9,
        identity: 0,
      },
    },
  );
}

test("records: ahead of now live; behind, now, being ended, half the clock away dead", async () => {
  using table = flowTable(16);
  assert.deepEqual(await countFlows(table.map), { live: 0, dead: 0 });
  const now = nowTicks();
  put(table, 0, now + 1000);
  put(table, 1, now + 0x7fff_0000);
  put(table, 2, now - 1000);
  put(table, 3, now);
  put(table, 4, 0);
  put(table, 5, now - 0x7fff_0000);
  assert.deepEqual(await countFlows(table.map), { live: 2, dead: 4 });
  assert.equal(await countEntries(table.map), 6);
});

test("a table of many batches is counted whole, and others get their turn meanwhile", async () => {
  using table = flowTable(20_000);
  const now = nowTicks();
  for (let i = 0; i < 15_000; i++) put(table, i, i % 3 === 0 ? now - 1000 : now + 100_000);
  let turns = 0;
  let counting = true;
  const turn = (): void => {
    turns++;
    if (counting) setImmediate(turn);
  };
  setImmediate(turn);
  assert.deepEqual(await countFlows(table.map), { live: 10_000, dead: 5_000 });
  counting = false;
  assert.ok(turns >= 10, `${turns} turns in some 15 batches`);
});
