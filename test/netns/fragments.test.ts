// SPDX-License-Identifier: Apache-2.0
// Fragments of a datagram in every order in which a network may bring them, both ways through the translation, to real
// sockets that put them together.
import assert from "node:assert/strict";
import { createSocket, type Socket } from "node:dgram";
import { after, before, test } from "node:test";
import { sleep, waitFor } from "../../src/base/async.ts";
import { getLink } from "../../src/kernel/netlink/link.ts";
import { openRtNetlink } from "../../src/kernel/netlink/socket.ts";
import { datagramFd } from "../../src/kernel/socket.ts";
import { DropReason, Hook } from "../../src/maps/gen/verdict.ts";
import { JourneyNode, PODS } from "../kernels/journey-node.ts";
import { FrameSocket } from "../support/cable.ts";
import { ALL_ON } from "../support/datapath.ts";
import { INTERNET_ADDRESS, NODE_ADDRESS, OUTSIDE_PORT } from "../support/netns.ts";
import { eth, type Packet } from "../support/packet.ts";
import { FAMILIES, type Family } from "../support/transports.ts";

/** Bytes of each fragment but the last; a multiple of 8. */
const PART = 1400;
/** Three fragments: the UDP header and what does not fill the third. */
const BYTES = 3 * PART - 108;
const PORT = 42_000;
const ORDERS = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
] as const;

let node: JourneyNode;
let pod: FrameSocket;
let outside: FrameSocket;
const mac = { pod: "", podHost: "", eth0: "", outside: "" };

function macOf(netns: string, device: string): string {
  using netlink = openRtNetlink(netns);
  return getLink(netlink, device).mac ?? "";
}

before(async () => {
  node = await JourneyNode.make({ config: ALL_ON });
  using endpoints = node.datapath.table("endpoints");
  const [, endpoint] = [...endpoints.entries()].find(([, e]) => e.addr4 === PODS.a[4]) ?? [];
  Object.assign(mac, {
    pod: endpoint?.mac ?? "",
    podHost: endpoint?.hostMac ?? "",
    eth0: macOf(node.world.node, "eth0"),
    outside: macOf(node.world.outside, "eth0"),
  });
  pod = new FrameSocket(node.pods.a, "eth0");
  outside = new FrameSocket(node.world.outside, "eth0");
});
after(async () => {
  pod?.[Symbol.dispose]();
  outside?.[Symbol.dispose]();
  await node?.[Symbol.asyncDispose]();
});

/** A UDP socket of pod a and what it has received, the server's first line taken off. */
async function talker(family: Family): Promise<{ socket: Socket; heard: Buffer[]; seenPort: number }> {
  const fd = datagramFd({ netns: node.pods.a, host: PODS.a[family], port: PORT });
  const socket = createSocket(family === 4 ? "udp4" : "udp6");
  const heard: Buffer[] = [];
  let seenPort = 0;
  socket.on("message", (message) => {
    const line = message.toString("latin1").startsWith("{") ? message.indexOf("\n") + 1 : 0;
    if (line > 0) seenPort = JSON.parse(message.toString("utf8", 0, line)).peerPort;
    heard.push(message.subarray(line));
  });
  socket.bind({ fd });
  await waitFor(
    "the first echo",
    () => {
      socket.send("first", OUTSIDE_PORT.udp, INTERNET_ADDRESS[family]);
      return seenPort > 0;
    },
    { intervalMs: 50 },
  );
  heard.length = 0;
  return { socket, heard, seenPort };
}

interface Way {
  link: Packet;
  src: string;
  dst: string;
  sport: number;
  dport: number;
}

/** The datagram's fragments as frames, first to last. */
function fragments(family: Family, way: Way, id: number, bytes: Uint8Array): Uint8Array[] {
  const { link, src, dst, sport, dport } = way;
  const whole = link.ip({ src, dst }).udp({ sport, dport }).payload(bytes).bytes();
  const body = whole.subarray(14 + (family === 4 ? 20 : 40));
  return [0, 1, 2].map((n) => {
    const part = body.subarray(n * PART, (n + 1) * PART);
    const [offset, more] = [n * PART, n < 2];
    if (family === 4)
      return link.ipv4({ src, dst, id, mf: more, df: false, offset, protocol: 17 }).payload(part).bytes();
    const frame = link.ipv6({ src, dst }).fragment6({ id, offset, more }).payload(part).bytes();
    // The builder does not know what the fragments are of.
    frame[14 + 40] = 17;
    return frame;
  });
}

function dropped(hook: number): number {
  using counters = node.datapath.table("counters");
  const values = counters.getPerCpu(256 * hook + DropReason.DROP_FRAG_NOT_FOUND) ?? [];
  return values.reduce((sum, { packets }) => sum + Number(packets), 0);
}

let lastId = 7;

for (const family of FAMILIES) {
  for (const direction of ["out", "back"] as const) {
    test(`IPv${family} ${direction}: what comes after its first fragment is delivered in any order, the rest never untranslated`, async () => {
      const { socket, heard, seenPort } = await talker(family);
      const [internet, wire] = [INTERNET_ADDRESS[family], direction === "out" ? pod : outside];
      const way =
        direction === "out"
          ? {
              link: eth(mac.pod, mac.podHost),
              src: PODS.a[family],
              dst: internet,
              sport: PORT,
              dport: OUTSIDE_PORT.udp,
            }
          : {
              link: eth(mac.outside, mac.eth0),
              src: internet,
              dst: NODE_ADDRESS[family],
              sport: OUTSIDE_PORT.udp,
              dport: seenPort,
            };
      try {
        for (const order of ORDERS) {
          const before = dropped(Hook.HOOK_FROM_POD);
          const bytes = Buffer.alloc(BYTES, `${order.join("")} ${direction} `);
          const frames = fragments(family, way, ++lastId, bytes);
          for (const n of order) wire.send(frames[n] as Uint8Array);
          if (order[0] === 0) {
            await waitFor(`order ${order}`, () => heard.some((one) => one.equals(bytes)));
            continue;
          }
          if (direction === "out") {
            // Those before the first, and no other: they would have left under the pod's address.
            assert.equal(dropped(Hook.HOOK_FROM_POD) - before, order.indexOf(0), `order ${order}`);
          }
          await sleep(20);
          assert.ok(!heard.some((one) => one.equals(bytes)), "half a datagram is none");
        }
      } finally {
        socket.close();
      }
    });
  }
}
