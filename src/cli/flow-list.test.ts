// SPDX-License-Identifier: Apache-2.0
// The list of flows over several tables: one order, and each record once.
import assert from "node:assert/strict";
import { test } from "node:test";
import { MAPS } from "../maps/gen/maps.ts";
import { FLOW_KEY_SIZE, FLOW_SIZE, type Flow, type FlowKey } from "../maps/gen/types.ts";
import { FlowList } from "./flow-list.ts";

const NOW = 1_000_000;
const row = MAPS.flows.inner;
type Source = ConstructorParameters<typeof FlowList>[0];

/** A table with one record for each source port, opened so many ticks ago. */
function table(records: [port: number, age: number][]): Source {
  const keys = new Uint8Array(records.length * FLOW_KEY_SIZE);
  const values = new Uint8Array(records.length * FLOW_SIZE);
  for (const [i, [sport, age]] of records.entries()) {
    const key: FlowKey = { saddr: "10.0.0.1", daddr: "192.0.2.1", sport, dport: 80, proto: 6 };
    const flow: Flow = {
      xsaddr: "203.0.113.1",
      xdaddr: "192.0.2.1",
      xsport: sport,
      xdport: 80,
      expires: NOW + 10,
      created: NOW - age,
      endpoint: 1,
      proxyPort: 0,
      service: 0,
      state: 0,
      rule: 9,
      identity: 0,
    };
    row.key.write(new DataView(keys.buffer), i * FLOW_KEY_SIZE, key);
    row.value.write(new DataView(values.buffer), i * FLOW_SIZE, flow);
  }
  const batches = function* () {
    yield { keys, values, count: records.length };
  };
  return {
    row,
    map: { info: { keySize: FLOW_KEY_SIZE, valueSize: FLOW_SIZE }, batches },
  } as unknown as Source;
}

const ports = (list: FlowList): string[] => [...list].map((flow) => flow.source.replace(/.*:/, ""));

test("a record that moves between two tables while they are read is listed once", () => {
  const [draining, current] = [
    table([
      [3, 5],
      [1, 9],
    ]),
    table([
      [2, 7],
      [3, 5],
    ]),
  ];
  const list = new FlowList(draining, NOW);
  for (const each of [draining, current]) list.add(each, () => true);
  assert.deepEqual(ports(list), ["3", "2", "1"]);
});

test("the same tuple of another time is another flow", () => {
  const list = new FlowList(table([]), NOW);
  list.add(table([[1, 9]]), () => true);
  list.add(table([[1, 2]]), () => true);
  assert.deepEqual(ports(list), ["1", "1"]);
});
