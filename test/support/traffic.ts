// SPDX-License-Identifier: Apache-2.0
// Traffic from inside a pod, until standard input ends: long-lived TCP connections, new ones, UDP, both families, all to
// an echo server. Ends with one line of JSON: what was sent, what came back, what TCP had to send again.
// Usage: traffic.ts PORT ADDRESS...
import { createSocket, type Socket as DatagramSocket } from "node:dgram";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** The last line of output. */
export interface TrafficReport {
  /** Connections that stayed open from begin to end. */
  longLived: number;
  longLivedBroken: string[];
  /** Lines sent and received, in order, on all of them. */
  lines: { sent: number; echoed: number };
  connections: { opened: number; failed: string[] };
  datagrams: { sent: number; echoed: number };
  /** TCP segments of this namespace that were sent a second time. */
  retransmitted: number;
  /** Ports that the server saw for the long-lived connections at their beginning. */
  ports: number[];
}

const LONG_LIVED_PER_ADDRESS = 3;
const SETTLE_MS = 700;

const report: TrafficReport = {
  longLived: 0,
  longLivedBroken: [],
  lines: { sent: 0, echoed: 0 },
  connections: { opened: 0, failed: [] },
  datagrams: { sent: 0, echoed: 0 },
  retransmitted: 0,
  ports: [],
};

function counter(file: string, group: string, name: string): number {
  const rows = readFileSync(`/proc/self/net/${file}`, "utf8")
    .split("\n")
    .filter((line) => line.startsWith(`${group}:`))
    .map((line) => line.split(" "));
  return Number(rows[1]?.[rows[0]?.indexOf(name) ?? -1]);
}

/**
 * Segments that had to be sent again because they were lost. A probe that went out because the far side's process had
 * to wait for a processor is none: the far side says that it got the segment twice (D-SACK, RFC 2883).
 */
function retransmissions(): number {
  return counter("snmp", "Tcp", "RetransSegs") - counter("netstat", "TcpExt", "TCPDSACKRecvSegs");
}

let stopping = false;
const timers: NodeJS.Timeout[] = [];

function every(ms: number, action: () => void): void {
  timers.push(setInterval(action, ms));
}

/** Sends numbered lines for ever and checks that they come back in order. */
async function longLived(address: string, port: number): Promise<Socket> {
  const socket = connect(port, address);
  socket.setNoDelay(true);
  let rest = "";
  let next = -1;
  let sent = 0;
  const broken = (why: string): void => {
    if (!stopping) report.longLivedBroken.push(`${address} port ${socket.localPort}: ${why}`);
  };
  socket.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (next < 0) report.ports.push(JSON.parse(line).peerPort);
      else if (line === String(next)) report.lines.echoed++;
      else broken(`line ${next} came back as ${line}`);
      next++;
    }
  });
  socket.on("error", (error) => broken(error.message)).on("close", () => broken("closed"));
  await once(socket, "connect");
  report.longLived++;
  every(10, () => {
    socket.write(`${sent++}\n`);
    report.lines.sent++;
  });
  return socket;
}

/** One new connection: opened, greeted, one line echoed, closed. */
async function oneConnection(address: string, port: number): Promise<void> {
  const socket = connect(port, address);
  try {
    socket.setTimeout(5_000, () => socket.destroy(new Error("no answer in 5 s")));
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

/** Numbered datagrams on one socket; each must come back once. */
function datagrams(address: string, port: number): DatagramSocket {
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  socket.on("message", () => {
    report.datagrams.echoed++;
  });
  let sent = 0;
  every(5, () => {
    socket.send(String(sent++), port, address);
    report.datagrams.sent++;
  });
  return socket;
}

async function main(): Promise<void> {
  const [portText = "", ...addresses] = process.argv.slice(2);
  const port = Number(portText);
  const before = retransmissions();
  const sockets: Socket[] = [];
  const datagramSockets: DatagramSocket[] = [];
  for (const address of addresses) {
    for (let i = 0; i < LONG_LIVED_PER_ADDRESS; i++) sockets.push(await longLived(address, port));
    datagramSockets.push(datagrams(address, port));
    every(20, () => void oneConnection(address, port));
  }
  process.stdout.write("started\n");
  process.stdin.resume();
  await once(process.stdin, "end");
  for (const timer of timers) clearInterval(timer);
  await sleep(SETTLE_MS);
  stopping = true;
  report.retransmitted = retransmissions() - before;
  for (const socket of sockets) socket.destroy();
  for (const socket of datagramSockets) socket.close();
  process.stdout.write(`${JSON.stringify(report)}\n`);
}

if (import.meta.main) await main();
