// SPDX-License-Identifier: Apache-2.0
// The tools that people use, from a pod through the translation to the world and back, both families, with and without host
// routing: ping, traceroute, tracepath, curl, large datagrams, path MTU discovery, offloads on and off.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { after, before, describe, test } from "node:test";
import { allocate, checked, libc } from "../../src/kernel/ffi.ts";
import { datagramFd } from "../../src/kernel/socket.ts";
import type { NodeConfig } from "../../src/maps/gen/config.ts";
import { echo, JourneyNode, PODS } from "../kernels/journey-node.ts";
import { peersSeen } from "../support/ask.ts";
import { ALL_ON } from "../support/datapath.ts";
import { addFarHost, FAR_ADDRESS, FAR_MTU } from "../support/far.ts";
import { GATEWAY_ADDRESS, INTERNET_ADDRESS, ip, NODE_ADDRESS, OUTSIDE_PORT } from "../support/netns.ts";
import { FAMILIES, type Family } from "../support/transports.ts";

/** include/uapi/linux/in.h, in6.h, asm-generic/socket.h. */
const DONT_FRAGMENT = { 4: { level: 0, option: 10 }, 6: { level: 41, option: 23 } } as const;
const PMTUDISC_DO = 2;
const NO_CHECKSUM = { level: 1, option: 11 } as const;
const BULK_BYTES = 1 << 20;

function setOption(fd: number, { level, option }: { level: number; option: number }, value: number): void {
  const memory = allocate(4);
  new DataView(memory.buffer).setInt32(0, value, true);
  checked("socket.option", `${option}`, libc.setsockopt(fd, level, option, memory, 4));
}

interface Echoed {
  peer: string;
  peerPort: number;
  bytes: Buffer;
}

interface Datagram {
  host: string;
  bytes: Uint8Array;
  prepare?: (fd: number) => void;
  source?: string;
  port?: number;
}

/** Sends a datagram to an echo server until it comes back, as UDP's users do; 60 times at most, then it rejects. */
function echoDatagram(netns: string, to: Datagram, tries = 60): Promise<Echoed> {
  const v6 = to.host.includes(":");
  const fd = datagramFd({ netns, host: to.source ?? (v6 ? "::" : "0.0.0.0"), port: to.port ?? 0 });
  to.prepare?.(fd);
  const socket = createSocket({ type: v6 ? "udp6" : "udp4" });
  return new Promise<Echoed>((resolve, reject) => {
    let left = tries;
    const send = (): void => {
      if (left-- === 0) reject(new Error(`no echo of ${to.bytes.length} bytes from ${to.host}`));
      else socket.send(to.bytes, OUTSIDE_PORT.udp, to.host, (error) => error && reject(error));
    };
    const timer = setInterval(send, 250);
    socket.on("error", reject).on("close", () => clearInterval(timer));
    socket.on("message", (message) => {
      const end = message.indexOf("\n") + 1;
      resolve({ ...JSON.parse(message.toString("utf8", 0, end)), bytes: message.subarray(end) });
    });
    socket.bind({ fd }, send);
  }).finally(() => socket.close());
}

/** Addresses in the lines of traceroute, by hop; what did not answer is `*`. */
function hops(text: string): string[] {
  return [...text.matchAll(/^ *\d+ +(\S+)/gm)].map(([, address = ""]) => address);
}

/** Runs a tool in pod a to its end; gives what it prints. */
async function tool({ world, pods }: JourneyNode, argv: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await world.run(pods.a, argv);
  assert.equal(status, 0, `${argv.join(" ")}: status ${status}\n${stdout}${stderr}`);
  return stdout;
}

/** Who is on the way, and how wide it is; and a download. */
function ways(node: () => JourneyNode, family: Family): void {
  const [internet, target] = [INTERNET_ADDRESS[family], FAR_ADDRESS[family]];
  const version = `-${family}`;
  const traceroute = ["traceroute", version, "-n", "-q", "1", "-w", "2", "-m", "5"];
  const way = [NODE_ADDRESS[family], GATEWAY_ADDRESS[family], target];
  for (const size of [56, 1472, 4000, 20_000]) {
    test(`IPv${family} ping -s ${size}: every echo comes back`, async () => {
      const text = await tool(node(), [
        "ping",
        version,
        "-c",
        "5",
        "-i",
        "0.02",
        "-W",
        "3",
        "-s",
        `${size}`,
        internet,
      ]);
      assert.match(text, / 5 (packets )?received/);
    });
  }
  for (const [mode, words] of [
    ["UDP", []],
    ["ICMP", ["-I"]],
    ["TCP", ["-T", "-p", `${OUTSIDE_PORT.http}`]],
  ] as const) {
    test(`IPv${family} traceroute, ${mode}: the node, the router, the host`, async () => {
      assert.deepEqual(hops(await tool(node(), [...traceroute, ...words, target])), way);
    });
  }
  test(`IPv${family} tracepath finds the narrow link and the host behind it`, async () => {
    const text = await tool(node(), ["tracepath", version, "-n", "-m", "6", target]);
    assert.match(text, new RegExp(`pmtu ${FAR_MTU}$`, "m"));
    assert.match(text, new RegExp(`Resume: pmtu ${FAR_MTU} hops 3 `));
  });
  test(`IPv${family} curl loads 8 MiB from an HTTP server, through the narrow link too`, async () => {
    for (const host of [internet, target]) {
      const url = `http://${family === 6 ? `[${host}]` : host}/?bytes=${8 << 20}`;
      const write = "%{http_code} %{size_download}";
      const text = await tool(node(), ["curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", write, url]);
      const [code, size] = text.split(" ").map(Number);
      assert.equal(code, 200);
      assert.ok((size ?? 0) > 8 << 20, text);
    }
  });
  test(`IPv${family} TCP: bulk goes on through the narrow link, both ways`, async () => {
    await tool(node(), ["ip", version, "route", "flush", "cache"]);
    const bytes = randomBytes(BULK_BYTES);
    assert.ok(bytes.equals(await echo(node().pods.a, target, bytes)));
    assert.match(
      await tool(node(), ["ip", "route", "get", target]),
      new RegExp(` mtu ${FAR_MTU}`),
      "learned",
    );
  });
}

function datagrams(node: () => JourneyNode, family: Family): void {
  const [internet, target] = [INTERNET_ADDRESS[family], FAR_ADDRESS[family]];
  for (const size of [1472, 1473, 9000, 60_000]) {
    test(`IPv${family} UDP: a datagram of ${size} bytes comes back whole`, async () => {
      const bytes = randomBytes(size);
      const { peer, bytes: got } = await echoDatagram(node().pods.a, { host: internet, bytes });
      assert.equal(peer, NODE_ADDRESS[family]);
      assert.ok(bytes.equals(got));
    });
  }
  test(`IPv${family} UDP: datagrams pass the narrow link in fragments that the sender makes`, async () => {
    const bytes = randomBytes(5000);
    const { bytes: got } = await echoDatagram(node().pods.a, { host: target, bytes });
    assert.ok(bytes.equals(got));
  });
  test(`IPv${family} UDP: a sender that may not fragment gets EMSGSIZE`, async () => {
    const datagram = {
      host: target,
      bytes: randomBytes(FAR_MTU),
      prepare: (fd: number) => setOption(fd, DONT_FRAGMENT[family], PMTUDISC_DO),
    };
    await assert.rejects(echoDatagram(node().pods.b, datagram), { code: "EMSGSIZE" });
  });
  test(`IPv${family} one port of two pods towards one destination: both are served`, async () => {
    const port = 41_000;
    const ask = (pod: "a" | "b"): Promise<Echoed> =>
      echoDatagram(node().pods[pod], {
        host: internet,
        bytes: Buffer.from(pod),
        source: PODS[pod][family],
        port,
      });
    const [a, b] = await Promise.all([ask("a"), ask("b")]);
    assert.deepEqual([`${a.bytes}`, `${b.bytes}`], ["a", "b"]);
    assert.notEqual(a.peerPort, b.peerPort);
    assert.ok([a.peerPort, b.peerPort].includes(port), "the first of them keeps it");
  });
}

/** Of a network that outside is all of. */
function manyAddresses(family: Family): string[] {
  return Array.from({ length: 200 }, (_, i) =>
    family === 4 ? `198.18.0.${i + 1}` : `2001:db8:18::${i + 1}`,
  );
}

function destinations(node: () => JourneyNode, family: Family): void {
  test(`IPv${family} 200 destinations at once: all see the node`, async () => {
    const network = family === 4 ? "198.18.0.0/24" : "2001:db8:18::/64";
    ip(node().world.outside, [`route replace local ${network} dev lo`]);
    const targets = manyAddresses(family).map((address) => `tcp:${address}`);
    const seen = await peersSeen(node().pods.b, targets);
    assert.deepEqual(seen, Object.fromEntries(targets.map((target) => [target, NODE_ADDRESS[family]])));
  });
}

function offloads(node: () => JourneyNode, family: Family): void {
  const internet = INTERNET_ADDRESS[family];
  test(`IPv${family} with and without checksum offload and segmentation: the same bytes`, async () => {
    const { world, pods } = node();
    const devices = [
      [pods.a, "eth0"],
      [world.node, "eth0"],
      [world.outside, "eth0"],
    ] as const;
    const set = async (state: "on" | "off", who: readonly (readonly [string, string])[]): Promise<void> => {
      for (const [netns, device] of who) {
        const words = ["tx", "rx", "sg", "tso", "gso", "gro"].flatMap((feature) => [feature, state]);
        const done = await world.run(netns, ["ethtool", "-K", device, ...words]);
        assert.equal(done.status, 0, done.stderr);
      }
    };
    try {
      for (const off of [devices.slice(0, 1), devices.slice(1), devices]) {
        await set("off", off);
        const bytes = randomBytes(BULK_BYTES);
        assert.ok(bytes.equals(await echo(node().pods.a, internet, bytes)));
        const datagram = randomBytes(4001);
        assert.ok(
          datagram.equals((await echoDatagram(node().pods.a, { host: internet, bytes: datagram })).bytes),
        );
        await set("on", off);
      }
    } finally {
      await set("on", devices);
    }
  });
}

/** What only IPv4 has. */
function oldThings(node: () => JourneyNode): void {
  test("IPv4 UDP without a checksum comes back", async () => {
    const prepare = (fd: number): void => setOption(fd, NO_CHECKSUM, 1);
    for (const size of [12, 4000]) {
      const bytes = randomBytes(size);
      const { bytes: got } = await echoDatagram(node().pods.a, { host: INTERNET_ADDRESS[4], bytes, prepare });
      assert.ok(bytes.equals(got));
    }
  });
  test("IPv4 options: ping -R and ping -T are answered", async () => {
    for (const option of [["-R"], ["-T", "tsonly"]]) {
      const text = await tool(node(), [
        "ping",
        "-4",
        "-n",
        "-c",
        "2",
        "-i",
        "0.1",
        "-W",
        "3",
        ...option,
        INTERNET_ADDRESS[4],
      ]);
      assert.match(text, / 2 (packets )?received/);
    }
  });
}

function tools(config: NodeConfig): void {
  let made: JourneyNode;
  const node = (): JourneyNode => made;
  before(async () => {
    made = await JourneyNode.make({ config });
    await addFarHost(made.world);
  });
  after(() => made?.[Symbol.asyncDispose]());
  for (const family of FAMILIES) {
    ways(node, family);
    datagrams(node, family);
    destinations(node, family);
    offloads(node, family);
  }
  oldThings(node);
}

describe("tools through the translation, host routing", () => tools(ALL_ON));
describe("tools through the translation, plain stack", () => tools({ ...ALL_ON, hostRouting: 0 }));
