// SPDX-License-Identifier: Apache-2.0
// What applications notice when the node no longer knows their connection, with real sockets: TCP ends at once with ECONNRESET,
// whether it was idle or in the middle of a bulk transfer, opened by the pod or from outside, and whoever sums its packets; a new
// one works. Datagrams and echoes go on by themselves. Both families.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server, Socket } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { MetricRow } from "../../src/api/metric.ts";
import { waitFor } from "../../src/base/async.ts";
import { connectFd, listenFd } from "../../src/kernel/socket.ts";
import { DropReason, Hook } from "../../src/maps/gen/verdict.ts";
import { openPinned } from "../../src/maps/table.ts";
import { peersSeen } from "../support/ask.ts";
import { AgentNode } from "../support/cni-node.ts";
import {
  buildTopology,
  GATEWAY_ADDRESS,
  INTERNET_ADDRESS,
  ip,
  NODE_ADDRESS,
  type Topology,
} from "../support/netns.ts";
import { TcpTalk, UdpTalk } from "../support/talk.ts";

const HOOKLINE = join(import.meta.dirname, "../../src/bin/hookline.ts");
const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];
const MOVED = { 4: "172.20.0.12", 6: "fd00:20::12" } as const;
const RESET = /ECONNRESET/;
/** Of the server that takes everything and says nothing. */
const SINK_PORT = 9000;
const POD_PORT = 8000;
/** Ethernet, and what one packet may have. */
const LARGEST_FRAME = 14 + 1500;

let world: Topology;
let node: AgentNode;
let pod: string;
let podAddress: Readonly<Record<Family, string>>;
/** Servers, and their ends of connections, of which the other end may be gone without a word. */
const open = new Set<Server | Socket>();

const hookline = async (...args: string[]): Promise<void> => {
  const done = await world.run(world.node, [process.execPath, HOOKLINE, "--run-dir", node.runDir, ...args]);
  assert.equal(done.status, 0, done.stderr);
};

async function resets(f: Family): Promise<number> {
  const rows = await node.get<MetricRow[]>("/v1/metrics");
  const row = rows.find(
    ({ name, labels }) => name === "hookline_tcp_resets_total" && labels.family === `ipv${f}`,
  );
  return row?.value ?? assert.fail("no metric");
}

/** Packets and bytes that pods sent for connections of which there is no record. */
function unknown(): { packets: number; bytes: number } {
  using counters = openPinned(node.bpfRoot, "counters");
  const perCpu = counters.getPerCpu(256 * Hook.HOOK_FROM_POD + DropReason.DROP_CT_CANT_CREATE) ?? [];
  const sum = (of: "packets" | "bytes"): number => perCpu.reduce((all, cpu) => all + Number(cpu[of]), 0);
  return { packets: sum("packets"), bytes: sum("bytes") };
}

/** A TCP server; ended with the tests. */
async function serve(
  netns: string,
  host: string,
  port: number,
  each: (socket: Socket) => void,
): Promise<void> {
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    open.add(socket);
    each(socket);
  });
  open.add(server);
  server.listen({ fd: listenFd({ netns, host, port }) });
  await once(server, "listening");
}

before(async () => {
  world = await buildTopology();
  node = new AgentNode(world);
  await node.start();
  const added = await node.addPod("one");
  pod = added.netns;
  podAddress = added.address;
  for (const f of FAMILIES)
    await serve(world.outside, INTERNET_ADDRESS[f], SINK_PORT, (socket) => socket.resume());
});
after(async () => {
  for (const one of open) one instanceof Socket ? one.destroy() : one.close();
  await world?.[Symbol.asyncDispose]();
});

async function connections(stack: DisposableStack): Promise<[Family, TcpTalk][]> {
  const talks: [Family, TcpTalk][] = [];
  for (const f of FAMILIES)
    talks.push([f, stack.use(await TcpTalk.open({ netns: pod, host: INTERNET_ADDRESS[f] }))]);
  return talks;
}

/** The connection says something and is told that nobody knows it. */
async function assertReset(talk: TcpTalk): Promise<void> {
  assert.equal(await talk.echoes("is anybody there?"), false);
  await waitFor("the connection to end", () => talk.ended !== undefined);
  assert.match(talk.ended ?? "", RESET);
}

async function assertAnew(source: Record<Family, string>): Promise<void> {
  for (const f of FAMILIES) {
    const target = `tcp:${INTERNET_ADDRESS[f]}`;
    assert.equal((await peersSeen(pod, [target]))[target], source[f]);
  }
}

/** Takes the node's addresses away and gives it these. */
function moveTo(address: Record<Family, string>): void {
  ip(world.node, [
    "addr flush dev eth0 scope global",
    `addr add ${address[4]}/24 dev eth0`,
    `addr add ${address[6]}/64 dev eth0 nodad`,
    `route replace default via ${GATEWAY_ADDRESS[4]}`,
    `route replace default via ${GATEWAY_ADDRESS[6]} dev eth0`,
  ]);
}

function devices(): string {
  using table = openPinned(node.bpfRoot, "devices");
  return [...table.entries()].map(([, { addr4, addr6 }]) => `${addr4} ${addr6}`).join();
}

/** Ends a bulk transfer of the pod by a flush; gives the packets that nobody knew meanwhile. */
async function endInTheMiddle(f: Family): Promise<{ packets: number; bytes: number }> {
  const socket = new Socket({
    fd: connectFd({ netns: pod, host: INTERNET_ADDRESS[f], port: SINK_PORT }),
    readable: true,
    writable: true,
  });
  let why = "";
  socket.on("error", (error) => {
    why = error.message;
  });
  const piece = Buffer.alloc(1 << 20);
  const pump = (): void => {
    if (!socket.destroyed) socket.write(piece, () => setImmediate(pump));
  };
  try {
    pump();
    await waitFor("the transfer to be under way", () => socket.bytesWritten > 32 << 20);
    const before = unknown();
    await hookline("bpf", "nat", "flush", "--force");
    await waitFor("the transfer to end", () => why !== "");
    assert.match(why, /ECONNRESET|EPIPE/);
    const { packets, bytes } = unknown();
    return { packets: packets - before.packets, bytes: bytes - before.bytes };
  } finally {
    socket.destroy();
  }
}

describe("records that are flushed", () => {
  for (const [noun, ...more] of [
    ["nat", "flush"],
    ["ct", "flush", "global"],
  ] as const) {
    test(`bpf ${noun} flush: an idle connection ends at its next word, a new one works`, async () => {
      using stack = new DisposableStack();
      const talks = await connections(stack);
      const before = await Promise.all(FAMILIES.map(resets));
      await hookline("bpf", noun, ...more, "--force");
      for (const [, talk] of talks) {
        assert.equal(talk.ended, undefined, "nothing was sent yet");
        await assertReset(talk);
      }
      const now = await Promise.all(FAMILIES.map(resets));
      assert.deepEqual(
        now.map((count, i) => count - (before[i] ?? 0)),
        [1, 1],
      );
      await assertAnew(NODE_ADDRESS);
    });
  }

  test("a pod that sums its packets itself believes the answer's sum", async () => {
    using stack = new DisposableStack();
    const ethtool = (...args: string[]) => world.run(pod, ["ethtool", "-K", "eth0", ...args]);
    assert.equal((await ethtool("tx", "off")).status, 0);
    try {
      const talks = await connections(stack);
      await hookline("bpf", "nat", "flush", "--force");
      for (const [, talk] of talks) await assertReset(talk);
    } finally {
      assert.equal((await ethtool("tx", "on", "tso", "on", "gso", "on")).status, 0);
    }
  });

  for (const f of FAMILIES) {
    test(`IPv${f}: a bulk transfer ends in the middle, answered out of segments of many packets`, async () => {
      // What is under way when its record goes may happen to be small.
      let large = false;
      for (let transfers = 0; transfers < 10 && !large; transfers++) {
        const { packets, bytes } = await endInTheMiddle(f);
        large = bytes > LARGEST_FRAME * packets;
      }
      assert.ok(large, "no large one in ten transfers");
    });

    test(`IPv${f}: a connection from outside to the pod ends the same way`, async () => {
      let inside: Socket | undefined;
      let why = "";
      await serve(pod, podAddress[f], POD_PORT, (socket) => {
        inside = socket;
        socket.on("error", (error) => {
          why = error.message;
        });
      });
      using stack = new DisposableStack();
      const place = { netns: world.outside, host: podAddress[f], port: POD_PORT };
      const client = stack.adopt(
        new Socket({ fd: connectFd(place), readable: true, writable: true }),
        (socket) => socket.destroy(),
      );
      client.on("error", () => undefined);
      const server = await waitFor("the pod to accept", () => inside);
      await hookline("bpf", "ct", "flush", "global", "--force");
      server.write("an answer that nobody has asked for any more\n");
      await waitFor("the pod's end to be told", () => why !== "");
      assert.match(why, RESET);
    });
  }
});

test("an address that the node loses: TCP ends, datagrams and echoes go on under the new one", async () => {
  using stack = new DisposableStack();
  const talks = await connections(stack);
  const datagrams = FAMILIES.map((f) => stack.use(new UdpTalk({ netns: pod, host: INTERNET_ADDRESS[f] })));
  for (const [i, talk] of datagrams.entries())
    assert.equal(await talk.peer(), NODE_ADDRESS[FAMILIES[i] as Family]);
  const echoes = FAMILIES.map((f) => {
    const child = world.spawn(pod, ["ping", "-n", "-i", "0.2", INTERNET_ADDRESS[f]]);
    let answers = 0;
    child.stdout?.on("data", (text: Buffer) => {
      answers += text.toString().split("bytes from").length - 1;
    });
    return { child, answers: () => answers };
  });
  try {
    await waitFor("echoes", () => echoes.every(({ answers }) => answers() > 0));
    moveTo(MOVED);
    await waitFor("the agent to follow", () => devices() === `${MOVED[4]} ${MOVED[6]}`);
    // Devices are written first, then flows under the old address end.
    for (const [, talk] of talks)
      await waitFor("nobody to answer", async () => !(await talk.echoes("still there")));
    for (const [, talk] of talks) await assertReset(talk);
    await assertAnew(MOVED);
    for (const [i, talk] of datagrams.entries())
      await waitFor("the new address", async () => (await talk.peer()) === MOVED[FAMILIES[i] as Family]);
    const heard = echoes.map(({ answers }) => answers());
    await waitFor("more echoes", () => echoes.every(({ answers }, i) => answers() > (heard[i] ?? 0)));
  } finally {
    for (const { child } of echoes) child.kill();
    moveTo(NODE_ADDRESS);
    await waitFor("the agent to follow", () => devices() === `${NODE_ADDRESS[4]} ${NODE_ADDRESS[6]}`);
  }
});

test("an address that is back within a moment: connections go on", async () => {
  using stack = new DisposableStack();
  const talks = await connections(stack);
  ip(world.node, ["addr flush dev eth0 scope global"]);
  await waitFor("the agent to have seen it", () => devices() === ":: ::");
  moveTo(NODE_ADDRESS);
  await waitFor("the agent to follow", () => devices() === `${NODE_ADDRESS[4]} ${NODE_ADDRESS[6]}`);
  for (const [, talk] of talks) assert.ok(await talk.echoes("still there"), talk.ended ?? "no answer");
});
