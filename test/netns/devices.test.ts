// SPDX-License-Identifier: Apache-2.0
// Native devices at run time, in real namespaces with a running agent: a second network card comes, is renamed, gets another
// address under traffic, goes under traffic and comes back; somebody takes our programs off; and a card that a routing rule
// sends pods to. Both families throughout.
//
//   node eth0 172.20.0.11 ---- outside: the internet (198.51.100.10), by the default route
//   node eth1 172.21.0.11 ---- second:  198.18.0.10, by a route to 198.18.0.0/24
import assert from "node:assert/strict";
import { closeSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { StatusReport } from "../../src/agent/status.ts";
import { waitFor } from "../../src/base/async.ts";
import { linkDetach } from "../../src/kernel/bpf.ts";
import { hasTcx } from "../../src/kernel/features.ts";
import { getLink, listLinks } from "../../src/kernel/netlink/link.ts";
import { openRtNetlink } from "../../src/kernel/netlink/socket.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import { DeviceFlag } from "../../src/maps/gen/verdict.ts";
import { linkPin, openPin } from "../../src/maps/pins.ts";
import { openInner, openPinned } from "../../src/maps/table.ts";
import { ask, peersSeen } from "../support/ask.ts";
import { AgentNode } from "../support/cni-node.ts";
import {
  buildTopology,
  GATEWAY_ADDRESS,
  INTERNET_ADDRESS,
  ip,
  NODE_ADDRESS,
  NON_MASQUERADE_ADDRESS,
  POD_CIDR,
  type Topology,
} from "../support/netns.ts";
import { TcpTalk, UdpTalk } from "../support/talk.ts";

const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];
const SECOND = { 4: "172.21.0.11", 6: "fd00:21::11" } as const;
const MOVED = { 4: "172.21.0.12", 6: "fd00:21::12" } as const;
const SECOND_GATEWAY = { 4: "172.21.0.254", 6: "fd00:21::fe" } as const;
const BY_SECOND = { 4: "198.18.0.10", 6: "2001:db8:18::10" } as const;

let world: Topology;
let node: AgentNode;
let second: string;
let pod: string;
let podAddress: Record<Family, string>;

/** The ConfigMap with these values over those of the beginning. */
const setConfig = (values: Record<string, string>): void => node.setConfig({ devices: "eth+", ...values });

const status = (): Promise<StatusReport> => node.get<StatusReport>("/v1/status");

function ifindexOf(name: string): number {
  using netlink = openRtNetlink(world.node);
  return getLink(netlink, name).index;
}

/** A cable from the node to `second`; it has its addresses and routes only if they are asked for. */
function plug(name: string, index?: number): void {
  const number = index === undefined ? "" : ` index ${index}`;
  ip(world.node, [`link add ${name}${number} type veth peer name eth0 netns ${second}`]);
  ip(second, [
    ...FAMILIES.map(
      (f) => `addr add ${SECOND_GATEWAY[f]}/${f === 4 ? 24 : 64} dev eth0${f === 6 ? " nodad" : ""}`,
    ),
    "link set eth0 up",
    ...FAMILIES.map((f) => `route add ${POD_CIDR[f]} via ${SECOND[f]}`),
  ]);
  configure(name, SECOND);
}

function configure(name: string, address: Record<Family, string>): void {
  ip(world.node, [
    `addr replace ${address[4]}/24 dev ${name}`,
    `addr replace ${address[6]}/64 dev ${name} nodad`,
    `link set ${name} up`,
    `route replace 198.18.0.0/24 via ${SECOND_GATEWAY[4]}`,
    `route replace 2001:db8:18::/64 via ${SECOND_GATEWAY[6]} dev ${name}`,
  ]);
}

function devices(): string[] {
  using table = openPinned(node.bpfRoot, "devices");
  return [...table.entries()].map(([index, d]) => `${index} ${d.addr4} ${d.addr6}`).sort();
}

/** Until the agent has followed: the map holds the device and its programs are on it. */
async function followed(name: string, address: Record<Family, string>): Promise<void> {
  const wanted = `${ifindexOf(name)} ${address[4]} ${address[6]}`;
  await waitFor(`${name} in the map`, () => devices().includes(wanted));
  await waitFor(`programs on ${name}`, async () =>
    (await status()).devices.some((d) => d.name === name && d.attached),
  );
}

/** Translated sources of the records in the flow table. */
function translations(): Set<string> {
  const tables = openInner(node.bpfRoot, "flows");
  try {
    return new Set(tables.flatMap((table) => [...table.entries()].map(([, flow]) => flow.xsaddr)));
  } finally {
    for (const table of tables) table.close();
  }
}

/** Conversations over the second card in both families, ended with the stack. */
function datagramsOverSecond(stack: DisposableStack): [Family, UdpTalk][] {
  return FAMILIES.map((f) => [f, stack.use(new UdpTalk({ netns: pod, host: BY_SECOND[f] }))]);
}
async function connectionsOverSecond(stack: DisposableStack): Promise<TcpTalk[]> {
  const talks: TcpTalk[] = [];
  for (const f of FAMILIES) talks.push(stack.use(await TcpTalk.open({ netns: pod, host: BY_SECOND[f] })));
  return talks;
}

async function seen(host: string): Promise<string | undefined> {
  return (await peersSeen(pod, [`tcp:${host}`]))[`tcp:${host}`];
}

before(async () => {
  world = await buildTopology();
  second = world.addNetns("second");
  ip(
    second,
    FAMILIES.map((f) => `addr add ${BY_SECOND[f]}/${f === 4 ? 32 : 128} dev lo`),
  );
  await world.serve(second, "second", Object.values(BY_SECOND));
  node = new AgentNode(world);
  setConfig({});
  await node.start();
  const added = await node.addPod("one");
  pod = added.netns;
  podAddress = added.address;
});
after(() => world?.[Symbol.asyncDispose]());

test("the only device says whether a route depends on a source port: by rule, or among several next hops", async () => {
  const told = (byPort: boolean) => (): boolean => {
    using table = openPinned(node.bpfRoot, "devices");
    return [...table.entries()].every(([, d]) => !(d.flags & DeviceFlag.DEVICE_ONE_WAY) === byPort);
  };
  const policy = (f: Family, value: number): unknown =>
    writeSysctl(`net.ipv${f}.fib_multipath_hash_policy`, value, world.node);
  const rule = (f: Family, verb: string): void => ip(world.node, [`rule ${verb} sport 7000 lookup main`], f);
  await waitFor("none by port", told(false));
  for (const f of FAMILIES) {
    const changes = [() => policy(f, 1), () => policy(f, 0), () => rule(f, "add"), () => rule(f, "del")];
    for (const [at, change] of changes.entries()) {
      change();
      await waitFor(`IPv${f} change ${at}`, told(at % 2 === 0));
    }
  }
});

describe("a second network card", () => {
  test("comes: pods leave by it under its own address, by the first as before", async () => {
    plug("eth1");
    await followed("eth1", SECOND);
    for (const f of FAMILIES) {
      assert.equal(await seen(BY_SECOND[f]), SECOND[f]);
      assert.equal(await seen(INTERNET_ADDRESS[f]), NODE_ADDRESS[f]);
    }
  });

  test("is renamed: what goes through it goes on", async () => {
    using stack = new DisposableStack();
    const talks = await connectionsOverSecond(stack);
    ip(world.node, ["link set eth1 down", "link set eth1 name eth7"]);
    // A device that is down has no IPv6 addresses. The agent has seen that, and flows under them wait for their return.
    await waitFor("the loss to be seen", () => devices().some((text) => text.endsWith(`${SECOND[4]} ::`)));
    configure("eth7", SECOND);
    await followed("eth7", SECOND);
    for (const talk of talks) assert.ok(await talk.echoes("still there"), talk.ended ?? "no answer");
    ip(world.node, ["link set eth7 down", "link set eth7 name uplink"]);
    configure("uplink", SECOND);
    await waitFor("uplink to be no native device", () => devices().length === 1);
    ip(world.node, ["link set uplink down", "link set uplink name eth1"]);
    configure("eth1", SECOND);
    await followed("eth1", SECOND);
    for (const f of FAMILIES) assert.equal(await seen(BY_SECOND[f]), SECOND[f]);
  });

  test("gets another address under traffic: new and datagram flows take it, the others end", async () => {
    using stack = new DisposableStack();
    const talks = datagramsOverSecond(stack);
    for (const [f, talk] of talks) assert.equal(await talk.peer(), SECOND[f]);
    const first = stack.use(await TcpTalk.open({ netns: pod, host: INTERNET_ADDRESS[4] }));
    ip(world.node, [`addr flush dev eth1 scope global`]);
    configure("eth1", MOVED);
    await followed("eth1", MOVED);
    for (const [f, talk] of talks) {
      assert.equal(await waitFor("an answer", () => talk.peer(1000)), MOVED[f]);
      assert.equal(await seen(BY_SECOND[f]), MOVED[f]);
    }
    assert.ok(
      [...translations()].every((a) => a !== SECOND[4] && a !== SECOND[6]),
      "records of the old address",
    );
    assert.ok(await first.echoes("by the first card"), first.ended ?? "no answer");
    ip(world.node, ["addr flush dev eth1 scope global"]);
    configure("eth1", SECOND);
    await followed("eth1", SECOND);
  });

  test("gets another address while no agent runs: the next one ends the flows under the old", async () => {
    using stack = new DisposableStack();
    for (const [f, talk] of datagramsOverSecond(stack)) assert.equal(await talk.peer(), SECOND[f]);
    await node.stop("SIGKILL");
    ip(world.node, ["addr flush dev eth1 scope global"]);
    configure("eth1", MOVED);
    assert.ok(translations().has(SECOND[4]));
    await node.start();
    await followed("eth1", MOVED);
    assert.ok(!FAMILIES.some((f) => translations().has(SECOND[f])), "records of the old address");
    for (const f of FAMILIES) assert.equal(await seen(BY_SECOND[f]), MOVED[f]);
    ip(world.node, ["addr flush dev eth1 scope global"]);
    configure("eth1", SECOND);
    await followed("eth1", SECOND);
  });

  test("loses a route to the first: what is new leaves there, under that one's address, and comes back", async () => {
    const answering = (verb: string): void =>
      ip(
        world.outside,
        FAMILIES.map((f) => `addr ${verb} ${BY_SECOND[f]}/${f === 4 ? 32 : 128} dev lo`),
      );
    answering("add");
    const routed = (gateway: Record<Family, string>, device: string): void =>
      ip(world.node, [
        `route replace 198.18.0.0/24 via ${gateway[4]}`,
        `route replace 2001:db8:18::/64 via ${gateway[6]} dev ${device}`,
      ]);
    routed(GATEWAY_ADDRESS, "eth0");
    for (const f of FAMILIES) {
      const { peer, server } = await ask(pod, `tcp:${BY_SECOND[f]}`);
      assert.deepEqual([peer, server], [NODE_ADDRESS[f], "outside"]);
    }
    routed(SECOND_GATEWAY, "eth1");
    for (const f of FAMILIES) {
      const { peer, server } = await ask(pod, `tcp:${BY_SECOND[f]}`);
      assert.deepEqual([peer, server], [SECOND[f], "second"]);
    }
    answering("del");
  });

  test("is native without being named as long as it has a default route", async () => {
    setConfig({ devices: "" });
    await waitFor("the first alone", () => devices().length === 1);
    for (const f of FAMILIES) {
      const route = `default via ${SECOND_GATEWAY[f]} dev eth1 metric 5000`;
      ip(world.node, [`route add ${route}`]);
      await followed("eth1", SECOND);
      assert.equal(await seen(BY_SECOND[f]), SECOND[f]);
      ip(world.node, [`route del ${route}`]);
      await waitFor("the first alone", () => devices().length === 1);
    }
    setConfig({});
    await followed("eth1", SECOND);
  });

  test("goes under traffic: its entry, links and flows go, the rest goes on; it comes back as another", async () => {
    const index = ifindexOf("eth1");
    using stack = new DisposableStack();
    const first = stack.use(await TcpTalk.open({ netns: pod, host: INTERNET_ADDRESS[6] }));
    const talks = datagramsOverSecond(stack);
    await connectionsOverSecond(stack);
    for (const [f, talk] of talks) assert.equal(await talk.peer(), SECOND[f]);
    ip(world.node, ["link del eth1"]);
    await waitFor("the map entry to go", () => devices().length === 1);
    const links = (): string[] => readdirSync(join(node.bpfRoot, "links"));
    await waitFor("the links to go", () => !links().some((pin) => pin.endsWith(`_${index}`)));
    await waitFor("its flows to go", () => !FAMILIES.some((f) => translations().has(SECOND[f])));
    assert.ok(await first.echoes("by the first card"), first.ended ?? "no answer");
    for (const [f, talk] of talks) {
      // By the default route now, where nobody has the address; under the first card's, not the dead one's.
      assert.equal(await talk.peer(1000), undefined);
      await waitFor("a flow by the first card", () => translations().has(NODE_ADDRESS[f]));
    }
    assert.deepEqual((await status()).faults, []);
    plug("eth1", index + 100);
    await followed("eth1", SECOND);
    for (const f of FAMILIES) assert.equal(await seen(BY_SECOND[f]), SECOND[f]);
  });

  test("whose number another card takes at once carries the programs", async () => {
    const index = ifindexOf("eth1");
    ip(world.node, ["link del eth1"]);
    plug("eth1", index);
    await followed("eth1", SECOND);
    await waitFor("its address", async () => (await seen(BY_SECOND[4])) === SECOND[4]);
    assert.equal(await seen(BY_SECOND[6]), SECOND[6]);
  });
});

describe("programs that somebody takes off", () => {
  const whole = async (what: string): Promise<void> => {
    for (const f of FAMILIES) {
      const unmasked = async (): Promise<boolean> => (await seen(INTERNET_ADDRESS[f])) === NODE_ADDRESS[f];
      await waitFor(`IPv${f} to be masqueraded ${what}`, unmasked);
    }
  };

  test("a pod's filters, one by one and with their qdisc, are put back at once", async () => {
    const device = podDevice();
    const tc = (...args: string[]) => world.run(world.node, ["tc", ...args]);
    for (const args of [
      ["filter", "del", "dev", device, "ingress"],
      ["filter", "del", "dev", device, "egress"],
      ["qdisc", "del", "dev", device, "clsact"],
    ]) {
      const done = await tc(...args);
      assert.equal(done.status, 0, done.stderr);
      await waitFor(`${args.join(" ")} to be undone`, async () => {
        const listed = await Promise.all(
          ["ingress", "egress"].map((direction) => tc("filter", "show", "dev", device, direction)),
        );
        return /from_pod/.test(listed[0]?.stdout ?? "") && /to_pod/.test(listed[1]?.stdout ?? "");
      });
      await whole(`after ${args.join(" ")}`);
    }
  });

  test("a detached link of a native device is made anew by the next review", {
    skip: hasTcx() ? false : "this kernel has no TCX links",
  }, async () => {
    const index = ifindexOf("eth0");
    for (const hook of ["from_net", "to_net"] as const) {
      const fd = openPin(linkPin(node.bpfRoot, hook, index));
      assert.ok(fd !== undefined, `link of ${hook}`);
      linkDetach(fd, hook);
      closeSync(fd);
    }
    await whole("after its links were detached");
  });
});

function podDevice(): string {
  using netlink = openRtNetlink(world.node);
  return listLinks(netlink).find((link) => link.name.startsWith("hl"))?.name ?? assert.fail("no pod device");
}

/** What a cloud writes for a pod with an address of a further card. */
function ruleFor(verb: "add" | "del"): void {
  for (const f of FAMILIES) {
    const route = `route ${verb} default via ${SECOND_GATEWAY[f]} dev eth1 table 11`;
    ip(world.node, [`rule ${verb} from ${podAddress[f]} lookup 11`, route], f);
  }
}

for (const legacy of ["false", "true"]) {
  describe(`a pod that a routing rule sends out of the second card, enable-host-legacy-routing ${legacy}`, () => {
    before(async () => {
      setConfig({ "enable-host-legacy-routing": legacy });
      ip(
        second,
        FAMILIES.map((f) => `addr add ${NON_MASQUERADE_ADDRESS[f]}/${f === 4 ? 32 : 128} dev lo`),
      );
      // The second network knows no way to the internet, and would not let the node's first address in.
      await waitFor(
        "routing",
        async () => (await status()).routing.host === (legacy === "true" ? "Legacy" : "BPF"),
      );
      ruleFor("add");
      using table = openPinned(node.bpfRoot, "devices");
      await waitFor("the rule", () => [...table.entries()].every(([, device]) => device.flags & 2));
    });
    after(() => {
      ruleFor("del");
      ip(
        second,
        FAMILIES.map((f) => `addr del ${NON_MASQUERADE_ADDRESS[f]}/${f === 4 ? 32 : 128} dev lo`),
      );
      setConfig({});
    });

    for (const f of FAMILIES) {
      test(`IPv${f}: what is masqueraded leaves by the first card under the node's address`, async () => {
        const targets = ["tcp", "udp", "http"].map((protocol) => `${protocol}:${INTERNET_ADDRESS[f]}`);
        assert.deepEqual(
          await peersSeen(pod, targets),
          Object.fromEntries(targets.map((target) => [target, NODE_ADDRESS[f]])),
        );
        using talk = await TcpTalk.open({ netns: pod, host: INTERNET_ADDRESS[f] });
        for (const line of ["one", "two", "three"])
          assert.ok(await talk.echoes(line), talk.ended ?? "no answer");
      });

      test(`IPv${f}: by a route to the destination it leaves by the second, under that one's address`, async () => {
        assert.equal(await seen(BY_SECOND[f]), SECOND[f]);
      });

      test(`IPv${f}: what keeps the pod's address leaves by the second, as the rule says`, async () => {
        assert.equal(await seen(NON_MASQUERADE_ADDRESS[f]), podAddress[f]);
        const { server } = await ask(pod, `tcp:${NON_MASQUERADE_ADDRESS[f]}`);
        assert.equal(server, "second");
      });
    }
  });
}
