// SPDX-License-Identifier: Apache-2.0
// Every filter of `bpf flow` and `bpf nat` alone, over one table of records of both families and directions.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Command } from "commander";
import type { EndpointReport } from "../agent/status.ts";
import { FlowState, MasqueradeRule } from "../maps/gen/verdict.ts";
import { type FlowFilter, flowTest, isFiltered, namesPods, withFlowFilter } from "./flow-filter.ts";
import type { FlowRecord } from "./flows.ts";

const base: FlowRecord = {
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
const kept = { rule: MasqueradeRule.MASQ_NATIVE_CIDR, state: 0 };
const records: Record<string, FlowRecord> = {
  web: base,
  dns6: {
    ...base,
    proto: 17,
    saddr: "fd00::2",
    daddr: "2001:db8::53",
    xsaddr: "fd00:20::11",
    xdaddr: "2001:db8::53",
    sport: 5353,
    dport: 53,
    xsport: 5353,
    xdport: 53,
    state: FlowState.FLOW_XSOURCE,
  },
  ping: {
    ...base,
    ...kept,
    proto: 1,
    daddr: "10.244.2.9",
    xdaddr: "10.244.2.9",
    xsaddr: base.saddr,
    endpoint: 7,
  },
  inbound: {
    ...base,
    ...kept,
    saddr: "10.244.2.9",
    daddr: "10.244.1.3",
    xsaddr: "10.244.2.9",
    xdaddr: "10.244.1.3",
    dport: 8080,
    xdport: 8080,
    xsport: base.sport,
    state: FlowState.FLOW_INBOUND | FlowState.FLOW_REPLIER_FIN,
    endpoint: 8,
  },
  sctp: { ...base, ...kept, proto: 132, xsaddr: base.saddr, state: FlowState.FLOW_RESET, xsport: base.sport },
};
const pods = [
  { id: 7, namespace: "default", pod: "web", ipv4: "10.244.1.2", ipv6: "fd00::2" },
  { id: 8, namespace: "shop", pod: "db", ipv4: "10.244.1.3", ipv6: "" },
  { id: 9, namespace: "", pod: "", ipv4: "10.244.1.4", ipv6: "" },
] as EndpointReport[];

const rows: [args: string, found: string][] = [
  ["", "web dns6 ping inbound sctp"],
  ["--ip 10.244.2.9", "ping inbound"],
  ["--ip 172.20.0.0/24", "web"],
  ["--ip 2001:db8::/32", "dns6"],
  ["--from-ip 10.244.2.9", "inbound"],
  ["--to-ip 10.244.0.0/16", "ping inbound"],
  ["--snat-ip 172.20.0.11", "web"],
  ["--snat-ip 10.244.1.2", ""],
  ["--port 40001", "web ping"],
  ["--port 53", "dns6"],
  ["--from-port 5353", "dns6"],
  ["--to-port 8080", "inbound"],
  ["--protocol tcp", "web inbound"],
  ["--protocol ICMP", "ping"],
  ["--protocol 132", "sctp"],
  ["--pod default/web", "web dns6 ping sctp"],
  ["--pod db", "inbound"],
  ["--from-pod db", ""],
  ["--to-pod shop/db", "inbound"],
  ["--endpoint 8", "inbound"],
  ["--state established", "web"],
  ["--state new", "dns6 ping"],
  ["--state closing", "inbound"],
  ["--state reset", "sctp"],
  ["--traffic-direction ingress", "inbound"],
  ["--traffic-direction egress", "web dns6 ping sctp"],
  ["--rule 9", "web dns6"],
  ["-4", "web ping inbound sctp"],
  ["--ipv6", "dns6"],
  ["-4 -6", "web dns6 ping inbound sctp"],
  ["--protocol tcp --pod web --to-port 80", "web"],
];

/** What the options of a command line ask for. */
function parse(args: string): FlowFilter {
  const command = withFlowFilter(new Command()).exitOverride();
  command.configureOutput({ writeErr: () => undefined });
  return command.parse(args.split(" ").filter(Boolean), { from: "user" }).opts<FlowFilter>();
}

for (const [args, found] of rows) {
  test(`filter "${args}"`, () => {
    const filter = parse(args);
    const passes = flowTest(filter, pods);
    assert.equal(
      Object.keys(records)
        .filter((name) => passes(records[name] as FlowRecord))
        .join(" "),
      found,
    );
    assert.equal(isFiltered(filter), args !== "");
    assert.equal(namesPods(filter), /pod /.test(args));
  });
}

for (const args of [
  "--ip banana",
  "--ip 10.0.0.0/33",
  "--port 65536",
  "--port -1",
  "--protocol foo",
  "--state open",
]) {
  test(`refused: "${args}"`, () => {
    assert.throws(() => parse(args), { code: "commander.invalidArgument" });
  });
}

test("a pod that is not there is told", () => {
  assert.throws(() => flowTest({ pod: "web2" }, pods), { message: /no pod "web2"/ });
  assert.throws(() => flowTest({ pod: "shop/web" }, pods), { message: /no pod "shop\/web"/ });
});
