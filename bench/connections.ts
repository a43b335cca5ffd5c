// SPDX-License-Identifier: Apache-2.0
// New TCP connections, one after the other, by blocking system calls: connect, one byte there, the peer's view of our
// address back, close. The server closes first, so that TIME-WAIT stays with it and the client's ports are free at once. It
// has a UDP socket on the same port as well, which it never reads: the sink of the packet measure, without wake-ups.
// Usage: connections.ts serve PORT | call PORT SECONDS ADDRESS...
import { writeSync } from "node:fs";
import { allocate, checked, errno, libc, openLibrary } from "../src/kernel/ffi.ts";

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SOCKADDR_BYTES = 16;
const BACKLOG = 4096;
/** A connection that takes longer lost a packet: the kernel repeats the first after a second. */
const SLOW_MS = 200;
const WARM_UP_MS = 300;

const library = openLibrary("libc.so.6");
const accept = library("int accept(int fd, void *address, void *length)") as (
  fd: number,
  address: Uint8Array,
  length: Uint8Array,
) => number;
/** Without the bookkeeping of node:fs. */
const close = library("int close(int fd)") as (fd: number) => number;

/** struct sockaddr_in. */
function socketAddress(address: string, port: number): Uint8Array {
  const bytes = allocate(SOCKADDR_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port);
  bytes.set(address.split(".").map(Number), 4);
  return bytes;
}

/** Answers until it is killed. */
function serve(port: number): never {
  const sink = checked("socket.open", "udp", libc.socket(AF_INET, SOCK_DGRAM, 0));
  checked("socket.bind", `${port}`, libc.bind(sink, socketAddress("0.0.0.0", port), SOCKADDR_BYTES));
  const listener = checked("socket.open", "tcp", libc.socket(AF_INET, SOCK_STREAM, 0));
  const one = allocate(4);
  one[0] = 1;
  libc.setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, one, one.length);
  checked("socket.bind", `${port}`, libc.bind(listener, socketAddress("0.0.0.0", port), SOCKADDR_BYTES));
  checked("socket.listen", `${port}`, libc.listen(listener, BACKLOG));
  const peer = allocate(SOCKADDR_BYTES);
  const length = allocate(4);
  const request = allocate(1);
  const answer = peer.subarray(4, 8);
  for (;;) {
    length[0] = SOCKADDR_BYTES;
    const fd = accept(listener, peer, length);
    if (fd < 0) continue;
    if (libc.recv(fd, request, 1, 0) === 1) libc.send(fd, answer, answer.length, 0);
    close(fd);
  }
}

/** One connection; gives the address that the server saw, or why there is none. */
function exchange(to: Uint8Array, request: Uint8Array, answer: Uint8Array): string | undefined {
  const fd = libc.socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) return `socket: ${errno()}`;
  let failure: string | undefined;
  if (libc.connect(fd, to, SOCKADDR_BYTES) < 0) failure = `connect: ${errno()}`;
  else if (libc.send(fd, request, 1, 0) !== 1) failure = `send: ${errno()}`;
  else if (libc.recv(fd, answer, answer.length, 0) !== answer.length) failure = `recv: ${errno()}`;
  else if (libc.recv(fd, request, 1, 0) !== 0) failure = `end: ${errno()}`;
  close(fd);
  return failure;
}

function call(port: number, seconds: number, addresses: readonly string[]): void {
  const targets = addresses.map((address) => socketAddress(address, port));
  const request = allocate(1);
  const answer = allocate(4);
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
  const report = { perSecond: (made / ms) * 1000, failed: failures.length, slow, seen: answer.join(".") };
  writeSync(1, `${JSON.stringify(report)}\n`);
  if (failures.length > 0) writeSync(2, `${[...new Set(failures)].join(", ")}\n`);
}

const [verb = "", port = "", seconds = "", ...addresses] = process.argv.slice(2);
if (verb === "serve") serve(Number(port));
else call(Number(port), Number(seconds), addresses);
