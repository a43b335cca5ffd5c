// SPDX-License-Identifier: Apache-2.0
// The node's address is shared by pods and the node's own sockets, whoever came first; and a pod's address by one pod after the
// other, of which the later never hears what was meant for the earlier. With real sockets, both families.
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import { sleep, waitFor } from "../../src/base/async.ts";
import { allocate, checked, libc } from "../../src/kernel/ffi.ts";
import { withNetns } from "../../src/kernel/netns.ts";
import { datagramFd, listenFd } from "../../src/kernel/socket.ts";
import { openInner, openPinned } from "../../src/maps/table.ts";
import { type AddedPod, AgentNode } from "../support/cni-node.ts";
import {
  buildTopology,
  GATEWAY_ADDRESS,
  INTERNET_ADDRESS,
  NODE_ADDRESS,
  type Topology,
} from "../support/netns.ts";
import { TcpTalk, UdpTalk } from "../support/talk.ts";

const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];
/** Few addresses, so that one comes back soon. */
const POD_CIDRS = ["10.244.1.0/29", "fd00:10:244:1::/125"];

let world: Topology;
let node: AgentNode;
let pods = 0;

before(async () => {
  world = await buildTopology();
  node = new AgentNode(world, POD_CIDRS);
  await node.start();
});
after(() => world?.[Symbol.asyncDispose]());

const addPod = (): Promise<AddedPod> => node.addPod(`pod${pods++}`);

/** From now on sockets of the namespace that choose no port get this one. */
function onlyPort(netns: string, port: number): void {
  withNetns(netns, () => writeFileSync("/proc/sys/net/ipv4/ip_local_port_range", `${port} ${port}`));
}

describe("pods and the node's own sockets share its ports", () => {
  let pod: AddedPod;
  before(async () => {
    pod = await addPod();
  });
  after(() => node.removePod(pod));

  for (const f of FAMILIES) {
    const host = INTERNET_ADDRESS[f];
    const base = 41000 + 100 * f;

    test(`IPv${f} UDP: a socket of the node that comes later, to the same remote, gets another port`, async () => {
      using theirs = new UdpTalk({ netns: pod.netns, host, localPort: base });
      assert.equal(await theirs.seenAs(), `${NODE_ADDRESS[f]} ${base}`);
      {
        using ours = new UdpTalk({ netns: world.node, host, localPort: base });
        const seen = (await ours.seenAs())?.split(" ");
        assert.equal(seen?.[0], NODE_ADDRESS[f]);
        assert.notEqual(seen?.[1], String(base));
        assert.equal(await theirs.seenAs(), `${NODE_ADDRESS[f]} ${base}`, "the pod's goes on");
        assert.equal((await ours.seenAs())?.split(" ")[1], seen?.[1], "and so does the node's");
      }
      // From the same port, which no two sockets can have at once.
      using elsewhere = new UdpTalk({ netns: world.node, host: GATEWAY_ADDRESS[f], localPort: base });
      assert.equal(
        await elsewhere.seenAs(),
        `${NODE_ADDRESS[f]} ${base}`,
        "to another remote it keeps its port",
      );
    });

    test(`IPv${f} UDP: a pod gets no port that a socket of the node has`, async () => {
      using _ours = new UdpTalk({ netns: world.node, host, localPort: base + 1 });
      await _ours.seenAs();
      using theirs = new UdpTalk({ netns: pod.netns, host, localPort: base + 1 });
      const seen = (await theirs.seenAs())?.split(" ");
      assert.equal(seen?.[0], NODE_ADDRESS[f]);
      assert.notEqual(seen?.[1], String(base + 1));
    });

    test(`IPv${f} TCP: the node connects later from the same port to the same remote`, async () => {
      onlyPort(pod.netns, base + 2);
      onlyPort(world.node, base + 2);
      using theirs = await TcpTalk.open({ netns: pod.netns, host });
      assert.equal(theirs.peerPort, base + 2);
      using ours = await TcpTalk.open({ netns: world.node, host });
      assert.notEqual(ours.peerPort, base + 2);
      for (const talk of [theirs, ours, theirs])
        assert.ok(await talk.echoes("both"), talk.ended ?? "no answer");
    });

    test(`IPv${f} TCP: the node listens later on a port that a pod's flow holds`, async () => {
      const port = base + 3;
      onlyPort(pod.netns, port);
      using held = await TcpTalk.open({ netns: pod.netns, host });
      assert.equal(held.peerPort, port);
      const callers: Socket[] = [];
      const server = createServer((socket) => void callers.push(socket));
      server.listen({ fd: listenFd({ netns: world.node, host: f === 4 ? "0.0.0.0" : "::", port }) });
      await once(server, "listening");
      try {
        assert.ok(await held.echoes("goes on"), held.ended ?? "no answer");
        using next = await TcpTalk.open({ netns: pod.netns, host: GATEWAY_ADDRESS[f] });
        assert.equal(next.peer, NODE_ADDRESS[f]);
        assert.notEqual(
          next.peerPort,
          port,
          "the port is the listener's from the moment on in which it listens",
        );
        const caller = TcpTalk.open({ netns: world.outside, host: NODE_ADDRESS[f], port }).catch(
          () => undefined,
        );
        await waitFor("a caller from outside", () => callers.length === 1);
        for (const socket of callers) socket.end('{"peer":"","peerPort":0}\n');
        (await caller)?.[Symbol.dispose]();
      } finally {
        for (const socket of callers) socket.destroy();
        server.close();
      }
    });
  }

  test("a port of a socket that is bound to a device, which no look-up shows, is reserved by the next review", async () => {
    using stack = new DisposableStack();
    const bound = FAMILIES.map((f) => {
      const port = 41004 + 100 * f;
      const fd = datagramFd({ netns: world.node, host: f === 4 ? "0.0.0.0" : "::", port });
      const name = allocate(5);
      name.set(Buffer.from("eth0"));
      // SOL_SOCKET, SO_BINDTODEVICE.
      checked("socket.option", "eth0", libc.setsockopt(fd, 1, 25, name, name.length));
      const socket = createSocket(f === 4 ? "udp4" : "udp6");
      socket.bind({ fd });
      stack.defer(() => socket.close());
      return { f, port };
    });
    await waitFor("the reservations", () => {
      using table = openPinned(node.bpfRoot, "reserved_ports");
      const bit = (port: number): bigint => ((table.get(1024 + (port >> 6)) ?? 0n) >> BigInt(port & 63)) & 1n;
      return bound.every(({ port }) => bit(port) === 1n);
    });
    for (const { f, port } of bound) {
      using theirs = new UdpTalk({ netns: pod.netns, host: INTERNET_ADDRESS[f], localPort: port });
      const seen = await theirs.seenAs();
      assert.ok(seen !== undefined && seen !== `${NODE_ADDRESS[f]} ${port}`, seen ?? "no answer");
    }
  });
});

/** Records of flows that a pod opened, by its addresses. */
function flowsOf({ address }: AddedPod): number {
  const tables = openInner(node.bpfRoot, "flows");
  try {
    const keys = tables.flatMap((table) => [...table.entries()].map(([key]) => key.saddr));
    return keys.filter((saddr) => saddr === address[4] || saddr === address[6]).length;
  } finally {
    for (const table of tables) table.close();
  }
}

const REMOTE_PORT = 9999;
const POD_PORT = 42000;

/** Somebody outside who goes on sending to whoever has called, every 5 ms. */
function persistent(stack: DisposableStack, family: Family): void {
  const socket = createSocket(family === 4 ? "udp4" : "udp6");
  const fd = datagramFd({ netns: world.outside, host: INTERNET_ADDRESS[family], port: REMOTE_PORT });
  socket.bind({ fd });
  socket.on("error", () => undefined);
  let timer: NodeJS.Timeout | undefined;
  socket.on("message", (_, { address, port }) => {
    timer ??= setInterval(() => socket.send('{"peer":"late","peerPort":0}', port, address), 5);
  });
  stack.defer(() => {
    clearInterval(timer);
    socket.close();
  });
}

for (const f of FAMILIES) {
  test(`IPv${f}: a pod hears nothing of what was meant for the one that had its address before`, async () => {
    using stack = new DisposableStack();
    persistent(stack, f);
    const old = await addPod();
    const place = { netns: old.netns, host: INTERNET_ADDRESS[f] };
    const talk = stack.use(new UdpTalk({ ...place, port: REMOTE_PORT, localPort: POD_PORT }));
    assert.equal(await talk.peer(), "late");
    stack.use(await TcpTalk.open(place));
    const heard = talk.heard.length;
    await waitFor("more of it", () => talk.heard.length > heard + 3);
    assert.ok(flowsOf(old) >= 2);
    await node.removePod(old);
    assert.equal(flowsOf(old), 0, "records left when the removal has been answered");

    let heir = await addPod();
    for (let i = 0; i < 16 && heir.address[f] !== old.address[f]; i++) {
      await node.removePod(heir);
      heir = await addPod();
    }
    assert.equal(heir.address[f], old.address[f], "the address comes back");
    const listening = stack.use(
      new UdpTalk({ netns: heir.netns, host: GATEWAY_ADDRESS[f], localPort: POD_PORT }),
    );
    assert.equal(await listening.peer(), NODE_ADDRESS[f], "it works");
    await sleep(100);
    assert.deepEqual(
      listening.heard.filter((text) => text.includes("late")),
      [],
    );
    await node.removePod(heir);
  });
}
