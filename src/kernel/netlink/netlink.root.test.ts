// SPDX-License-Identifier: Apache-2.0
// Every request of this folder against the kernel, in namespaces of its own.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync } from "node:fs";
import { after, test } from "node:test";
import { parsePrefix } from "../../base/prefix.ts";
import { ProgType, progLoad } from "../bpf.ts";
import { createNetns, removeNetns, withNetns } from "../netns.ts";
import { addAddress, deleteAddress, listAddresses, Scope } from "./address.ts";
import { addBridge, addVeth, addVxlan, deleteLink, findLink, getLink, listLinks, setLink } from "./link.ts";
import { watchNetwork } from "./monitor.ts";
import { deleteNeighbour, listNeighbours, NeighbourState, setNeighbour } from "./neighbour.ts";
import {
  addRoute,
  deleteRoute,
  listRoutes,
  lookUpRoute,
  RouteProtocol,
  RouteType,
  replaceRoute,
} from "./route.ts";
import { listRules } from "./rule.ts";
import { openRtNetlink } from "./socket.ts";
import { addClsact, deleteClsact, deleteFilter, replaceFilter } from "./tc.ts";

const suffix = randomBytes(3).toString("hex");
const nodeName = `hlt-${suffix}-node`;
const podName = `hlt-${suffix}-pod`;
const node = createNetns(nodeName);
const pod = createNetns(podName);
const nl = openRtNetlink(node);
const podNl = openRtNetlink(pod);

after(() => {
  nl.close();
  podNl.close();
  node.close();
  pod.close();
  removeNetns(podName);
  removeNetns(nodeName);
});

test("a veth pair across two namespaces, changed and deleted", () => {
  nl.apply(
    addVeth(
      { name: "hlt0", mac: "02:00:00:00:00:01", mtu: 1400, up: true },
      { name: "eth0", netns: pod, mtu: 1400 },
    ),
  );
  podNl.apply(setLink("lo", { up: true }), setLink("eth0", { up: true }));
  const near = getLink(nl, "hlt0");
  assert.deepEqual(
    { kind: near.kind, mtu: near.mtu, mac: near.mac, up: near.up, running: near.running },
    { kind: "veth", mtu: 1400, mac: "02:00:00:00:00:01", up: true, running: true },
  );
  const far = getLink(podNl, "eth0");
  assert.equal(near.peer, far.index);
  assert.notEqual(near.peerNetnsId, undefined);
  nl.apply(setLink(near.index, { up: false, mtu: 1300, mac: "02:00:00:00:00:02" }));
  nl.apply(setLink(near.index, { name: "hlt1", up: true }));
  const changed = getLink(nl, "hlt1");
  assert.deepEqual([changed.index, changed.mtu, changed.mac], [near.index, 1300, "02:00:00:00:00:02"]);
  assert.equal(findLink(nl, "hlt0"), undefined);
  assert.throws(() => getLink(nl, "hlt0"), { code: "NETLINK_REPLY" });
  assert.deepEqual(
    listLinks(podNl).map((link) => link.name),
    ["lo", "eth0"],
  );
  nl.apply(deleteLink("hlt1"));
  assert.equal(findLink(podNl, "eth0"), undefined);
});

test("bridge, its port, and vxlan", () => {
  nl.apply(addBridge({ name: "br0", mtu: 1400 }), addVeth({ name: "hlt2" }, { name: "hlt3" }));
  const bridge = getLink(nl, "br0");
  assert.equal(bridge.kind, "bridge");
  nl.apply(setLink("hlt2", { master: bridge.index, up: true }));
  assert.equal(getLink(nl, "hlt2").master, bridge.index);
  nl.apply(setLink("hlt2", { master: 0 }));
  assert.equal(getLink(nl, "hlt2").master, 0);
  nl.apply(addVxlan({ name: "vx0", port: 8472 }));
  assert.equal(getLink(nl, "vx0").kind, "vxlan");
  nl.apply(deleteLink("vx0"), deleteLink("hlt2"), deleteLink("br0"));
});

test("what the kernel refuses says what, on what, and why", () => {
  assert.throws(() => nl.apply(deleteLink("none0")), { detail: "link.delete ENODEV none0" });
  nl.apply(addVeth({ name: "hlt4", up: true }, { name: "hlt5" }));
  assert.throws(() => nl.apply(addVeth({ name: "hlt4" }, { name: "hlt6" })), {
    detail: /^link\.add EEXIST hlt4 peer hlt6/,
  });
  const device = getLink(nl, "hlt4").index;
  const bad = addRoute({ destination: parsePrefix("10.9.0.0/16"), via: "10.8.0.1", device });
  assert.throws(() => nl.apply(bad), {
    detail: `route.add ENETUNREACH 10.9.0.0/16 via 10.8.0.1 device ${device}: Nexthop has invalid gateway`,
  });
  const outcomes = nl.attempt(deleteLink("none0"), setLink("hlt4", { mtu: 1450 }), deleteLink("none1"));
  assert.deepEqual(
    outcomes.map((o) => o === undefined),
    [false, true, false],
  );
  assert.equal(getLink(nl, "hlt4").mtu, 1450);
  nl.apply(deleteLink("hlt4"));
});

test("addresses, routes and neighbours of both families", () => {
  nl.apply(addVeth({ name: "hlt0", up: true }, { name: "eth0", netns: pod }));
  podNl.apply(setLink("eth0", { up: true }));
  const device = getLink(nl, "hlt0").index;
  const v4 = { device, address: "192.0.2.1", prefixLength: 24 };
  const v6 = { device, address: "2001:db8::1", prefixLength: 64 };
  nl.apply(addAddress(v4), addAddress(v6), addAddress(v4), addAddress(v6));
  const addresses = listAddresses(nl, { device }).filter((a) => a.scope === Scope.global);
  assert.deepEqual(addresses.map((a) => `${a.address}/${a.prefixLength} ${a.tentative}`).sort(), [
    "192.0.2.1/24 false",
    "2001:db8::1/64 false",
  ]);
  assert.deepEqual(
    listAddresses(nl, { device, family: 4 }).map((a) => a.address),
    ["192.0.2.1"],
  );

  const to4 = {
    destination: parsePrefix("10.0.0.0/8"),
    via: "192.0.2.254",
    device,
    source: "192.0.2.1",
    mtu: 1300,
  };
  const to6 = { destination: parsePrefix("fd00::/8"), via: "2001:db8::fe", device };
  const host = { destination: parsePrefix("169.254.1.1/32"), device };
  nl.apply(addRoute(to4), addRoute(to6), addRoute(host));
  assert.throws(() => nl.apply(addRoute(to4)), { detail: /^route\.add EEXIST 10\.0\.0\.0\/8/ });
  nl.apply(replaceRoute({ ...to4, via: "192.0.2.253" }));
  const ours = listRoutes(nl).filter((route) => route.protocol === RouteProtocol.hookline);
  assert.deepEqual(
    ours
      .map((r) => `${r.destination.address}/${r.destination.length} via ${r.nextHops[0]?.via} mtu ${r.mtu}`)
      .sort(),
    [
      "10.0.0.0/8 via 192.0.2.253 mtu 1300",
      "169.254.1.1/32 via undefined mtu undefined",
      "fd00::/8 via 2001:db8::fe mtu undefined",
    ],
  );
  const way = lookUpRoute(nl, "10.1.2.3");
  assert.deepEqual(
    [way?.nextHops[0]?.via, way?.source, way?.nextHops[0]?.device],
    ["192.0.2.253", "192.0.2.1", device],
  );
  assert.equal(lookUpRoute(nl, "fd00::1")?.nextHops[0]?.via, "2001:db8::fe");
  assert.equal(lookUpRoute(nl, "8.8.8.8"), undefined);
  assert.equal(lookUpRoute(nl, "2400::1"), undefined);
  nl.apply(
    addRoute({ destination: parsePrefix("0.0.0.0/0"), via: "192.0.2.254", device }),
    addRoute({ destination: parsePrefix("::/0"), via: "fe80::1", device, onLink: true }),
    addRoute({ destination: parsePrefix("10.77.0.0/16"), type: RouteType.blackhole }),
    addRoute({ destination: parsePrefix("10.78.0.0/16"), via: "fe80::2", device }),
  );
  assert.equal(
    listRoutes(nl, { family: 4 }).find((r) => r.destination.length === 0)?.nextHops[0]?.via,
    "192.0.2.254",
  );
  assert.equal(
    listRoutes(nl, { family: 4 }).find((r) => r.destination.address === "10.78.0.0")?.nextHops[0]?.via,
    "fe80::2",
  );
  nl.apply(deleteRoute({ ...to4, via: "192.0.2.253" }), deleteRoute(to6), deleteRoute(host));
  assert.throws(() => nl.apply(deleteRoute(to4)), { detail: /^route\.delete ESRCH 10\.0\.0\.0\/8/ });

  for (const address of ["192.0.2.9", "2001:db8::9"]) {
    nl.apply(setNeighbour({ device, address, mac: "02:00:00:00:00:09" }));
    nl.apply(setNeighbour({ device, address, mac: "02:00:00:00:00:0a" }));
    const entry = listNeighbours(nl, device).find((n) => n.address === address);
    assert.deepEqual([entry?.mac, entry?.state], ["02:00:00:00:00:0a", NeighbourState.permanent]);
    nl.apply(deleteNeighbour({ device, address }));
    assert.throws(() => nl.apply(deleteNeighbour({ device, address: "192.0.2.77" })), { detail: /ENOENT/ });
  }
  nl.apply(deleteAddress(v4), deleteAddress(v6));
  assert.deepEqual(
    listAddresses(nl, { device }).filter((a) => a.scope === Scope.global),
    [],
  );
  nl.apply(deleteLink("hlt0"));
});

test("more requests than fit into one send", () => {
  nl.apply(addVeth({ name: "hlt0", up: true }, { name: "hlt1" }), setLink("hlt1", { up: true }));
  const device = getLink(nl, "hlt0").index;
  const through = () => listRoutes(nl, { family: 4 }).filter((r) => r.nextHops[0]?.device === device).length;
  const prefixes = Array.from({ length: 1000 }, (_, i) => parsePrefix(`10.${i >> 8}.${i & 255}.0/24`));
  nl.apply(...prefixes.map((destination) => addRoute({ destination, device })));
  assert.equal(through(), 1000);
  nl.apply(deleteLink("hlt0"));
  assert.equal(through(), 0);
});

test("a monitor tells of links, addresses and routes, and ends when closed", {
  timeout: 60_000,
}, async () => {
  using monitor = watchNetwork(["link", "address", "route"], node);
  nl.apply(addVeth({ name: "hlt0", up: true }, { name: "hlt1" }), setLink("hlt1", { up: true }));
  const device = getLink(nl, "hlt0").index;
  nl.apply(addAddress({ device, address: "192.0.2.1", prefixLength: 24 }));
  nl.apply(addRoute({ destination: parsePrefix("10.0.0.0/8"), via: "192.0.2.2" }));
  nl.apply(deleteLink("hlt0"));
  const seen: string[] = [];
  for await (const change of monitor) {
    if (change.kind === "link") seen.push(`${change.gone ? "-" : "+"}${change.link.name}`);
    if (change.kind === "address") seen.push(`${change.gone ? "-" : "+"}${change.address.address}`);
    if (change.kind === "route") seen.push(`${change.gone ? "-" : "+"}${change.route.destination.address}`);
    if (change.kind === "link" && change.gone && change.link.name === "hlt0") break;
  }
  for (const wanted of ["+hlt0", "+hlt1", "+192.0.2.1", "+10.0.0.0", "-192.0.2.1", "-hlt0"]) {
    assert.ok(seen.includes(wanted), `${wanted} in ${seen.join(" ")}`);
  }
  assert.deepEqual(await monitor.next(), { value: undefined, done: true });
  const second = watchNetwork(["link"], node);
  const pending = second.next();
  second.close();
  assert.equal((await pending).done, true);
});

test("a monitor tells of routing rules, and of filters and qdiscs that are taken off", {
  timeout: 60_000,
}, async () => {
  using monitor = watchNetwork(["rule", "filter"], node);
  nl.apply(addVeth({ name: "hlt0", up: true }, { name: "hlt1" }));
  const device = getLink(nl, "hlt0").index;
  const program = progLoad({
    type: ProgType.schedCls,
    instructions: Uint8Array.of(0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0),
  });
  const place = { device, direction: "egress", priority: 1, handle: 1 } as const;
  nl.apply(addClsact(device), replaceFilter(place, program, "test"));
  closeSync(program);
  const ruled = (family: string, verb: string, from: string): void =>
    withNetns(node, () => {
      for (const which of [
        ["from", from],
        ["ipproto", "tcp", "sport", "7000-7009"],
      ])
        execFileSync("ip", [family, "rule", verb, ...which, "lookup", "11"]);
    });
  assert.ok(
    listRules(nl).every((rule) => !rule.bySource && rule.inDevice === undefined && !rule.bySourcePort),
  );
  for (const [family, from] of [
    [4, "192.0.2.7"],
    [6, "2001:db8::7"],
  ] as const) {
    ruled(`-${family}`, "add", from);
    const rules = listRules(nl).filter((rule) => rule.family === family);
    assert.ok(rules.some((rule) => rule.bySource && !rule.bySourcePort));
    assert.ok(rules.some((rule) => rule.bySourcePort && !rule.bySource));
    ruled(`-${family}`, "del", from);
  }
  nl.apply(deleteFilter(place));
  nl.apply(deleteClsact(device), deleteLink("hlt0"));
  const seen: string[] = [];
  for await (const change of monitor) {
    if (change.kind === "rule") {
      const { family, bySource } = change.rule;
      seen.push(`${change.gone ? "-" : "+"}rule${family}${bySource ? " from" : ""}`);
    }
    if (change.kind === "filter") seen.push(`filter ${change.device}`);
    if (seen.filter((text) => text === `filter ${device}`).length === 2) break;
  }
  for (const wanted of ["+rule4 from", "-rule4 from", "+rule6 from", "-rule6 from"])
    assert.ok(seen.includes(wanted), `${wanted} in ${seen.join(" ")}`);
});

test("a monitor that is not read says that it lost changes", { timeout: 60_000 }, async () => {
  using monitor = watchNetwork(["route"], node);
  nl.apply(addVeth({ name: "hlt0", up: true }, { name: "hlt1" }), setLink("hlt1", { up: true }));
  const device = getLink(nl, "hlt0").index;
  const routes = Array.from({ length: 4000 }, (_, i) => ({
    destination: parsePrefix(`10.${i >> 8}.${i & 255}.0/24`),
    device,
  }));
  for (let round = 0; round < 2; round++) {
    nl.apply(...routes.map(addRoute));
    nl.apply(...routes.map(deleteRoute));
  }
  nl.apply(deleteLink("hlt0"));
  let lost = false;
  for await (const change of monitor) {
    lost = change.kind === "lost";
    if (lost) break;
  }
  assert.ok(lost);
});
