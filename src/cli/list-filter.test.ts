// SPDX-License-Identifier: Apache-2.0
// Filters of the lists that are not of flows: ranges, counters, maps.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parsePrefix } from "../base/prefix.ts";
import { isExclusionWanted } from "./bpf-ipmasq.ts";
import { isMetricWanted } from "./bpf-metrics.ts";
import { isMapWanted } from "./pins.ts";

test("ranges: by family, and around or inside what is asked for", () => {
  const wanted = (range: string, filter: Parameters<typeof isExclusionWanted>[1]): boolean =>
    isExclusionWanted(parsePrefix(range), filter);
  assert.ok(wanted("10.0.0.0/8", {}));
  assert.ok(wanted("10.0.0.0/8", { ip: parsePrefix("10.1.2.3") }));
  assert.ok(wanted("10.1.2.0/24", { ip: parsePrefix("10.0.0.0/8") }));
  assert.ok(!wanted("11.0.0.0/8", { ip: parsePrefix("10.1.2.3") }));
  assert.ok(!wanted("::/0", { ip: parsePrefix("10.1.2.3") }));
  assert.ok(wanted("fd00::/8", { ipv6: true }) && !wanted("fd00::/8", { ipv4: true }));
  assert.ok(wanted("fd00::/8", { ipv4: true, ipv6: true }));
});

const metric = { hook: "from_pod", direction: "EGRESS", packets: 1n, bytes: 1n };
const dropped = { ...metric, reason: 167, reasonText: "No mapping for NAT masquerade" };
const forwarded = { ...metric, reason: 0, reasonText: "Forwarded" };

test("counters: by verdict, reason, direction and hook", () => {
  const rows: [filter: Parameters<typeof isMetricWanted>[1], drop: boolean, forward: boolean][] = [
    [{}, true, true],
    [{ verdict: "dropped" }, true, false],
    [{ verdict: "forwarded" }, false, true],
    [{ reason: "167" }, true, false],
    [{ reason: "no MAPPING" }, true, false],
    [{ reason: "16" }, false, false],
    [{ reason: "0" }, false, true],
    [{ trafficDirection: "egress" }, true, true],
    [{ trafficDirection: "ingress" }, false, false],
    [{ hook: "from_pod", verdict: "dropped" }, true, false],
    [{ hook: "to_pod" }, false, false],
  ];
  for (const [filter, drop, forward] of rows) {
    const found = [isMetricWanted(dropped, filter), isMetricWanted(forwarded, filter)];
    assert.deepEqual(found, [drop, forward], JSON.stringify(filter));
  }
});

test("maps: by name, slots with or without their number", () => {
  assert.ok(isMapWanted("flows[1]", []));
  assert.ok(isMapWanted("flows[1]", ["flows"]) && isMapWanted("flows[1]", ["x", "flows[1]"]));
  assert.ok(!isMapWanted("flows[1]", ["flows[0]", "replies"]) && !isMapWanted("ipcache", ["ip"]));
});
