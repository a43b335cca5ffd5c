// SPDX-License-Identifier: Apache-2.0
// What the CLI prints, without a kernel: tables, durations over the wrap of the tick counter, NAT lines, JSON of counters.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FlowState, MasqueradeRule } from "../maps/gen/verdict.ts";
import { nowTicks } from "../maps/ticks.ts";
import { formatBytes, formatSeconds, ticksBetween } from "./duration.ts";
import { type FlowRecord, flowRow, natLines } from "./flows.ts";
import { jsonLines, renderData, yamlLines } from "./output.ts";
import { renderTable } from "./table.ts";

test("tables: padded to the widest cell, numbers to the right, no space at the end of a line", () => {
  const text = renderTable(
    [
      { header: "NAME", cell: (r: [string, number]) => r[0] },
      { header: "COUNT", cell: (r) => r[1], right: true },
      { header: "NOTE", cell: () => "" },
    ],
    [
      ["a", 7],
      ["longer", 12345678],
    ],
  );
  assert.equal(
    text,
    ["NAME        COUNT   NOTE", "a               7   -", "longer   12345678   -", ""].join("\n"),
  );
  assert.equal(renderTable([{ header: "A", cell: () => "" }], []), "A\n");
});

test("ticks: differences hold over the 32-bit wrap", () => {
  assert.equal(Math.round(ticksBetween(0xffff_ffff, 59)), 1);
  assert.equal(Math.round(ticksBetween(59, 0xffff_ffff)), -1);
  const now = nowTicks();
  assert.ok(Number.isInteger(now) && now >= 0 && now <= 0xffff_ffff);
});

test("durations and sizes", () => {
  const seconds: [number, string][] = [
    [0, "0s"],
    [-3, "0s"],
    [59.6, "1m"],
    [200, "3m20s"],
    [7_980, "2h13m"],
    [266_400, "3d2h"],
  ];
  for (const [input, text] of seconds) assert.equal(formatSeconds(input), text);
  const sizes: [number, string][] = [
    [512, "512 B"],
    [4096, "4.0 KiB"],
    [1_258_291, "1.2 MiB"],
  ];
  for (const [input, text] of sizes) assert.equal(formatBytes(input), text);
});

const record: FlowRecord = {
  saddr: "10.244.1.2",
  daddr: "198.51.100.10",
  sport: 40000,
  dport: 80,
  proto: 6,
  xsaddr: "172.20.0.11",
  xdaddr: "198.51.100.10",
  xsport: 40001,
  xdport: 80,
  created: 1000,
  expires: 3000,
  endpoint: 7,
  state: FlowState.FLOW_REPLIED | FlowState.FLOW_XSOURCE,
  rule: MasqueradeRule.MASQ_POD,
  proxyPort: 0,
  service: 0,
  identity: 0,
};

test("NAT lines: the way out and the way back, IPv6 in brackets", () => {
  const row = flowRow(record, 1000 + 715);
  assert.deepEqual(natLines(row), [
    "TCP OUT 10.244.1.2:40000 -> 198.51.100.10:80 XLATE_SRC 172.20.0.11:40001 Created=12sec ago NeedsCT=0",
    "TCP IN 198.51.100.10:80 -> 172.20.0.11:40001 XLATE_DST 10.244.1.2:40000 Created=12sec ago NeedsCT=0",
  ]);
  const v6 = { ...record, proto: 58, saddr: "fd00::2", daddr: "2001:db8::1", xsaddr: "fd00:20::11" };
  assert.equal(
    natLines(flowRow({ ...v6, xdaddr: v6.daddr }, 1000))[0],
    "ICMPv6 OUT [fd00::2]:40000 -> [2001:db8::1]:80 XLATE_SRC [fd00:20::11]:40001 Created=0sec ago NeedsCT=0",
  );
});

test("flow rows: a protocol without ports is told with addresses alone, and by its number if it has no name", () => {
  const told = (proto: number): string[] => {
    const row = flowRow(
      { ...record, proto, saddr: "fd00::2", sport: 0, dport: 0, xsport: 0, xdport: 0 },
      1000,
    );
    return [row.proto, row.source, row.destination, row.translatedSource];
  };
  assert.deepEqual(told(47), ["GRE", "fd00::2", "198.51.100.10", "172.20.0.11"]);
  assert.deepEqual(told(253), ["IP protocol 253", "fd00::2", "198.51.100.10", "172.20.0.11"]);
  assert.deepEqual(told(58), ["ICMPv6", "[fd00::2]:0", "198.51.100.10:0", "172.20.0.11:0"]);
});

test("flow rows: state by its strongest bit, expiry, unknown rules by number", () => {
  const row = flowRow(record, 1000);
  assert.equal(row.state, "established");
  assert.equal(row.ruleText, "pod traffic that leaves the cluster: masqueraded");
  assert.equal(flowRow({ ...record, rule: 99 }, 1000).ruleText, "rule 99");
  assert.equal(row.expiresInSeconds, 34);
  assert.equal(
    flowRow({ ...record, state: 1 | FlowState.FLOW_OPENER_FIN | FlowState.FLOW_RESET }, 0).state,
    "reset",
  );
  assert.equal(flowRow({ ...record, state: 1 | FlowState.FLOW_REPLIER_FIN }, 0).state, "closing");
  assert.equal(flowRow({ ...record, state: FlowState.FLOW_INBOUND }, 0).direction, "in");
});

test("lists that are written piece by piece are what they would be as a whole", async () => {
  const lists = [[], [{ a: 1, b: { c: ["x", 5n] } }], [{ a: "one\ntwo" }, { a: null }, { a: 2n ** 60n }]];
  const { renderYaml } = await import("./yaml.ts");
  for (const list of lists) {
    const json = [...jsonLines(list)].join("");
    assert.equal(json, await renderData("json", list));
    assert.equal([...yamlLines(list, renderYaml)].join(""), await renderData("yaml", list));
  }
});

test("JSON and YAML carry 64-bit counters, exact", async () => {
  const value = [{ packets: 5n, bytes: 2n ** 60n, twice: 1 }];
  assert.deepEqual(JSON.parse(await renderData("json", value)), [
    { packets: 5, bytes: "1152921504606846976", twice: 1 },
  ]);
  assert.match(await renderData("yaml", value), /^- packets: 5\n {2}bytes: "1152921504606846976"\n/);
});
