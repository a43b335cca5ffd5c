// SPDX-License-Identifier: Apache-2.0
// A generator of traffic by blocking system calls, for what no tool of the distribution measures: new TCP connections one
// after the other (connect, one byte there, the peer's view of our address back, close; the server closes first, so that
// TIME-WAIT stays with it and the client's ports are free at once), and over IPv6 round trips and packets. The server of
// connections has a UDP socket on the same port, which it never reads: the sink of packets, without wake-ups.
// Usage: exchange.ts serve HOST PORT | echo tcp|udp HOST PORT
//        exchange.ts scatter COUNT PER_MS
//        exchange.ts connections|packets SECONDS PORT ADDRESS... | round-trips tcp|udp SECONDS PORT ADDRESS
import { writeSync } from "node:fs";
import { familyOf } from "../../src/base/addr.ts";
import { allocate, errno, libc } from "../../src/kernel/ffi.ts";
import {
  addressText,
  bound,
  close,
  connected,
  noDelay,
  Peer,
  sendTo,
  socketAddress,
  type Transport,
} from "./socket.ts";

/** A connection that takes longer lost a packet: the kernel repeats the first after a second. */
const SLOW_MS = 200;
const WARM_UP_MS = 300;
/** As sockperf's. */
const ROUND_TRIP_BYTES = 14;
const PACKET_BYTES = 64;

/** Answers until it is killed. */
function serve(host: string, port: number): never {
  bound("udp", host, port);
  const listener = bound("tcp", host, port);
  const peer = new Peer(familyOf(host));
  const request = allocate(1);
  for (;;) {
    const fd = peer.accept(listener);
    if (fd < 0) continue;
    if (libc.recv(fd, request, 1, 0) === 1) libc.send(fd, peer.bytes, peer.bytes.length, 0);
    close(fd);
  }
}

/** Sends back what comes, until it is killed; bound to one address, which datagrams then come back from. */
function echo(transport: Transport, host: string, port: number): never {
  const socket = bound(transport, host, port);
  const data = allocate(ROUND_TRIP_BYTES);
  const peer = new Peer(familyOf(host));
  for (;;) {
    if (transport === "udp") {
      const bytes = peer.receive(socket, data);
      if (bytes > 0) peer.send(socket, data, bytes);
      continue;
    }
    const fd = peer.accept(socket);
    if (fd < 0) continue;
    noDelay(fd);
    for (let bytes = 1; bytes > 0; ) {
      bytes = libc.recv(fd, data, data.length, 0);
      if (bytes > 0) libc.send(fd, data, bytes, 0);
    }
    close(fd);
  }
}

/** One connection; gives why it failed. */
function exchange(to: Uint8Array, request: Uint8Array, answer: Uint8Array): string | undefined {
  const fd = connected("tcp", to);
  if (fd < 0) return `connect: ${errno()}`;
  let failure: string | undefined;
  if (libc.send(fd, request, 1, 0) !== 1) failure = `send: ${errno()}`;
  else if (libc.recv(fd, answer, answer.length, 0) !== answer.length) failure = `recv: ${errno()}`;
  else if (libc.recv(fd, request, 1, 0) !== 0) failure = `end: ${errno()}`;
  close(fd);
  return failure;
}

const tell = (report: object): void => {
  writeSync(1, `${JSON.stringify(report)}\n`);
};

function connections(seconds: number, port: number, addresses: readonly string[]): void {
  const targets = addresses.map((address) => socketAddress(address, port));
  const request = allocate(1);
  const answer = allocate(addresses[0]?.includes(":") ? 16 : 4);
  let next = 0;
  const round = (
    ms: number,
  ): { made: number; failures: string[]; slow: number; lostMs: number; ms: number } => {
    const result = { made: 0, failures: [] as string[], slow: 0, lostMs: 0, ms: 0 };
    const start = performance.now();
    let now = start;
    while (now - start < ms) {
      const failure = exchange(targets[next++ % targets.length] as Uint8Array, request, answer);
      const end = performance.now();
      if (failure !== undefined) result.failures.push(failure);
      else result.made++;
      if (end - now > SLOW_MS) {
        result.slow++;
        result.lostMs += end - now;
      }
      now = end;
    }
    result.ms = now - start - result.lostMs;
    return result;
  };
  round(WARM_UP_MS);
  const { made, failures, slow, ms } = round(seconds * 1000);
  tell({ perSecond: (made / ms) * 1000, failed: failures.length, slow, seen: addressText(answer) });
  if (failures.length > 0) writeSync(2, `${[...new Set(failures)].join(", ")}\n`);
}

/** A socket to the one address. @throws Error when there is none to be had */
function one(transport: Transport, port: number, address: string): number {
  const fd = connected(transport, socketAddress(address, port));
  if (fd < 0) throw new Error(`${transport} to ${address}: ${errno()}`);
  if (transport === "tcp") noDelay(fd);
  return fd;
}

/** Half of each round trip in µs; tells the median. A lost datagram would wait for ever, and the caller ends it. */
function roundTrips(transport: Transport, seconds: number, port: number, address: string): void {
  const fd = one(transport, port, address);
  const data = allocate(ROUND_TRIP_BYTES);
  const halves: number[] = [];
  const round = (ms: number): void => {
    halves.length = 0;
    const start = performance.now();
    for (let now = start; now - start < ms; ) {
      libc.send(fd, data, data.length, 0);
      if (libc.recv(fd, data, data.length, 0) !== data.length) throw new Error(`recv: ${errno()}`);
      const end = performance.now();
      halves.push(((end - now) * 1000) / 2);
      now = end;
    }
  };
  round(WARM_UP_MS);
  round(seconds * 1000);
  halves.sort((a, b) => a - b);
  tell({ p50: halves[halves.length >> 1] });
}

/** Sends as fast as it can; what arrives is counted by who asked. */
function packets(seconds: number, port: number, address: string): void {
  const fd = one("udp", port, address);
  const data = allocate(PACKET_BYTES);
  const start = performance.now();
  let now = start;
  for (; now - start < seconds * 1000; now = performance.now())
    for (let i = 0; i < 64; i++) libc.send(fd, data, data.length, 0);
  tell({ seconds: (now - start) / 1000 });
}

/** One datagram to each of `count` destinations of 198.18.0.0/15 (RFC 2544): so many flows, `perMs` in a millisecond. */
function scatter(count: number, perMs: number): void {
  const fd = bound("udp", "0.0.0.0", 0);
  const data = allocate(1);
  const to = socketAddress("198.18.0.0", 0);
  const view = new DataView(to.buffer);
  const start = performance.now();
  for (let i = 0; i < count; ) {
    for (const due = Math.min(count, (performance.now() - start) * perMs); i < due; i++) {
      view.setUint16(2, 1024 + (i & 0x3fff));
      view.setUint16(6, i >> 14);
      sendTo(fd, data, to);
    }
  }
  tell({ seconds: (performance.now() - start) / 1000 });
}

const [verb = "", ...rest] = process.argv.slice(2);
const transport = rest[0] as Transport;
if (verb === "serve") serve(rest[0] ?? "", Number(rest[1]));
else if (verb === "echo") echo(transport, rest[1] ?? "", Number(rest[2]));
else if (verb === "scatter") scatter(Number(rest[0]), Number(rest[1]));
else if (verb === "connections") connections(Number(rest[0]), Number(rest[1]), rest.slice(2));
else if (verb === "packets") packets(Number(rest[0]), Number(rest[1]), rest[2] ?? "");
else roundTrips(transport, Number(rest[1]), Number(rest[2]), rest[3] ?? "");
