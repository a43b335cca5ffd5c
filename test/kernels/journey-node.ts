// SPDX-License-Identifier: Apache-2.0
// A node with two wired pods and the real programs on its devices, filled as the agent fills it, in a topology with an
// outside: what a journey of real packets needs, without an agent.
import { createSocket } from "node:dgram";
import { Socket } from "node:net";
import { join } from "node:path";
import { NO_ADDRESS } from "../../src/base/addr.ts";
import { waitFor } from "../../src/base/async.ts";
import { parsePrefix } from "../../src/base/prefix.ts";
import { type Wiring, wire } from "../../src/engine/endpoint/wire.ts";
import { mountBpffs } from "../../src/kernel/mount.ts";
import { getLink } from "../../src/kernel/netlink/link.ts";
import { openRtNetlink } from "../../src/kernel/netlink/socket.ts";
import { netnsPath } from "../../src/kernel/netns.ts";
import { connectFd, datagramFd } from "../../src/kernel/socket.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import type { DeviceMode } from "../../src/loader/attach.ts";
import { type Datapath, openDatapath } from "../../src/loader/datapath.ts";
import type { NodeConfig } from "../../src/maps/gen/config.ts";
import type { Flow, FlowKey } from "../../src/maps/gen/types.ts";
import { DropReason, Hook, MasqueradeRule } from "../../src/maps/gen/verdict.ts";
import { openInner } from "../../src/maps/table.ts";
import { OBJECT } from "../support/datapath.ts";
import {
  buildTopology,
  CLUSTER_CIDR,
  NODE_ADDRESS,
  NON_MASQUERADE_CIDR,
  OUTSIDE_PORT,
  type Topology,
} from "../support/netns.ts";

export const PODS = {
  a: { 4: "10.244.1.5", 6: "fd00:10:244:1::5" },
  b: { 4: "10.244.1.6", 6: "fd00:10:244:1::6" },
} as const;
/** Addresses that pod a has and nobody gave it. */
export const FORGED = { 4: "10.244.1.99", 6: "fd00:10:244:1::99" } as const;
const IDS = { a: 101, b: 102 } as const;

export interface JourneyOptions {
  readonly config: NodeConfig;
  /** Absent: as the kernel allows. */
  readonly mode?: DeviceMode;
}

export class JourneyNode implements AsyncDisposable {
  readonly world: Topology;
  readonly datapath: Datapath;
  /** Namespaces of the pods. */
  readonly pods: Readonly<Record<"a" | "b", string>>;
  readonly #bpfRoot: string;

  private constructor(world: Topology, options: JourneyOptions) {
    this.world = world;
    this.#bpfRoot = join(world.dir, "bpf");
    mountBpffs(this.#bpfRoot);
    for (const name of ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"])
      writeSysctl(name, 1, world.node);
    for (const name of ["all", "eth0"]) writeSysctl(`net/ipv4/conf/${name}/rp_filter`, 0, world.node);
    this.datapath = openDatapath({
      objectPath: OBJECT,
      bpfRoot: this.#bpfRoot,
      netns: world.node,
      sizes: { flows: 4096, replies: 4096, events: 1 << 18 },
      logFolder: world.dir,
      ...options,
    });
    this.pods = { a: world.addNetns("a"), b: world.addNetns("b") };
    using netlink = openRtNetlink(world.node);
    const eth0 = getLink(netlink, "eth0").index;
    this.#describeNode(eth0);
    for (const name of ["a", "b"] as const) {
      const wiring = wire(
        {
          containerId: `${world.id}${name}`,
          ifName: "eth0",
          netns: netnsPath(this.pods[name]),
          network: "hookline",
          podNamespace: "default",
          podName: name,
          podUid: "",
          ipv4: PODS[name][4],
          ipv6: PODS[name][6],
          mtu: 1500,
        },
        netlink,
      );
      this.#describePod(name, wiring);
      this.datapath.attachPod(wiring.ifindex);
    }
    this.datapath.attachDevice(eth0);
  }

  static async make(options: JourneyOptions): Promise<JourneyNode> {
    const world = await buildTopology();
    try {
      const node = new JourneyNode(world, options);
      await world.serve(node.pods.a, "a", Object.values(PODS.a));
      return node;
    } catch (thrown) {
      await world[Symbol.asyncDispose]();
      throw thrown;
    }
  }

  #describeNode(eth0: number): void {
    using devices = this.datapath.table("devices");
    devices.set(eth0, { addr4: NODE_ADDRESS[4], addr6: NODE_ADDRESS[6], mtu: 1500, flags: 0 });
    using addresses = this.datapath.table("node_addrs");
    for (const address of Object.values(NODE_ADDRESS)) addresses.set(address, eth0);
    using excluded = this.datapath.table("nonmasq_cidrs");
    for (const family of [4, 6] as const) {
      excluded.set(parsePrefix(CLUSTER_CIDR[family]), { rule: MasqueradeRule.MASQ_NATIVE_CIDR, source: 0 });
      const listed = { rule: MasqueradeRule.MASQ_NONMASQ_CIDR, source: 1 };
      excluded.set(parsePrefix(NON_MASQUERADE_CIDR[family]), listed);
    }
    using ipcache = this.datapath.table("ipcache");
    for (const bits of [4, 6] as const) {
      const host = `${NODE_ADDRESS[bits]}/${bits === 4 ? 32 : 128}`;
      ipcache.set(parsePrefix(host), { identity: 1, flags: 0, node: NO_ADDRESS });
    }
  }

  #describePod(name: "a" | "b", wiring: Wiring): void {
    const endpoint = {
      addr4: PODS[name][4],
      addr6: PODS[name][6],
      ifindex: wiring.ifindex,
      identity: 0,
      id: IDS[name],
      flags: 0,
      mac: wiring.mac,
      hostMac: wiring.hostMac,
    };
    using ids = this.datapath.table("endpoint_ids");
    const [word, bit] = [Math.floor(IDS[name] / 64), BigInt(IDS[name] % 64)];
    ids.set(word, (ids.get(word) ?? 0n) | (1n << bit));
    using endpoints = this.datapath.table("endpoints");
    using addresses = this.datapath.table("endpoint_addrs");
    endpoints.set(wiring.ifindex, endpoint);
    for (const address of Object.values(PODS[name])) addresses.set(address, endpoint);
  }

  /** The flow table. */
  flows(): [FlowKey, Flow][] {
    const tables = openInner(this.#bpfRoot, "flows");
    const found = tables.flatMap((table) => [...table.entries()]);
    for (const table of tables) table.close();
    return found;
  }

  /** Packets that from_pod has dropped because of their source. */
  forged(): number {
    using counters = this.datapath.table("counters");
    const index = 256 * Hook.HOOK_FROM_POD + DropReason.DROP_INVALID_SOURCE_IP;
    return (counters.getPerCpu(index) ?? []).reduce((sum, { packets }) => sum + Number(packets), 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.datapath.close();
    await this.world[Symbol.asyncDispose]();
  }
}

/** Sends one datagram from an address of a namespace; nobody waits for an answer. */
export async function sendFrom(netns: string, source: string, host: string): Promise<void> {
  const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
  const fd = datagramFd({ netns, host: source, port: 0 });
  await new Promise<void>((resolve, reject) => {
    socket.on("error", reject);
    socket.bind({ fd }, () =>
      socket.send("?", OUTSIDE_PORT.udp, host, (error) => (error ? reject(error) : resolve())),
    );
  });
  socket.close();
}

/** Sends bytes to the TCP echo server and gives those that came back, without the server's first line. */
export function echo(netns: string, host: string, bytes: Uint8Array): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const fd = connectFd({ netns, host, port: OUTSIDE_PORT.tcp });
    const socket = new Socket({ fd, readable: true, writable: true });
    const got: Buffer[] = [];
    socket.setTimeout(30_000, () => socket.destroy(new Error("no more came back")));
    socket.on("error", reject);
    socket.on("data", (chunk: Buffer) => got.push(chunk));
    socket.on("end", () => {
      const all = Buffer.concat(got);
      resolve(all.subarray(all.indexOf("\n") + 1));
    });
    socket.end(bytes);
    socket.resume();
  });
}

/** A TCP connection to the echo server that stays open. */
export class Conversation {
  readonly #socket: Socket;
  #heard = "";

  constructor(netns: string, host: string) {
    const fd = connectFd({ netns, host, port: OUTSIDE_PORT.tcp });
    this.#socket = new Socket({ fd, readable: true, writable: true });
    this.#socket.on("error", () => undefined);
    this.#socket.on("data", (chunk: Buffer) => {
      this.#heard += chunk;
    });
    this.#socket.resume();
  }

  /** Says a word and waits until it comes back. @throws Fault TIMEOUT */
  async say(word: string): Promise<void> {
    this.#heard = "";
    this.#socket.write(word);
    await waitFor(`"${word}" to come back`, () => this.#heard.endsWith(word));
  }

  close(): void {
    this.#socket.destroy();
  }
}
