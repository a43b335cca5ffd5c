// SPDX-License-Identifier: Apache-2.0
// A small world for tests with real sockets: a node's namespace and an "outside" namespace on one cable, with servers
// that say who called them. Links are made with ip(8), not with our own netlink code, which is itself under test.
// Everything goes again when the topology is disposed of, also after a failure: processes, mounts, folders, namespaces.
//
//   node eth0 172.20.0.11/24 fd00:20::11/64 ---- outside eth0 172.20.0.254/24 fd00:20::fe/64 (default gateway)
//                                                "the internet": 198.51.100.10, 2001:db8:100::10
//                                                not to be masqueraded: 203.0.113.10, 2001:db8:113::10
//   outside routes the pod CIDRs to the node, so that a packet that nobody masqueraded is answered, and seen, too.
import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep, waitFor } from "../../src/base/async.ts";
import { listMounts, unmount } from "../../src/kernel/mount.ts";
import { createNetns, netnsPath, removeNetns, withNetns } from "../../src/kernel/netns.ts";

export const NODE_ADDRESS = { 4: "172.20.0.11", 6: "fd00:20::11" } as const;
export const GATEWAY_ADDRESS = { 4: "172.20.0.254", 6: "fd00:20::fe" } as const;
/** Where pods are seen under the node's address. */
export const INTERNET_ADDRESS = { 4: "198.51.100.10", 6: "2001:db8:100::10" } as const;
/** The networks for nonMasqueradeCIDRs, and the outside's addresses in them. */
export const NON_MASQUERADE_CIDR = { 4: "203.0.113.0/24", 6: "2001:db8:113::/64" } as const;
export const NON_MASQUERADE_ADDRESS = { 4: "203.0.113.10", 6: "2001:db8:113::10" } as const;
export const POD_CIDR = { 4: "10.244.1.0/24", 6: "fd00:10:244:1::/64" } as const;
/** Native-routing CIDRs. */
export const CLUSTER_CIDR = { 4: "10.244.0.0/16", 6: "fd00:10:244::/48" } as const;
/** Ports of the outside's servers. */
export const OUTSIDE_PORT = { http: 80, tcp: 7, udp: 7 } as const;

const SERVER = join(import.meta.dirname, "outside-server.ts");

/** What a finished process left. */
export interface Finished {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface TopologyOptions {
  /** MTU of the cable, in bytes. Default 1500. */
  readonly mtu?: number;
  /** What outside routes to the node. Default POD_CIDR. */
  readonly podCidrs?: readonly string[];
  /** Whether outside runs its servers. Default true. */
  readonly servers?: boolean;
}

/**
 * Feeds ip(8) a batch of commands inside a namespace; a failing line throws with what ip said. Of `rule` it takes IPv6
 * addresses only if told the family.
 */
export function ip(netns: string, lines: readonly string[], family?: 4 | 6): void {
  const args = [...(family === undefined ? [] : [`-${family}`]), "-batch", "-"];
  const run = (): string =>
    execFileSync("ip", args, { input: `${lines.join("\n")}\n`, encoding: "utf8", stdio: "pipe" });
  withNetns(netns, run);
}

/** Processes in a namespace, by the inode of their /proc/PID/ns/net. */
function processesIn(netns: string): number[] {
  let inode: number;
  try {
    inode = statSync(netnsPath(netns)).ino;
  } catch {
    return [];
  }
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return pid !== process.pid && statSync(`/proc/${pid}/ns/net`).ino === inode;
      } catch {
        return false;
      }
    });
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended meanwhile.
  }
}

// A test that takes too long is ended by SIGTERM, which by itself would come without "exit".
process.once("SIGTERM", () => process.exit(143));

/** The namespaces, folder and processes of one test file. Names begin with `hlt-` or another prefix. */
export class Topology implements AsyncDisposable {
  /** Random part of all names. */
  readonly id = randomBytes(3).toString("hex");
  readonly node: string;
  readonly outside: string;
  /** A folder of the test's own, mode 0700; mounts below it are undone at the end. */
  readonly dir: string;
  readonly #prefix: string;
  readonly #namespaces: string[] = [];
  readonly #children = new Set<ChildProcess>();
  readonly #onExit = (): void => this.#remove();

  /** `prefix`: first part of all names. */
  constructor(prefix = "hlt") {
    this.#prefix = `${prefix}-${this.id}-`;
    this.node = `${this.#prefix}node`;
    this.outside = `${this.#prefix}out`;
    this.dir = mkdtempSync(join(tmpdir(), this.#prefix));
    // A test runner that ends the process, or a failed assertion at top level, must not leave namespaces behind.
    process.once("exit", this.#onExit);
  }

  /** Makes a namespace `<prefix>-<id>-<name>`, its loopback device up. Returns its full name. */
  addNetns(name: string): string {
    const full = `${this.#prefix}${name}`;
    createNetns(full).close();
    this.#namespaces.push(full);
    ip(full, ["link set lo up"]);
    return full;
  }

  removeNetns(full: string): void {
    for (const pid of processesIn(full)) kill(pid);
    removeNetns(full);
    this.#namespaces.splice(this.#namespaces.indexOf(full), 1);
  }

  /** Starts a process in a namespace; it is killed at the end if it still runs. */
  spawn(netns: string, argv: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const [file = "", ...rest] = argv;
    const child = withNetns(netns, () => spawn(file, rest, { stdio: ["pipe", "pipe", "pipe"], ...options }));
    this.#children.add(child);
    child.once("exit", () => this.#children.delete(child));
    child.once("error", () => this.#children.delete(child));
    return child;
  }

  /** Runs a process in a namespace to its end; killed after `timeoutMs` (then `status` is null). `started` sees it first. */
  run(
    netns: string,
    argv: readonly string[],
    options: SpawnOptions & {
      input?: string;
      timeoutMs?: number;
      started?: (child: ChildProcess) => void;
    } = {},
  ): Promise<Finished> {
    const { input = "", timeoutMs = 60_000, started, ...rest } = options;
    const child = this.spawn(netns, argv, rest);
    started?.(child);
    const output = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const) {
      child[name]?.setEncoding("utf8").on("data", (text: string) => {
        output[name] += text;
      });
    }
    // A process that does not read its input closes the pipe.
    child.stdin?.on("error", () => undefined).end(input);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
      child.once("error", (error) => {
        clearTimeout(timer);
        reject(error);
      });
      child.once("close", (status) => {
        clearTimeout(timer);
        resolve({ status, ...output });
      });
    });
  }

  /** Starts the servers of outside-server.ts in a namespace, on these addresses; resolves when they listen. */
  async serve(netns: string, name: string, addresses: readonly string[]): Promise<ChildProcess> {
    const child = this.spawn(netns, [process.execPath, SERVER, name, ...addresses], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    await new Promise<void>((resolve, reject) => {
      child.once("message", () => resolve());
      child.once("exit", (status) =>
        reject(new Error(`server ${name} ended with ${status} before it listened`)),
      );
      child.once("error", reject);
    });
    return child;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const children = [...this.#children];
    const ended = children.map((c) => new Promise<void>((resolve) => c.once("exit", () => resolve())));
    for (const child of children) child.kill("SIGKILL");
    await Promise.all(ended);
    for (const name of this.#namespaces) {
      for (const pid of processesIn(name)) kill(pid);
      await waitFor(`${name} to be empty`, () => processesIn(name).length === 0);
    }
    this.#remove();
    process.off("exit", this.#onExit);
    // The kernel takes devices down a moment after the last name of a namespace has gone.
    await sleep(10);
  }

  #remove(): void {
    for (const child of this.#children) child.kill("SIGKILL");
    for (const name of this.#namespaces.splice(0)) {
      for (const pid of processesIn(name)) kill(pid);
      removeNetns(name);
    }
    const below = listMounts().filter((m) => m.target.startsWith(`${this.dir}/`));
    for (const mount of below.reverse()) unmount(mount.target, { lazy: true });
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/**
 * Builds node, outside and the cable between them, and starts the outside's servers.
 * Use it as `await using world = await buildTopology()`, or dispose of it in `after`.
 */
export async function buildTopology(options: TopologyOptions = {}): Promise<Topology> {
  const topology = new Topology();
  try {
    const { mtu = 1500, podCidrs = Object.values(POD_CIDR), servers = true } = options;
    const node = topology.addNetns("node");
    const outside = topology.addNetns("out");
    ip(node, [`link add eth0 mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${outside}`]);
    const extra = [INTERNET_ADDRESS, NON_MASQUERADE_ADDRESS].flatMap((a) => [`${a[4]}/24`, `${a[6]}/64`]);
    const outsideAddresses = [`${GATEWAY_ADDRESS[4]}/24`, `${GATEWAY_ADDRESS[6]}/64`, ...extra];
    ip(outside, [
      ...outsideAddresses.map((a) => `address add ${a} dev eth0${a.includes(":") ? " nodad" : ""}`),
      "link set eth0 up",
    ]);
    ip(node, [
      `address add ${NODE_ADDRESS[4]}/24 dev eth0`,
      `address add ${NODE_ADDRESS[6]}/64 dev eth0 nodad`,
      "link set eth0 up",
      `route add default via ${GATEWAY_ADDRESS[4]}`,
      `route add default via ${GATEWAY_ADDRESS[6]} dev eth0`,
    ]);
    ip(
      outside,
      podCidrs.map(
        (cidr) => `route add ${cidr} via ${cidr.includes(":") ? NODE_ADDRESS[6] : NODE_ADDRESS[4]}`,
      ),
    );
    if (servers) {
      const addresses = outsideAddresses.map((a) => a.replace(/\/\d+$/, ""));
      await topology.serve(outside, "outside", addresses);
    }
    return topology;
  } catch (thrown) {
    await topology[Symbol.asyncDispose]();
    throw thrown;
  }
}
