// SPDX-License-Identifier: Apache-2.0
// Traffic from inside a pod, until standard input ends: long-lived TCP connections, new ones, new UDP flows, both families,
// all to an echo server. Prints "started" when all long-lived connections stand, at the end one line of JSON: what was sent,
// what came back.
// Usage: traffic.ts PORT LONG_LIVED NEW_PER_SECOND ADDRESS...   both numbers are for all addresses together
import { createSocket, type Socket as DatagramSocket } from "node:dgram";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** One long-lived connection: both ends here, and the port that the server saw at its beginning. */
export interface LongLived {
  readonly local: string;
  readonly localPort: number;
  readonly remote: string;
  readonly seenPort: number;
}

/** The last line of output. */
export interface TrafficReport {
  /** Connections that stayed open from begin to end. */
  longLived: LongLived[];
  longLivedBroken: string[];
  /** Lines sent and received, in order, on all of them. */
  lines: { sent: number; echoed: number };
  connections: { opened: number; failed: string[] };
  /** Each from a socket of its own. */
  datagrams: { sent: number; echoed: number };
  /** Datagrams that this namespace's sockets had no room for. */
  overflowed: number;
}

const TICK_MS = 10;
/** Lines per second on all long-lived connections together, if each is to have no more than one every 10 ms. */
const LINES_PER_SECOND = 800;
/** At the end answers are awaited for as long as they come: until none has come for so long. */
const QUIET_MS = 2000;
/** Connections that are being opened at once. */
const OPENING = 50;
/** New ones that are open at once: several pods together stay below the 511 that wait for a server that has no processor. */
const OPEN = 100;

const report: TrafficReport = {
  longLived: [],
  longLivedBroken: [],
  lines: { sent: 0, echoed: 0 },
  connections: { opened: 0, failed: [] },
  datagrams: { sent: 0, echoed: 0 },
  overflowed: 0,
};

function counter(file: string, group: string, name: string): number {
  const rows = readFileSync(`/proc/self/net/${file}`, "utf8")
    .split("\n")
    .filter((line) => line.startsWith(`${group}:`))
    .map((line) => line.split(" "));
  return Number(rows[1]?.[rows[0]?.indexOf(name) ?? -1]);
}

/** TCP segments that this namespace has sent, repeated ones included, and received. `who`: it opens all its connections, or none. */
export function segments(who: "opener" | "server"): { sent: number; received: number } {
  const [out, again] = [counter("snmp", "Tcp", "OutSegs"), counter("snmp", "Tcp", "RetransSegs")];
  // The kernel counts a SYN-ACK that is repeated in both.
  const twice = who === "server" ? counter("netstat", "TcpExt", "TCPSynRetrans") : 0;
  return { sent: out + again - twice, received: counter("snmp", "Tcp", "InSegs") };
}

/** Datagrams that sockets of this namespace had no room for. */
export function overflows(): number {
  const v6 = /^Udp6RcvbufErrors\s+(\d+)$/m.exec(readFileSync("/proc/self/net/snmp6", "utf8"))?.[1];
  return counter("snmp", "Udp", "RcvbufErrors") + Number(v6 ?? 0);
}

let stopping = false;

/** Calls `action` so many times a second, catching up with what a busy machine has missed. */
function often(perSecond: number, action: () => void): NodeJS.Timeout {
  const start = performance.now();
  let done = 0;
  return setInterval(() => {
    const due = Math.floor(((performance.now() - start) * perSecond) / 1000);
    for (let burst = 0; done < due && burst < 50; burst++, done++) action();
    done = due;
  }, TICK_MS);
}

/** A connection that gets numbered lines and checks that they come back in order; gives what sends the next one. */
async function longLived(address: string, port: number): Promise<{ socket: Socket; next: () => void }> {
  const socket = connect(port, address);
  socket.setNoDelay(true);
  let rest = "";
  let awaited = 0;
  let sent = 0;
  let greeting = true;
  const broken = (why: string): void => {
    if (!stopping) report.longLivedBroken.push(`${address} port ${socket.localPort}: ${why}`);
  };
  const greeted = Promise.withResolvers<void>();
  socket.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (greeting) {
        const { localAddress: local = "", localPort = 0 } = socket;
        const seenPort: number = JSON.parse(line).peerPort;
        report.longLived.push({ local, localPort, remote: address, seenPort });
        greeting = false;
        greeted.resolve();
      } else if (line === String(awaited)) {
        report.lines.echoed++;
        awaited++;
      } else {
        broken(`line ${awaited++} came back as ${line}`);
      }
    }
  });
  socket.on("error", greeted.reject).on("error", (error) => broken(error.message));
  socket.on("close", () => broken("closed"));
  await greeted.promise;
  const next = (): void => {
    socket.write(`${sent++}\n`);
    report.lines.sent++;
  };
  return { socket, next };
}

/** One new connection: opened, greeted, one line echoed, closed. */
async function oneConnection(address: string, port: number): Promise<void> {
  const socket = connect(port, address);
  tried++;
  try {
    socket.setTimeout(30_000, () => socket.destroy(new Error("no answer in 30 s")));
    let text = "";
    socket.setEncoding("utf8").on("data", (chunk) => {
      text += chunk;
    });
    socket.end("hello\n");
    await once(socket, "close");
    if (!text.endsWith("hello\n")) throw new Error(`answered ${JSON.stringify(text)}`);
    report.connections.opened++;
  } catch (thrown) {
    report.connections.failed.push(`${address}: ${(thrown as Error).message}`);
  }
}

/** New connections so far, and those of them that are over. */
let tried = 0;
const ended = (): number => report.connections.opened + report.connections.failed.length;
const asking = new Set<DatagramSocket>();

/** One new UDP flow: a datagram that must come back. */
function oneDatagram(address: string, port: number): void {
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  asking.add(socket);
  socket.on("message", () => {
    report.datagrams.echoed++;
    asking.delete(socket);
    socket.close();
  });
  socket.send("hello", port, address);
  report.datagrams.sent++;
}

/** Until everything is answered, or nothing comes any more: how long that takes is up to the machine. */
async function settled(): Promise<void> {
  const { lines, datagrams } = report;
  const due = lines.sent + tried + datagrams.sent;
  let answered = -1;
  let since = performance.now();
  while (performance.now() - since < QUIET_MS) {
    const now = lines.echoed + ended() + datagrams.echoed;
    if (now === due) return;
    if (now !== answered) since = performance.now();
    answered = now;
    await sleep(TICK_MS);
  }
}

/** All long-lived connections, so many being opened at a time. */
async function openLongLived(
  count: number,
  addresses: string[],
  port: number,
): Promise<Awaited<ReturnType<typeof longLived>>[]> {
  const opened: Awaited<ReturnType<typeof longLived>>[] = [];
  let begun = 0;
  const open = async (): Promise<void> => {
    while (begun < count) opened.push(await longLived(addresses[begun++ % addresses.length] ?? "", port));
  };
  await Promise.all(Array.from({ length: OPENING }, open));
  return opened;
}

async function main(): Promise<void> {
  const [port = 0, count = 0, perSecond = 0] = process.argv.slice(2, 5).map(Number);
  const addresses = process.argv.slice(5);
  const before = overflows();
  const opened = await openLongLived(count, addresses, port);
  let line = 0;
  let flow = 0;
  const timers = [
    often(Math.min(LINES_PER_SECOND, 100 * count), () => opened[line++ % opened.length]?.next()),
    often(perSecond, () => {
      const address = addresses[(flow >> 1) % addresses.length] ?? "";
      if (flow++ % 2 === 0) {
        // What finds no place in the server's queue is reset or given up at last, whoever carries it.
        if (tried - ended() < OPEN) void oneConnection(address, port);
      } else oneDatagram(address, port);
    }),
  ];
  process.stdout.write("started\n");
  process.stdin.resume();
  await once(process.stdin, "end");
  for (const timer of timers) clearInterval(timer);
  await settled();
  stopping = true;
  report.overflowed = overflows() - before;
  for (const { socket } of opened) socket.destroy();
  for (const socket of asking) socket.close();
  process.stdout.write(`${JSON.stringify(report)}\n`);
}

if (import.meta.main) await main();
