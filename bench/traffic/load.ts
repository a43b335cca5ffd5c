// SPDX-License-Identifier: Apache-2.0
// The load of the traffic benchmark: which generator measures what, and how its figure is read. Over IPv4 sockperf measures
// round trips and UDP packets, over IPv6, which Debian's sockperf cannot, exchange.ts; iperf3 measures bulk, exchange.ts new
// connections. All run on one processor with their servers.
import type { ChildProcess } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { setPriority } from "node:os";
import { join } from "node:path";
import { waitFor } from "../../src/base/async.ts";
import { isErrno } from "../../src/kernel/errno.ts";
import { INTERNET } from "./addresses.ts";
import type { World } from "./world.ts";

export const FAMILIES = [4, 6] as const;
export type Family = (typeof FAMILIES)[number];

/** What is measured, in this order. `better` says whether a higher or a lower figure is. */
export const MEASURES = {
  tcp: { title: "TCP request-response p50, µs one way", better: "lower", digits: 2 },
  udp: { title: "UDP request-response p50, µs one way", better: "lower", digits: 2 },
  packets: { title: "UDP 64-byte packets/s", better: "higher", digits: 0 },
  connections: { title: "new TCP connections/s", better: "higher", digits: 0 },
  bulk: { title: "bulk TCP, Mbit/s", better: "higher", digits: 0 },
} as const;
export type Measure = keyof typeof MEASURES;
export type Figures = Record<Measure, number>;

/** What one world gave for one family, and what went wrong with connections: failed ones, and those that took over 200 ms. */
export interface Sample {
  figures: Figures;
  failed: number;
  slow: number;
  /** Whom the server saw. */
  seen: string;
}

const PORT = {
  sockperf: 11111,
  echo: 11112,
  connections: 9000,
  iperf3: { 4: 5201, 6: 5202 },
} as const;
/** A bulk transfer wanders most, and begins slowly: it is measured for so many times as long, after so many seconds. */
export const BULK = { times: 3, omitSeconds: 1 } as const;
/** Command of the generator of traffic. */
export const EXCHANGE = [process.execPath, join(import.meta.dirname, "exchange.ts")];

type Table = "tcp" | "udp" | "tcp6" | "udp6";

/** Whether a process has a socket bound to the port, from its namespace's tables. */
function bound(pid: number | undefined, table: Table, port: number): boolean {
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
async function serve(world: World, argv: readonly string[], table: Table, port: number): Promise<void> {
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
function arrived(world: World, family: Family): number {
  const read = (name: string): string => readFileSync(`/proc/${world.outsidePid()}/net/${name}`, "latin1");
  if (family === 6) {
    const count = (name: string): number => find(read("snmp6"), new RegExp(`^${name}\\s+(\\d+)$`, "m"));
    return count("Udp6InDatagrams") + count("Udp6RcvbufErrors");
  }
  const rows = read("snmp")
    .split("\n")
    .filter((row) => row.startsWith("Udp:"))
    .map((row) => row.split(" "));
  const column = (name: string): number => Number(rows[1]?.[rows[0]?.indexOf(name) ?? -1]);
  return column("InDatagrams") + column("RcvbufErrors");
}

const sockperf = (mode: string, port: number, seconds: number): string[] => [
  "sockperf",
  mode,
  ...["-i", INTERNET[4][0] ?? "", "-p", String(port), "-t", String(seconds)],
];

/** Half of a round trip, µs. */
async function roundTrip(
  world: World,
  family: Family,
  transport: "tcp" | "udp",
  seconds: number,
): Promise<number> {
  if (family === 4) {
    const argv = [
      ...sockperf("ping-pong", PORT.sockperf, seconds),
      ...(transport === "tcp" ? ["--tcp"] : []),
    ];
    return find(await call(world, argv, seconds), /percentile 50\.000 =\s+([\d.]+)/);
  }
  const [first = ""] = INTERNET[6];
  const argv = [...EXCHANGE, "round-trips", transport, String(seconds), String(PORT.echo), first];
  return find(await call(world, argv, seconds), /"p50":([\d.]+)/);
}

/** Packets that arrived per second of sending. */
async function packets(world: World, family: Family, seconds: number): Promise<number> {
  const before = arrived(world, family);
  const [first = ""] = INTERNET[family];
  const argv =
    family === 4
      ? [...sockperf("throughput", PORT.connections, seconds), "-m", "64", "--mps", "max"]
      : [...EXCHANGE, "packets", String(seconds), String(PORT.connections), first];
  const took = family === 4 ? /messages sent in ([\d.]+) sec/ : /"seconds":([\d.]+)/;
  const text = await call(world, argv, seconds);
  return (arrived(world, family) - before) / find(text, took);
}

/** Starts the servers of new connections, both families; the sinks of packets come with them. */
export async function serveConnections(world: World): Promise<void> {
  for (const family of FAMILIES) {
    const everywhere = family === 4 ? "0.0.0.0" : "::";
    const argv = [...EXCHANGE, "serve", everywhere, String(PORT.connections)];
    await serve(world, argv, family === 4 ? "tcp" : "tcp6", PORT.connections);
  }
}

/** Starts all servers of both families. */
export async function serveAll(world: World): Promise<void> {
  const sockperfServer = ["sockperf", "server", "-i", INTERNET[4][0] ?? "", "-p", String(PORT.sockperf)];
  await serve(world, sockperfServer, "udp", PORT.sockperf);
  await serve(world, [...sockperfServer, "--tcp"], "tcp", PORT.sockperf);
  for (const transport of ["tcp", "udp"] as const) {
    const echo = [...EXCHANGE, "echo", transport, INTERNET[6][0] ?? "", String(PORT.echo)];
    await serve(world, echo, `${transport}6`, PORT.echo);
  }
  for (const family of FAMILIES) {
    const table = family === 4 ? "tcp" : "tcp6";
    const iperf3 = ["iperf3", "-s", `-${family}`, "-p", String(PORT.iperf3[family])];
    await serve(world, iperf3, table, PORT.iperf3[family]);
  }
  await serveConnections(world);
}

/** New connections, one after the other; `seen` is whom the server saw. */
export async function connections(
  world: World,
  family: Family,
  seconds: number,
): Promise<{ perSecond: number; failed: number; slow: number; seen: string }> {
  const argv = [...EXCHANGE, "connections", String(seconds), String(PORT.connections), ...INTERNET[family]];
  return JSON.parse(await call(world, argv, seconds));
}

/** Mbit/s that the server received. */
async function bulk(world: World, family: Family, seconds: number): Promise<number> {
  const time = ["-t", String(BULK.times * seconds), "-O", String(BULK.omitSeconds)];
  const argv = ["iperf3", "-c", INTERNET[family][0] ?? "", "-p", String(PORT.iperf3[family]), ...time, "-J"];
  const report = JSON.parse(await call(world, argv, BULK.times * seconds + BULK.omitSeconds)) as {
    end: { sum_received: { bits_per_second: number } };
  };
  return report.end.sum_received.bits_per_second / 1e6;
}

/** Runs all measures of one family in a world whose servers run; `seconds` each, bulk longer. */
export async function measure(world: World, family: Family, seconds: number): Promise<Sample> {
  const tcp = await roundTrip(world, family, "tcp", seconds);
  const udp = await roundTrip(world, family, "udp", seconds);
  const perSecond = await packets(world, family, seconds);
  const made = await connections(world, family, seconds);
  const bulkMbits = await bulk(world, family, seconds);
  const { failed, slow, seen } = made;
  const figures = {
    tcp,
    udp,
    packets: perSecond,
    connections: made.perSecond,
    bulk: bulkMbits,
  };
  return { figures, failed, slow, seen };
}
