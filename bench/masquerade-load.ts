// SPDX-License-Identifier: Apache-2.0
// The load of the masquerade benchmark: which generator measures what, and how its figure is read. sockperf measures round
// trips and UDP packets, iperf3 bulk, connections.ts new connections; all run on one processor with their servers.
import type { ChildProcess } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { setPriority } from "node:os";
import { join } from "node:path";
import { waitFor } from "../src/base/async.ts";
import { isErrno } from "../src/kernel/errno.ts";
import { INTERNET } from "./masquerade-addresses.ts";
import type { World } from "./masquerade-world.ts";

/** What is measured, in this order. `better` says whether a higher or a lower figure is. */
export const MEASURES = {
  tcp: { title: "TCP request-response p50, µs one way", better: "lower", digits: 3 },
  udp: { title: "UDP request-response p50, µs one way", better: "lower", digits: 3 },
  packets: { title: "UDP 64-byte packets/s", better: "higher", digits: 0 },
  connections: { title: "new TCP connections/s", better: "higher", digits: 0 },
  bulk: { title: "bulk TCP, Mbit/s", better: "higher", digits: 0 },
} as const;
export type Measure = keyof typeof MEASURES;
export type Figures = Record<Measure, number>;

/** What one world gave, and what went wrong with connections: failed ones, and those that took over 200 ms. */
export interface Sample {
  figures: Figures;
  failed: number;
  slow: number;
  /** Whom the server saw. */
  seen: string;
}

const PORT = { sockperf: 11111, iperf3: 5201, connections: 9000 } as const;
const CONNECTIONS = join(import.meta.dirname, "connections.ts");

const [FIRST = ""] = INTERNET;

/** Whether a process has a socket bound to the port, from its namespace's tables. */
function bound(pid: number | undefined, table: "tcp" | "udp", port: number): boolean {
  const hex = `:${port.toString(16).toUpperCase().padStart(4, "0")} `;
  const rows = readFileSync(`/proc/${pid}/net/${table}`, "latin1").split("\n").slice(1);
  return rows.some((row) => row.trim().split(/\s+/)[1]?.concat(" ").endsWith(hex));
}

/**
 * Puts a process that leads a session before everything else on its processor: what else runs there must not be measured.
 * Where the scheduler groups processes by session, the group counts, else the process.
 */
function favour(child: ChildProcess): void {
  if (child.pid === undefined) return;
  setPriority(child.pid, -20);
  try {
    writeFileSync(`/proc/${child.pid}/autogroup`, "-20");
  } catch (thrown) {
    if (!isErrno(thrown, "ENOENT", "EIO", "EINVAL")) throw thrown;
  }
}

/** Starts a server on the measured processor; ready when it is bound. */
async function serve(
  world: World,
  argv: readonly string[],
  table: "tcp" | "udp",
  port: number,
): Promise<void> {
  const child = world.topology.spawn(world.outside, ["taskset", "-c", String(world.cpu), ...argv], {
    stdio: ["ignore", "ignore", "inherit"],
    detached: true,
  });
  favour(child);
  await waitFor(`${argv[0]} on ${table} port ${port}`, () => bound(child.pid, table, port), {
    intervalMs: 10,
  });
}

/** Runs a client in the pod on the measured processor; gives its output. */
async function call(world: World, argv: readonly string[], seconds: number): Promise<string> {
  const command = ["taskset", "-c", String(world.cpu), ...argv];
  const options = { timeoutMs: seconds * 1000 + 20_000, detached: true, started: favour };
  const done = await world.topology.run(world.pod, command, options);
  if (done.status !== 0)
    throw new Error(`${argv.join(" ")}: status ${done.status}\n${done.stdout}${done.stderr}`);
  return done.stdout;
}

function find(text: string, pattern: RegExp): number {
  const found = Number(pattern.exec(text)?.[1]);
  if (!Number.isFinite(found)) throw new Error(`no ${pattern} in:\n${text}`);
  return found;
}

/** Datagrams that reached a socket of the server's namespace, also those that nobody reads. */
function arrived(world: World): number {
  const rows = readFileSync(`/proc/${world.outsidePid()}/net/snmp`, "latin1")
    .split("\n")
    .filter((row) => row.startsWith("Udp:"))
    .map((row) => row.split(" "));
  const column = (name: string): number => Number(rows[1]?.[rows[0]?.indexOf(name) ?? -1]);
  return column("InDatagrams") + column("RcvbufErrors");
}

const sockperf = (mode: string, port: number, seconds: number): string[] => [
  "sockperf",
  mode,
  ...["-i", FIRST, "-p", String(port), "-t", String(seconds)],
];

async function roundTrip(world: World, seconds: number, ...rest: string[]): Promise<number> {
  return find(
    await call(world, [...sockperf("ping-pong", PORT.sockperf, seconds), ...rest], seconds),
    /percentile 50\.000 =\s+([\d.]+)/,
  );
}

async function packets(world: World, seconds: number): Promise<number> {
  const before = arrived(world);
  const argv = [...sockperf("throughput", PORT.connections, seconds), "-m", "64", "--mps", "max"];
  const text = await call(world, argv, seconds);
  return (arrived(world) - before) / find(text, /messages sent in ([\d.]+) sec/);
}

/** Runs all measures in a world; `seconds` each. */
export async function measure(world: World, seconds: number): Promise<Sample> {
  const sockperfServer = ["sockperf", "server", "-i", FIRST, "-p", String(PORT.sockperf)];
  await serve(world, sockperfServer, "udp", PORT.sockperf);
  await serve(world, [...sockperfServer, "--tcp"], "tcp", PORT.sockperf);
  await serve(world, ["iperf3", "-s", "-4", "-p", String(PORT.iperf3)], "tcp", PORT.iperf3);
  const node = process.execPath;
  const listener = [node, CONNECTIONS, "serve", String(PORT.connections)];
  await serve(world, listener, "tcp", PORT.connections);
  const tcp = await roundTrip(world, seconds, "--tcp");
  const udp = await roundTrip(world, seconds);
  const perSecond = await packets(world, seconds);
  const caller = [node, CONNECTIONS, "call", String(PORT.connections), String(seconds), ...INTERNET];
  const made = JSON.parse(await call(world, caller, seconds)) as {
    perSecond: number;
    failed: number;
    slow: number;
    seen: string;
  };
  const iperf3 = ["iperf3", "-c", FIRST, "-p", String(PORT.iperf3), "-t", String(seconds), "-J"];
  const bulk = JSON.parse(await call(world, iperf3, seconds)) as {
    end: { sum_received: { bits_per_second: number } };
  };
  return {
    figures: {
      tcp,
      udp,
      packets: perSecond,
      connections: made.perSecond,
      bulk: bulk.end.sum_received.bits_per_second / 1e6,
    },
    failed: made.failed,
    slow: made.slow,
    seen: made.seen,
  };
}
