// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { listRoutes, RouteTable } from "../../kernel/netlink/route.ts";
import { openRtNetlink, type RtNetlink } from "../../kernel/netlink/socket.ts";
import { createNetns, removeNetns, withNetns } from "../../kernel/netns.ts";
import { wiringProblems } from "./check.ts";
import { hostDeviceName } from "./plan.ts";
import type { EndpointSpec } from "./spec.ts";
import { unwire, wire } from "./wire.ts";

const suffix = randomBytes(3).toString("hex");
const nodeName = `hlt-${suffix}-node`;
const podName = `hlt-${suffix}-pod`;
const spec: EndpointSpec = {
  containerId: "c1",
  ifName: "eth0",
  netns: `/run/netns/${podName}`,
  network: "net",
  podNamespace: "default",
  podName: "web-0",
  podUid: "",
  ipv4: "10.0.0.2",
  ipv6: "fd00::2",
  mtu: 1400,
};
const device = hostDeviceName("c1", "eth0");
let netlink: RtNetlink;

function ip(netns: string, ...argv: string[]): string {
  return withNetns(netns, () => execFileSync("ip", argv, { encoding: "utf8", stdio: "pipe" }));
}

before(() => {
  createNetns(nodeName).close();
  netlink = openRtNetlink(nodeName);
});
after(() => {
  netlink.close();
  removeNetns(nodeName);
  removeNetns(podName);
});

const damages: [what: string, where: string, command: string, expected: string[]][] = [
  ["nothing", podName, "link set lo up", []],
  ["an address more", podName, "address add 10.9.9.9/32 dev eth0", []],
  [
    "the IPv4 address",
    podName,
    "address del 10.0.0.2/32 dev eth0",
    ["eth0 has lost its address 10.0.0.2", "the pod has no default route", "the pod's entry for gateway"],
  ],
  ["the IPv6 address", podName, "address del fd00::2/128 dev eth0", ["eth0 has lost its address fd00::2"]],
  ["the IPv4 default route", podName, "route del default", ["the pod has no default route via 169.254.1.1"]],
  ["the IPv6 default route", podName, "-6 route del default", ["the pod has no default route via fe80::1"]],
  [
    "the gateway's MAC address",
    podName,
    "neighbour change 169.254.1.1 lladdr 02:00:00:00:00:01 dev eth0",
    ["the pod's entry for gateway 169.254.1.1 does not lead to the node"],
  ],
  ["the pod's device", podName, "link del eth0", [`device ${device} is gone from the node`]],
  ["the node's route", nodeName, "route del 10.0.0.2", [`the node has no route to 10.0.0.2 by ${device}`]],
  ["the namespace's name", podName, "", [`network namespace ${spec.netns}`]],
];
for (const [what, where, command, expected] of damages) {
  test(`a pod that is wired and then changed in ${what}: ${expected.length} problems`, () => {
    createNetns(podName).close();
    const wiring = wire(spec, netlink);
    try {
      assert.deepEqual(wiringProblems({ ...spec, ...wiring }, netlink), []);
      assert.match(ip(podName, "-o", "link", "show", "eth0"), /mtu 1400/);
      using held = openRtNetlink(podName);
      if (command === "") removeNetns(podName);
      else ip(where, ...command.split(" "));
      const problems = wiringProblems({ ...spec, ...wiring }, netlink);
      assert.equal(problems.length, expected.length, problems.join("; "));
      for (const [i, text] of expected.entries())
        assert.ok(problems[i]?.startsWith(text), problems.join("; "));
      assert.ok(held);
    } finally {
      unwire(wiring.device, netlink);
      removeNetns(podName);
    }
    assert.ok(!ip(nodeName, "-o", "link").includes(wiring.device));
  });
}

test("a pod takes what is sent to it from the first moment: its addresses have their local routes at once", () => {
  for (let i = 0; i < 40; i++) {
    createNetns(podName).close();
    const wiring = wire(spec, netlink);
    try {
      using pod = openRtNetlink(podName);
      const local = listRoutes(pod, { table: RouteTable.local }).map((route) => route.destination.address);
      for (const address of ["10.0.0.2", "fd00::2"]) assert.ok(local.includes(address), `pod ${i}: ${local}`);
    } finally {
      unwire(wiring.device, netlink);
      removeNetns(podName);
    }
  }
});

test("wiring that fails leaves no device behind", () => {
  createNetns(podName).close();
  try {
    ip(podName, "link", "add", "eth0", "type", "veth", "peer", "name", "x");
    assert.throws(() => wire(spec, netlink), { code: "ENDPOINT_WIRING" });
    assert.doesNotMatch(ip(nodeName, "-o", "link"), /hl[0-9a-f]{10}/);
  } finally {
    removeNetns(podName);
  }
  assert.throws(() => wire(spec, netlink), { code: "ENDPOINT_NETNS" });
});
