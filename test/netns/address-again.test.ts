// SPDX-License-Identifier: Apache-2.0
// A pod is deleted in the middle of its conversations and the next pod gets its address, because the node has no other: what
// the world still sends to the old one never reaches the new one, in either family.
import assert from "node:assert/strict";
import { createSocket, type Socket } from "node:dgram";
import { Socket as TcpSocket } from "node:net";
import { after, before, test } from "node:test";
import { sleep, waitFor } from "../../src/base/async.ts";
import { connectFd, datagramFd } from "../../src/kernel/socket.ts";
import { openInner } from "../../src/maps/table.ts";
import { AgentNode } from "../support/cni-node.ts";
import {
  buildTopology,
  INTERNET_ADDRESS,
  NODE_ADDRESS,
  OUTSIDE_PORT,
  type Topology,
} from "../support/netns.ts";
import { FAMILIES, type Family } from "../support/transports.ts";

/** Room for one pod in IPv4, for two in IPv6: the addresses come back at once, or after one other. */
const NARROW = ["10.244.1.0/30", "fd00:10:244:1::/126"];
const FIRST_PORT = 41_000;
const ROUNDS = 4;

let world: Topology;
let node: AgentNode;

before(async () => {
  world = await buildTopology();
  node = new AgentNode(world, NARROW);
  await node.start();
});
after(() => world?.[Symbol.asyncDispose]());

interface Pod {
  name: string;
  netns: string;
  addresses: Record<Family, string>;
}

async function addPod(name: string): Promise<Pod> {
  const netns = world.addNetns(name);
  const { status, json } = await node.call("ADD", { containerId: name, netns });
  assert.equal(status, 0, JSON.stringify(json));
  const [v4, v6] = json.ips.map((entry: { address: string }) => entry.address.split("/")[0]);
  return { name, netns, addresses: { 4: v4, 6: v6 } };
}

async function deletePod({ name, netns }: Pod): Promise<void> {
  assert.equal((await node.call("DEL", { containerId: name, netns })).status, 0);
  world.removeNetns(netns);
}

/** A socket of a namespace and what has come to it. */
async function listenUdp(
  netns: string,
  host: string,
  port: number,
): Promise<{ socket: Socket; heard: string[] }> {
  const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
  const heard: string[] = [];
  socket.on("message", (message, from) => heard.push(`${message} from ${from.address}`));
  socket.on("error", () => undefined);
  const fd = datagramFd({ netns, host, port });
  await new Promise<void>((resolve) => socket.bind({ fd }, resolve));
  // A test that fails must end.
  socket.unref();
  return { socket, heard };
}

function flowsOf(address: string): number {
  return openInner(node.bpfRoot, "flows").reduce((count, table) => {
    using opened = table;
    return count + [...opened.entries()].filter(([key]) => key.saddr === address).length;
  }, 0);
}

/** What the world goes on sending by to a pod that was. */
interface Talk {
  readonly family: Family;
  readonly port: number;
  readonly far: Socket;
}

/** A pod opens a UDP flow under a port that it keeps, and a TCP connection. */
async function converse(pod: Pod, family: Family, port: number): Promise<Talk> {
  const host = INTERNET_ADDRESS[family];
  const far = await listenUdp(world.outside, host, port);
  const own = await listenUdp(pod.netns, pod.addresses[family], port);
  own.socket.send("hello", port, host);
  await waitFor("the datagram", () => far.heard.length > 0);
  assert.deepEqual(far.heard, [`hello from ${NODE_ADDRESS[family]}`]);
  far.socket.send("answer", port, NODE_ADDRESS[family]);
  await waitFor("the answer", () => own.heard.length === 1);
  own.socket.close();
  const target = { netns: pod.netns, host, port: OUTSIDE_PORT.tcp };
  const tcp = new TcpSocket({ fd: connectFd(target), readable: true, writable: true }).unref();
  let greeting = "";
  tcp
    .on("error", () => undefined)
    .on("data", (chunk: Buffer) => {
      greeting += chunk;
    });
  await waitFor("the connection", () => greeting !== "");
  return { family, port, far: far.socket };
}

/** TCP segments that a namespace has received. */
async function segments(netns: string): Promise<number> {
  const { stdout } = await world.run(netns, ["cat", "/proc/net/snmp"]);
  const [names = "", values = ""] = stdout.split("\n").filter((line) => line.startsWith("Tcp:"));
  return Number(values.split(" ")[names.split(" ").indexOf("InSegs")]);
}

test(`${ROUNDS} pods one after the other: none hears what those before it were sent, under the same address`, async () => {
  const talks: Talk[] = [];
  const seen = new Set<string>();
  let again = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const pod = await addPod(`pod${round}`);
    for (const family of FAMILIES) {
      if (seen.has(pod.addresses[family])) again++;
      seen.add(pod.addresses[family]);
    }
    const listeners = await Promise.all(
      talks.map(({ family, port }) => listenUdp(pod.netns, pod.addresses[family], port)),
    );
    for (let i = 0; i < 5; i++) {
      for (const { family, port, far } of talks) far.send("late", port, NODE_ADDRESS[family]);
      await sleep(10);
    }
    const heard = listeners.flatMap((listener) => listener.heard);
    assert.deepEqual(heard, []);
    assert.equal(await segments(pod.netns), 0);
    for (const { socket } of listeners) socket.close();
    const port = FIRST_PORT + round;
    talks.push(...(await Promise.all(FAMILIES.map((family) => converse(pod, family, port)))));
    await deletePod(pod);
    for (const family of FAMILIES) assert.equal(flowsOf(pod.addresses[family]), 0, "its flows are gone");
  }
  assert.equal(again, 2 * ROUNDS - 3, "addresses came back");
  for (const { far } of talks) far.close();
});
