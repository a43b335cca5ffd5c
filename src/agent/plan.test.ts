// SPDX-License-Identifier: Apache-2.0
// The whole plan of a node for given configuration, nodes and kernel facts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatPrefix, parsePrefix } from "../base/prefix.ts";
import { formatSourceLine, SourceTable } from "../engine/masquerade/plan.ts";
import type { NetworkFacts } from "../engine/route/facts.ts";
import type { NodeSpec } from "../engine/route/spec.ts";
import { flagLayer, resolveConfig } from "./config.ts";
import { type AgentInputs, planAgent } from "./plan.ts";

const facts: NetworkFacts = {
  links: [
    {
      ifindex: 2,
      name: "eth0",
      mac: "02:00:00:00:00:01",
      mtu: 1450,
      up: true,
      loopback: false,
      layer3: false,
      master: 0,
      addresses: [
        { address: "172.20.0.11", length: 24, scope: "global", secondary: false },
        { address: "fd00:20::11", length: 64, scope: "global", secondary: false },
      ],
      tentative: [],
    },
  ],
  routes: [
    {
      destination: parsePrefix("0.0.0.0/0"),
      gateway: "172.20.0.254",
      ifindex: 2,
      ours: false,
      unreachable: false,
    },
  ],
  rulesBySource: false,
  routesBySourcePort: false,
};
const node = (name: string, last: number, cidrs: string[]): NodeSpec => ({
  name,
  internalAddresses: [`172.20.0.${last}`],
  otherAddresses: [],
  podCidrs: cidrs.map(parsePrefix),
});
const inputs = (flags: string[], nodes: NodeSpec[]): AgentInputs => {
  const { config, faults, origins } = resolveConfig([flagLayer(flags)]);
  assert.deepEqual(faults, []);
  assert.ok(config);
  return {
    nodeName: "a",
    config,
    originOf: (name) => origins.get(name) ?? "default",
    nodes,
    facts,
    ipMasqAgent: {
      ranges: [
        {
          prefix: parsePrefix("203.0.113.0/24"),
          source: { origin: "ConfigMap x", path: "data.config", line: 2 },
        },
      ],
    },
    listening: { tcp: new Set([22]), udp: new Set(), fault: undefined },
    routeSource: true,
  };
};
const both = [node("a", 11, ["10.244.1.0/24"]), node("b", 12, ["10.244.2.0/24"])];

test("a node of two: devices, routes, identities, ranges with their sources", () => {
  const sources = new SourceTable();
  const plan = planAgent(
    inputs(["--ipv4-native-routing-cidr", "10.244.0.0/16", "--enable-ip-masq-agent"], both),
    sources,
  );
  assert.deepEqual(plan.faults, []);
  assert.equal(plan.mtu, 1450);
  assert.deepEqual([...plan.routes.keys()], ["10.244.1.0/24", "10.244.2.0/24"]);
  assert.deepEqual(
    [...plan.ipcache].map(([key, e]) => `${key} ${e.identity}`),
    ["172.20.0.11/32 1", "fd00:20::11/128 1", "172.20.0.12/32 6"],
  );
  assert.deepEqual(
    [...plan.nonmasq].map(([key, e]) => {
      const line = sources.line(e.source);
      return `${key} ${e.rule} ${line && formatSourceLine(line)}`;
    }),
    ["10.244.0.0/16 5 --ipv4-native-routing-cidr", "203.0.113.0/24 7 ConfigMap x data.config line 2"],
  );
  assert.deepEqual(plan.podRanges.cidrs[4].map(formatPrefix), ["10.244.1.0/24"]);
});

test("without a native-routing CIDR the pod ranges of all nodes are kept", () => {
  const sources = new SourceTable();
  const plan = planAgent(inputs([], both), sources);
  assert.deepEqual([...plan.nonmasq.keys()].sort(), ["10.244.1.0/24", "10.244.2.0/24"]);
  const line = sources.line(plan.nonmasq.get("10.244.2.0/24")?.source ?? 0);
  assert.equal(line && formatSourceLine(line), "Node b spec.podCIDRs");
});

test("no Node object: addresses of the devices and ranges of the options", () => {
  const plan = planAgent(inputs(["--ipv4-range", "10.9.0.0/24", "--mtu", "1400"], []), new SourceTable());
  assert.deepEqual(plan.self?.internalAddresses, ["172.20.0.11", "fd00:20::11"]);
  assert.deepEqual(plan.self?.podCidrs.map(formatPrefix), ["10.9.0.0/24"]);
  assert.equal(plan.mtu, 1400);
});

test("a pod range that cannot serve is a fault and no reason to stop", () => {
  const plan = planAgent(inputs([], [node("a", 11, ["10.244.1.4/31"])]), new SourceTable());
  assert.deepEqual(
    plan.faults.map((f) => f.code),
    ["IPAM_CIDR_TOO_SMALL"],
  );
  assert.equal(plan.devices.length, 1);
});

test("the route's source is asked for on a kernel that does not tell it: told, and nothing else changes", () => {
  const asked = inputs(["--enable-masquerade-to-route-source", "true"], both);
  const detail = (routeSource: boolean): string[] =>
    planAgent({ ...asked, routeSource }, new SourceTable()).faults.map((f) => f.detail);
  assert.deepEqual(detail(true), []);
  assert.match(
    detail(false).join(),
    /^enable-masquerade-to-route-source has no effect: .* the device's address/,
  );
});
