// SPDX-License-Identifier: Apache-2.0
// What `monitor` shows and hides, on flows as the agent sends them.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Flow } from "../observe/decode.ts";
import { type FlowFilter, flowLine, matches } from "./monitor.ts";

const flow: Flow = {
  time: "2026-11-21T10:11:12.345Z",
  kind: "new-flow",
  verdict: "FORWARDED",
  hook: "from_pod",
  device: "hl0123456789",
  ifindex: 7,
  proto: "TCP",
  source: { address: "10.244.1.2", port: 40000, identity: 0, name: "default/web-1" },
  destination: { address: "198.51.100.10", port: 80, identity: 2, name: "" },
  translated: { source: "172.20.0.11:40000", destination: "198.51.100.10:80" },
  tcpFlags: "SYN",
  length: 74,
  endpoint: 1,
  reason: 0,
  reasonText: "",
  rule: 9,
  ruleText: "pod traffic that leaves the cluster: masqueraded",
  ruleSource: "",
};

const cases: [FlowFilter, boolean][] = [
  [{}, true],
  [{ type: "drop" }, false],
  [{ type: "new-flow", proto: "tcp", port: 80 }, true],
  [{ proto: "udp" }, false],
  [{ from: "web-1" }, true],
  [{ from: "default/web-1" }, true],
  [{ from: "eb-1" }, false],
  [{ from: "10.244.0.0/16" }, true],
  [{ from: "10.244.1.3" }, false],
  [{ to: "198.51.100.0/24", port: 40000 }, true],
  [{ to: "2001:db8::/32" }, false],
  [{ port: 81 }, false],
];
for (const [filter, shown] of cases) {
  test(`filter ${JSON.stringify(filter)} ${shown ? "shows" : "hides"} the flow`, () => {
    assert.equal(matches(flow, filter), shown);
  });
}

test("a new flow tells its translation and the rule; a drop its reason and code", () => {
  assert.equal(
    flowLine(flow),
    "10:11:12.345 new-flow from_pod@hl0123456789 TCP [SYN] default/web-1 (10.244.1.2:40000) -> 198.51.100.10:80 as 172.20.0.11:40000, rule 9: pod traffic that leaves the cluster: masqueraded",
  );
  const drop: Flow = {
    ...flow,
    kind: "drop",
    proto: "UDP",
    tcpFlags: "",
    device: "",
    reason: 167,
    reasonText: "No mapping for NAT masquerade",
  };
  assert.equal(
    flowLine(drop),
    "10:11:12.345 drop     from_pod@7 UDP default/web-1 (10.244.1.2:40000) -> 198.51.100.10:80: No mapping for NAT masquerade (167)",
  );
});
