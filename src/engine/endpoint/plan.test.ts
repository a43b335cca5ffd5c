// SPDX-License-Identifier: Apache-2.0
// Device names, endpoint ids and map entries of endpoints.
import assert from "node:assert/strict";
import { test } from "node:test";
import { EndpointIds, hostDeviceName, isPodDevice, macFrom, planEndpoints } from "./plan.ts";
import type { Endpoint } from "./spec.ts";

const endpoint: Endpoint = {
  id: 7,
  containerId: "c",
  ifName: "eth0",
  netns: "/run/netns/x",
  network: "net",
  podNamespace: "default",
  podName: "a",
  podUid: "",
  ipv4: "10.0.0.2",
  ipv6: "fd00::2",
  mtu: 1500,
  device: "hl0000000000",
  ifindex: 12,
  mac: "02:00:00:00:00:01",
  hostMac: "02:00:00:00:00:02",
  identity: 0,
  createdAt: "2026-01-01T00:00:00Z",
};

test("a device name depends on container and interface, and fits", () => {
  const name = hostDeviceName("c1", "eth0");
  assert.ok(isPodDevice(name) && name.length <= 15);
  assert.notEqual(name, hostDeviceName("c1", "eth1"));
  assert.ok(!isPodDevice("hl-net") && !isPodDevice("hlzz23456789"));
});

test("MAC addresses are unicast and locally administered", () => {
  assert.equal(macFrom(Uint8Array.of(255, 1, 2, 3, 4, 255)), "02:01:02:03:04:ff");
});

test("ids come in turn, skip what is used and come back only after all others", () => {
  const ids = new EndpointIds(65534);
  ids.adopt(1);
  assert.deepEqual([ids.allocate(), ids.allocate(), ids.allocate()], [65534, 65535, 2]);
  ids.release(65535);
  assert.equal(ids.allocate(), 3);
  assert.equal(ids.next, 4);
});

test("ids run out with a fault, not in a loop", () => {
  const ids = new EndpointIds();
  for (let i = 1; i <= 65535; i++) ids.adopt(i);
  assert.throws(() => ids.allocate(), { code: "ENDPOINT_IDS_EXHAUSTED" });
});

test("ids are bits of words of 64", () => {
  const ids = [1, 63, 64, 65535].map((id) => ({ ...endpoint, id }));
  assert.deepEqual(
    [...planEndpoints(ids).ids],
    [
      [0, (1n << 63n) | 2n],
      [1, 1n],
      [1023, 1n << 63n],
    ],
  );
});

test("an endpoint has one entry by device and one per address", () => {
  const both = planEndpoints([endpoint]);
  assert.deepEqual([...both.endpoints.keys()], [12]);
  assert.deepEqual([...both.addresses.keys()], ["10.0.0.2", "fd00::2"]);
  const { ipv6: _, ...four } = endpoint;
  const only = planEndpoints([four]);
  assert.equal(only.endpoints.get(12)?.addr6, "::");
  assert.deepEqual([...only.addresses.keys()], ["10.0.0.2"]);
});
