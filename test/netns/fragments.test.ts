// SPDX-License-Identifier: Apache-2.0
// Fragments of a datagram in every order in which a network may bring them, both ways through the translation, to real
// sockets that put them together: UDP and ping, with host routing and through the node's stack. A sender of fragments without a
// first one harms nobody else, and every one of them is accounted for.
import assert from "node:assert/strict";
import { createSocket, type Socket } from "node:dgram";
import { closeSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { sleep, waitFor } from "../../src/base/async.ts";
import { allocate, checked, libc } from "../../src/kernel/ffi.ts";
import { getLink } from "../../src/kernel/netlink/link.ts";
import { openRtNetlink } from "../../src/kernel/netlink/socket.ts";
import { withNetns } from "../../src/kernel/netns.ts";
import { datagramFd } from "../../src/kernel/socket.ts";
import { readFates, waitingFragments } from "../../src/maps/fragments.ts";
import { DropReason, Hook } from "../../src/maps/gen/verdict.ts";
import { JourneyNode, PODS } from "../kernels/journey-node.ts";
import { FrameSocket } from "../support/cable.ts";
import { ALL_ON } from "../support/datapath.ts";
import { cut, type Envelope, orders } from "../support/fragments.ts";
import { INTERNET_ADDRESS, NODE_ADDRESS, OUTSIDE_PORT } from "../support/netns.ts";
import { eth, type Packet } from "../support/packet.ts";
import { FAMILIES, type Family } from "../support/transports.ts";

/** Bytes of each fragment but the last. */
const PART = 1400;
/** Four fragments: the transport header and what does not fill the fourth. */
const BYTES = 4 * PART - 108;
const PORT = 42_000;
const UDP = 17;
const ICMP: Record<Family, number> = { 4: 1, 6: 58 };
const ECHO = { 4: { request: 8, reply: 0 }, 6: { request: 128, reply: 129 } } as const;
const [AF_INET, AF_INET6, SOCK_RAW] = [2, 10, 3];
const SOCK_NONBLOCK = 0o4000;

type PodName = "a" | "b";
const isOneOf = (heard: readonly Uint8Array[], bytes: Uint8Array): boolean =>
  heard.some((one) => Buffer.compare(one, bytes) === 0);

/** A node with its real programs, and sockets that put frames on its cables from outside of it. */
class World implements AsyncDisposable {
  readonly node: JourneyNode;
  readonly pod: Readonly<Record<PodName, FrameSocket>>;
  readonly outside: FrameSocket;
  readonly #macs: Readonly<Record<PodName | "podHostA" | "podHostB" | "eth0" | "outside", string>>;

  private constructor(node: JourneyNode) {
    this.node = node;
    using endpoints = node.datapath.table("endpoints");
    const all = [...endpoints.entries()].map(([, endpoint]) => endpoint);
    const [a, b] = (["a", "b"] as const).map((name) => all.find((e) => e.addr4 === PODS[name][4]));
    const mac = (netns: string): string => {
      using netlink = openRtNetlink(netns);
      return getLink(netlink, "eth0").mac ?? "";
    };
    this.#macs = {
      a: a?.mac ?? "",
      b: b?.mac ?? "",
      podHostA: a?.hostMac ?? "",
      podHostB: b?.hostMac ?? "",
      eth0: mac(node.world.node),
      outside: mac(node.world.outside),
    };
    this.pod = { a: new FrameSocket(node.pods.a, "eth0"), b: new FrameSocket(node.pods.b, "eth0") };
    this.outside = new FrameSocket(node.world.outside, "eth0");
  }

  static async make(hostRouting: number): Promise<World> {
    return new World(await JourneyNode.make({ config: { ...ALL_ON, hostRouting } }));
  }

  /** From a pod to the internet. */
  out(family: Family, pod: PodName = "a"): Omit<Envelope, "id"> {
    const host = pod === "a" ? "podHostA" : "podHostB";
    return {
      link: eth(this.#macs[pod], this.#macs[host]),
      src: PODS[pod][family],
      dst: INTERNET_ADDRESS[family],
    };
  }

  /** From the internet to the node. */
  back(family: Family): Omit<Envelope, "id"> {
    return {
      link: eth(this.#macs.outside, this.#macs.eth0),
      src: INTERNET_ADDRESS[family],
      dst: NODE_ADDRESS[family],
    };
  }

  /** The port, or identifier, that a flow of pod a has on the node. */
  seenPort(family: Family, proto: number, port: number): number {
    const [, flow] =
      this.node
        .flows()
        .find(([key]) => key.proto === proto && key.sport === port && key.saddr === PODS.a[family]) ?? [];
    assert.ok(flow, "the flow is open");
    return flow.xsport;
  }

  fates() {
    using counts = this.node.datapath.table("frag_counts");
    return readFates(counts);
  }

  dropped(hook: number): number {
    using counters = this.node.datapath.table("counters");
    const values = counters.getPerCpu(256 * hook + DropReason.DROP_FRAG_NOT_FOUND) ?? [];
    return values.reduce((sum, { packets }) => sum + Number(packets), 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of [this.pod.a, this.pod.b, this.outside]) socket[Symbol.dispose]();
    await this.node[Symbol.asyncDispose]();
  }
}

/** A UDP socket of a pod and what it hears from the echo server, the server's first line taken off. */
async function talker(world: World, family: Family, pod: PodName = "a") {
  const fd = datagramFd({ netns: world.node.pods[pod], host: PODS[pod][family], port: PORT });
  const socket: Socket = createSocket(family === 4 ? "udp4" : "udp6");
  const heard: Buffer[] = [];
  socket.on("message", (message) => {
    const line = message.toString("latin1").startsWith("{") ? message.indexOf("\n") + 1 : 0;
    heard.push(message.subarray(line));
  });
  socket.bind({ fd });
  await waitFor(
    "the first echo",
    () => {
      socket.send("first", OUTSIDE_PORT.udp, INTERNET_ADDRESS[family]);
      return heard.length > 0;
    },
    { intervalMs: 50 },
  );
  heard.length = 0;
  return { heard: () => heard, close: () => socket.close() };
}

/** A raw socket of pod a, and the payloads of the echo replies that it hears. */
function pinger(world: World, family: Family) {
  const fd = withNetns(world.node.pods.a, () =>
    checked(
      "socket.open",
      "raw",
      libc.socket(family === 4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_NONBLOCK, ICMP[family]),
    ),
  );
  const room = allocate(65_536);
  const heard: Uint8Array[] = [];
  return {
    heard: () => {
      for (;;) {
        const size = libc.recv(fd, room, room.length, 0);
        if (size < 0) return heard;
        const icmp = family === 4 ? ((room[0] ?? 0) % 16) << 2 : 0;
        if (room[icmp] === ECHO[family].reply) heard.push(room.slice(icmp + 8, size));
      }
    },
    close: () => closeSync(fd),
  };
}

let lastId = 7;

for (const [how, hostRouting] of [
  ["host routing", 1],
  ["the node's stack", 0],
] as const) {
  describe(how, () => {
    let world: World;
    before(async () => {
      world = await World.make(hostRouting);
    });
    after(() => world?.[Symbol.asyncDispose]());

    for (const family of FAMILIES) {
      /** Sends the datagram in every order, each with a payload of its own, and waits until it has been heard. */
      const inEveryOrder = async (
        [wire, way]: [FrameSocket, Omit<Envelope, "id">],
        heard: () => readonly Uint8Array[],
        datagram: (on: Packet, bytes: Uint8Array) => Packet,
      ): Promise<void> => {
        const before = world.fates();
        let waited = 0;
        for (const order of orders(4)) {
          const bytes = Buffer.alloc(BYTES, `${++lastId} in the order ${order} `);
          const frames = cut(family, { ...way, id: lastId }, (on) => datagram(on, bytes), PART);
          for (const n of order) wire.send(frames[n] as Uint8Array);
          await waitFor(`order ${order}`, () => isOneOf(heard(), bytes), { intervalMs: 2 });
          waited += order.indexOf(0);
        }
        const { held, released, ended } = world.fates();
        assert.deepEqual(
          [held - before.held, released - before.released, ended],
          [waited, waited, before.ended],
        );
      };

      test(`IPv${family} UDP out: every order reaches the socket outside, whose echo comes back`, async () => {
        const { heard, close } = await talker(world, family);
        const ports = { sport: PORT, dport: OUTSIDE_PORT.udp };
        try {
          await inEveryOrder([world.pod.a, world.out(family)], heard, (on, bytes) =>
            on.udp(ports).payload(bytes),
          );
        } finally {
          close();
        }
      });

      test(`IPv${family} UDP back: every order reaches the pod's socket`, async () => {
        const { heard, close } = await talker(world, family);
        const ports = { sport: OUTSIDE_PORT.udp, dport: world.seenPort(family, UDP, PORT) };
        try {
          await inEveryOrder([world.outside, world.back(family)], heard, (on, bytes) =>
            on.udp(ports).payload(bytes),
          );
        } finally {
          close();
        }
      });

      test(`IPv${family} ping: requests in every order are answered, and so are replies heard`, async () => {
        const { heard, close } = pinger(world, family);
        const id = 4242;
        const { request, reply } = ECHO[family];
        try {
          await inEveryOrder([world.pod.a, world.out(family)], heard, (on, bytes) =>
            on.icmp({ type: request, id, seq: lastId }).payload(bytes),
          );
          const seen = world.seenPort(family, ICMP[family], id);
          await inEveryOrder([world.outside, world.back(family)], heard, (on, bytes) =>
            on.icmp({ type: reply, id: seen, seq: lastId }).payload(bytes),
          );
        } finally {
          close();
        }
      });

      test(`IPv${family}: a pod that sends no first fragments starves nobody, and each is accounted for`, async () => {
        const { heard, close } = await talker(world, family, "b");
        const hook = hostRouting ? Hook.HOOK_FROM_POD : Hook.HOOK_TO_NET;
        const before = { ...world.fates(), dropped: world.dropped(hook) };
        const flood = 1000;
        const ports = { sport: PORT, dport: OUTSIDE_PORT.udp };
        const datagram = (pod: PodName, bytes: Uint8Array): Uint8Array[] =>
          cut(
            family,
            { ...world.out(family, pod), id: ++lastId },
            (on) => on.udp(ports).payload(bytes),
            PART,
          );
        try {
          for (let i = 0; i < flood; i++)
            world.pod.a.send(datagram("a", Buffer.alloc(2 * PART))[1] as Uint8Array);
          for (let i = 0; i < 10; i++) {
            const bytes = Buffer.alloc(BYTES, `neighbour ${i} `);
            for (const frame of datagram("b", bytes).reverse()) world.pod.b.send(frame);
            await waitFor(`datagram ${i}`, () => isOneOf(heard(), bytes), { intervalMs: 2 });
          }
          await waitFor("the end of all that waits", async () => {
            await world.node.datapath.sweepFragments();
            return waitingFragments(world.fates()) === 0;
          });
          const now = world.fates();
          assert.equal(now.released - before.released, 30);
          assert.ok(now.ended > before.ended, "some of the flood were held");
          assert.equal(
            world.dropped(hook) - before.dropped,
            flood,
            "all of the flood and nothing else is dropped",
          );
        } finally {
          close();
        }
      });
    }
  });
}

test("a first fragment that comes when the rest has been given up is alone", async () => {
  await using world = await World.make(1);
  const { heard, close } = await talker(world, 4);
  const bytes = Buffer.alloc(BYTES, "too late ");
  const ports = { sport: PORT, dport: OUTSIDE_PORT.udp };
  const frames = cut(4, { ...world.out(4), id: ++lastId }, (on) => on.udp(ports).payload(bytes), PART);
  for (const frame of frames.slice(1)) world.pod.a.send(frame);
  await waitFor("three to wait", () => waitingFragments(world.fates()) === 3);
  await waitFor("their end", async () => {
    await world.node.datapath.sweepFragments();
    return waitingFragments(world.fates()) === 0;
  });
  world.pod.a.send(frames[0] as Uint8Array);
  await sleep(50);
  assert.ok(!isOneOf(heard(), bytes), "half a datagram is none");
  assert.equal(world.dropped(Hook.HOOK_FROM_POD), 3);
  close();
});
