// SPDX-License-Identifier: Apache-2.0
// Node routes and native devices for given nodes and kernel facts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parsePrefix } from "../../base/prefix.ts";
import { matchesDevice, planDevices } from "./devices.ts";
import type { Link, LinkAddress, NetworkFacts, RouteFact } from "./facts.ts";
import { diffRoutes, planRoutes, routeKey } from "./plan.ts";
import type { NodeSpec, RouteSpec } from "./spec.ts";

const address = (text: string, more: Partial<LinkAddress> = {}): LinkAddress => {
  const [ip = "", length] = text.split("/");
  return { address: ip, length: Number(length), scope: "global", secondary: false, ...more };
};
const link = (ifindex: number, name: string, addresses: LinkAddress[], more: Partial<Link> = {}): Link => ({
  ifindex,
  name,
  mac: "02:00:00:00:00:01",
  mtu: 1500,
  up: true,
  loopback: name === "lo",
  layer3: false,
  master: 0,
  addresses,
  tentative: [],
  ...more,
});
const route = (destination: string, ifindex: number, more: Partial<RouteFact> = {}): RouteFact => ({
  destination: parsePrefix(destination),
  ifindex,
  ours: false,
  unreachable: false,
  ...more,
});
const node = (name: string, ips: string[], cidrs: string[]): NodeSpec => ({
  name,
  internalAddresses: ips,
  otherAddresses: [],
  podCidrs: cidrs.map(parsePrefix),
});

const facts: NetworkFacts = {
  links: [
    link(1, "lo", [address("127.0.0.1/8", { scope: "host" })]),
    link(2, "eth0", [
      address("172.20.0.11/24"),
      address("fd00:20::11/64"),
      address("fe80::1/64", { scope: "link" }),
    ]),
    link(7, "hl0123456789", []),
  ],
  routes: [route("0.0.0.0/0", 2, { gateway: "172.20.0.254" })],
  rulesBySource: false,
  routesBySourcePort: false,
};
const node1 = node("node1", ["172.20.0.11", "fd00:20::11"], ["10.244.1.0/24", "fd00:10:244:1::/64"]);
const node2 = node("node2", ["172.20.0.12", "fd00:20::12"], ["10.244.2.0/24", "fd00:10:244:2::/64"]);
const spec: RouteSpec = {
  nodeName: "node1",
  nodes: [node1, node2],
  ipv4: true,
  ipv6: true,
  autoDirectNodeRoutes: true,
};
const text = (s: RouteSpec, f = facts): string[] =>
  [...planRoutes(s, f).routes].map(([key, e]) =>
    "unreachable" in e ? `${key} unreachable` : `${key} via ${e.gateway} dev ${e.ifindex}`,
  );

test("routes: other nodes' pods by their address, the own range unreachable", () => {
  assert.deepEqual(text(spec), [
    "10.244.1.0/24 unreachable",
    "fd00:10:244:1::/64 unreachable",
    "10.244.2.0/24 via 172.20.0.12 dev 2",
    "fd00:10:244:2::/64 via fd00:20::12 dev 2",
  ]);
});

test("routes: a family that is off, and no direct routes", () => {
  assert.deepEqual(text({ ...spec, ipv6: false }), [
    "10.244.1.0/24 unreachable",
    "10.244.2.0/24 via 172.20.0.12 dev 2",
  ]);
  assert.deepEqual(text({ ...spec, autoDirectNodeRoutes: false }), [
    "10.244.1.0/24 unreachable",
    "fd00:10:244:1::/64 unreachable",
  ]);
});

test("routes: what cannot be routed to is a fault and the rest is written", () => {
  const far = node("node3", ["192.0.2.3"], ["10.244.3.0/24"]);
  const thief = node("node4", ["172.20.0.14"], ["10.244.2.0/24"]);
  const silent = node("node5", [], ["10.244.5.0/24"]);
  const plan = planRoutes({ ...spec, ipv6: false, nodes: [node1, node2, far, thief, silent] }, facts);
  assert.deepEqual([...plan.routes.keys()], ["10.244.1.0/24", "10.244.2.0/24"]);
  assert.deepEqual(
    plan.faults.map((f) => f.code),
    ["NODE_NOT_ON_LINK", "POD_CIDR_TWICE", "NODE_WITHOUT_ADDRESS"],
  );
});

test("routes: only what differs is written, only ours is removed", () => {
  const plan = planRoutes({ ...spec, ipv6: false }, facts).routes;
  const changes = diffRoutes(plan, [
    route("10.244.1.0/24", 0, { ours: true, unreachable: true }),
    route("10.244.2.0/24", 2, { ours: true, gateway: "172.20.0.99" }),
    route("10.244.9.0/24", 2, { ours: true, gateway: "172.20.0.19" }),
    route("192.0.2.0/24", 2, { gateway: "172.20.0.19" }),
  ]);
  assert.deepEqual(changes.replace.map(routeKey), ["10.244.2.0/24"]);
  assert.deepEqual(changes.remove.map(routeKey), ["10.244.9.0/24"]);
});

const chosen = (patterns: string[], f: NetworkFacts = facts, nodeAddresses = ["172.20.0.11"]): string[] =>
  planDevices({ patterns, nodeAddresses, ipv4: true, ipv6: true }, f).devices.map(
    (d) => `${d.name} ${d.addr4} ${d.addr6}`,
  );

test("devices: found by default route or node address, never a pod's or lo", () => {
  assert.deepEqual(chosen([]), ["eth0 172.20.0.11 fd00:20::11"]);
  assert.deepEqual(chosen([], { ...facts, routes: [] }), ["eth0 172.20.0.11 fd00:20::11"]);
  assert.deepEqual(chosen(["hl+", "lo"]), []);
});

test("devices: one way if there is one, and no route depends on source ports", () => {
  const [eth0, eth1] = ["eth0", "eth1"].map((name, i) => link(i + 2, name, [])) as [Link, Link];
  const oneWay = (links: NetworkFacts["links"], routesBySourcePort: boolean): boolean[] =>
    planDevices(
      { patterns: ["eth+"], nodeAddresses: [], ipv4: true, ipv6: true },
      { ...facts, links, routesBySourcePort },
    ).devices.map((d) => d.oneWay);
  assert.deepEqual(oneWay([eth0], false), [true]);
  assert.deepEqual(oneWay([eth0], true), [false]);
  assert.deepEqual(oneWay([eth0, eth1], false), [false, false]);
});

test("devices: patterns", () => {
  assert.ok(matchesDevice("eth+", "eth0"));
  assert.ok(matchesDevice("en*", "enp3s0"));
  assert.ok(!matchesDevice("eth", "eth0"));
  const plan = planDevices({ patterns: ["eth+", "wlan0"], nodeAddresses: [], ipv4: true, ipv6: true }, facts);
  assert.deepEqual(
    plan.devices.map((d) => d.name),
    ["eth0"],
  );
  assert.deepEqual(
    plan.faults.map((f) => f.detail),
    ['devices: no device is called "wlan0"'],
  );
});

test("devices: the node's InternalIP before the first address, a routable IPv6 before unique-local", () => {
  const two: NetworkFacts = {
    ...facts,
    links: [
      link(2, "eth0", [
        address("192.0.2.9/24"),
        address("172.20.0.11/24"),
        address("fd00::9/64"),
        address("2001:db8::8/64", { secondary: true }),
        address("2001:db8::9/64"),
      ]),
    ],
    routes: [],
  };
  assert.deepEqual(chosen(["eth0"], two), ["eth0 172.20.0.11 2001:db8::9"]);
  assert.deepEqual(chosen(["eth0"], two, []), ["eth0 192.0.2.9 2001:db8::9"]);
});

test("devices: no device and no address are told", () => {
  const codes = (f: NetworkFacts): string[] =>
    planDevices({ patterns: [], nodeAddresses: [], ipv4: true, ipv6: true }, f).faults.map((x) => x.code);
  assert.deepEqual(codes({ ...facts, links: [], routes: [] }), ["NO_NATIVE_DEVICE"]);
  const four: NetworkFacts = { ...facts, links: [link(2, "eth0", [address("192.0.2.9/24")])] };
  assert.deepEqual(codes(four), ["DEVICE_WITHOUT_ADDRESS"]);
});

test("devices: a default route over several, and one that is down, carry the programs", () => {
  const links = [
    link(2, "eth0", [address("172.20.0.11/24")]),
    link(3, "eth1", [address("172.21.0.11/24")], { up: false }),
  ];
  const routes = [route("0.0.0.0/0", 2), route("0.0.0.0/0", 3)];
  assert.deepEqual(chosen([], { ...facts, links, routes }, []), [
    "eth0 172.20.0.11 ::",
    "eth1 172.21.0.11 ::",
  ]);
});

test("devices: one without an address takes the loopback device's, as BGP nodes have it", () => {
  const lo = link(1, "lo", [
    address("127.0.0.1/8", { scope: "host" }),
    address("192.0.2.1/32"),
    address("2001:db8::1/128"),
  ]);
  const eth0 = link(2, "eth0", [address("fe80::1/64", { scope: "link" })]);
  assert.deepEqual(chosen(["eth0"], { ...facts, links: [lo, eth0] }), ["eth0 192.0.2.1 2001:db8::1"]);
});

test("devices: why a family has no address", () => {
  const eth0 = link(2, "eth0", [address("169.254.7.7/16", { scope: "link" })], {
    tentative: ["2001:db8::8"],
  });
  const spec = { patterns: ["eth0"], nodeAddresses: [], ipv4: true, ipv6: true };
  const lacks = (l: Link, s: typeof spec = spec): unknown =>
    planDevices(s, { ...facts, links: [l] }).devices[0]?.lacks;
  assert.deepEqual(lacks(eth0), {
    4: "no global IPv4 address, only 169.254.7.7",
    6: "2001:db8::8 is still checked for duplicates",
  });
  assert.deepEqual(lacks({ ...eth0, addresses: [], up: false }, { ...spec, ipv6: false }), {
    4: "no IPv4 address, the device is down",
  });
});

test("devices: a wildcard does not mean a bond's ports, a name does", () => {
  const links = [
    link(2, "eth0", [], { master: 4 }),
    link(3, "eth1", [address("172.21.0.11/24")]),
    link(4, "bond0", [address("172.20.0.11/24")]),
  ];
  assert.deepEqual(chosen(["eth+", "bond0"], { ...facts, links }), [
    "eth1 172.21.0.11 ::",
    "bond0 172.20.0.11 ::",
  ]);
  assert.deepEqual(chosen(["eth0"], { ...facts, links }), ["eth0 :: ::"]);
});
