// SPDX-License-Identifier: Apache-2.0
// Asks the servers of outside-server.ts who they see, from sockets inside a pod's or node's namespace: no process per
// pod, so a hundred pods are asked in the time that a few processes take to start.
import { createSocket } from "node:dgram";
import { Socket } from "node:net";
import { connectFd, datagramFd } from "../../src/kernel/socket.ts";
import { OUTSIDE_PORT } from "./netns.ts";

/** What one question gave. `peer` is the address under which the server saw us. */
export interface Seen {
  readonly target: string;
  readonly peer?: string;
  readonly peerPort?: number;
  readonly server?: string;
  readonly error?: string;
}

/** Ports of the servers that are asked. */
export interface Ports {
  readonly http: number;
  readonly tcp: number;
  readonly udp: number;
}

export interface AskOptions {
  /** Default: those of the outside's servers. */
  readonly ports?: Ports;
  /** For an answer. Default: as long as a busy machine may take; who asks again, or expects silence, takes less. */
  readonly patienceMs?: number;
}

const PATIENCE_MS = 15_000;

/** Where a question goes, and how long it waits for an answer. */
interface Way {
  readonly netns: string;
  readonly host: string;
  readonly port: number;
  readonly patienceMs: number;
}

/** The first line of JSON in what a TCP server sends after we said `say`. */
function overTcp({ netns, host, port, patienceMs }: Way, say: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = new Socket({ fd: connectFd({ netns, host, port }), readable: true, writable: true });
    let text = "";
    socket.setTimeout(patienceMs, () => socket.destroy(new Error("no answer")));
    socket.on("error", reject);
    socket.on("data", (chunk: Buffer) => {
      text += chunk;
      const line = text.split("\n").find((l) => l.startsWith("{"));
      if (line === undefined) return;
      resolve(line);
      socket.destroy();
    });
    socket.on("end", () => reject(new Error("closed without an answer")));
    socket.write(say);
    socket.resume();
  });
}

function overUdp({ netns, host, port, patienceMs }: Way, source: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const v6 = host.includes(":");
    const socket = createSocket(v6 ? "udp6" : "udp4");
    const timer = setTimeout(() => {
      socket.close();
      reject(new Error("no answer"));
    }, patienceMs);
    socket.on("error", reject);
    socket.on("message", (message) => {
      clearTimeout(timer);
      socket.close();
      resolve(message.toString().split("\n")[0] ?? "");
    });
    const fd = datagramFd({ netns, host: source || (v6 ? "::" : "0.0.0.0"), port: 0 });
    socket.bind({ fd }, () => socket.send("?", port, host));
  });
}

/**
 * One question from a namespace: `http:198.51.100.10`, `tcp:2001:db8:100::10`, `udp:203.0.113.10`, the last also
 * `udp:203.0.113.10@10.244.1.9` to ask from that address. Never rejects: failures are in `error`.
 */
export async function ask(netns: string, target: string, options: AskOptions = {}): Promise<Seen> {
  const { ports = OUTSIDE_PORT, patienceMs = PATIENCE_MS } = options;
  const [, protocol, host = "", source = ""] = /^(http|tcp|udp):([^@]+)@?(.*)$/.exec(target) ?? [];
  const to = (port: number): Way => ({ netns, host, port, patienceMs });
  try {
    let answer: string;
    if (protocol === "udp") answer = await overUdp(to(ports.udp), source);
    else if (protocol === "tcp") answer = await overTcp(to(ports.tcp), "?");
    else answer = await overTcp(to(ports.http), "GET / HTTP/1.0\r\n\r\n");
    return { target, ...(JSON.parse(answer) as Partial<Seen>) };
  } catch (thrown) {
    return { target, error: (thrown as Error).message };
  }
}

/** Who the servers see, per target: an address, or what went wrong. */
export async function peersSeen(netns: string, targets: readonly string[]): Promise<Record<string, string>> {
  const seen = await Promise.all(targets.map((target) => ask(netns, target)));
  return Object.fromEntries(seen.map((s) => [s.target, s.peer ?? s.error ?? ""]));
}
