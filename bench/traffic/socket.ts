// SPDX-License-Identifier: Apache-2.0
// Blocking sockets of both families by system calls, without the event loop and the bookkeeping of node: what the
// generators of traffic are made of.
import { addressBytes, type Family, familyOf, formatAddress } from "../../src/base/addr.ts";
import { allocate, checked, libc, openLibrary } from "../../src/kernel/ffi.ts";

const AF = { 4: 2, 6: 10 } as const;
const TYPE = { tcp: 1, udp: 2 } as const;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const BACKLOG = 4096;
/** Of struct sockaddr_in and sockaddr_in6: how long it is, and where the address stands. */
const SOCKADDR = { 4: { bytes: 16, at: 4, length: 4 }, 6: { bytes: 28, at: 8, length: 16 } } as const;

export type Transport = keyof typeof TYPE;

const library = openLibrary("libc.so.6");
type WithAddress = (fd: number, address: Uint8Array, length: Uint8Array) => number;
const accept = library("int accept(int fd, void *address, void *length)") as WithAddress;
const recvfrom = library(
  "long recvfrom(int fd, void *data, size_t bytes, int flags, void *address, void *length)",
) as (fd: number, data: Uint8Array, bytes: number, flags: number, a: Uint8Array, l: Uint8Array) => number;
const sendto = library(
  "long sendto(int fd, void *data, size_t bytes, int flags, void *address, uint length)",
) as (fd: number, data: Uint8Array, bytes: number, flags: number, a: Uint8Array, l: number) => number;
/** close(2), without the bookkeeping of node:fs. */
export const close = library("int close(int fd)") as (fd: number) => number;

/** struct sockaddr_in or sockaddr_in6. */
export function socketAddress(address: string, port: number): Uint8Array {
  const family = familyOf(address);
  const { bytes, at, length } = SOCKADDR[family];
  const memory = allocate(bytes);
  const view = new DataView(memory.buffer);
  view.setUint16(0, AF[family], true);
  view.setUint16(2, port);
  // IPv4 stands in the last bytes of what addressBytes gives.
  memory.set(addressBytes(address).subarray(16 - length), at);
  return memory;
}

function setOption(fd: number, level: number, option: number): void {
  const one = allocate(4);
  one[0] = 1;
  checked("socket.option", `${level}/${option}`, libc.setsockopt(fd, level, option, one, one.length));
}

/** A socket; for TCP without delay of small segments. -1 if there is none to be had. */
export function open(transport: Transport, family: Family): number {
  return libc.socket(AF[family], TYPE[transport], 0);
}

export function noDelay(fd: number): void {
  setOption(fd, IPPROTO_TCP, TCP_NODELAY);
}

/** A socket bound to a port of one address (`::` and `0.0.0.0`: all of one family); TCP listens. */
export function bound(transport: Transport, host: string, port: number): number {
  const family = familyOf(host);
  const fd = checked("socket.open", transport, open(transport, family));
  if (family === 6) setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY);
  setOption(fd, SOL_SOCKET, SO_REUSEADDR);
  const address = socketAddress(host, port);
  checked("socket.bind", `${port}`, libc.bind(fd, address, address.length));
  if (transport === "tcp") checked("socket.listen", `${port}`, libc.listen(fd, BACKLOG));
  return fd;
}

/** A socket connected to an address made by socketAddress; -1 if it cannot be. */
export function connected(transport: Transport, to: Uint8Array): number {
  const fd = open(transport, to.length === SOCKADDR[4].bytes ? 4 : 6);
  if (fd < 0 || libc.connect(fd, to, to.length) === 0) return fd;
  close(fd);
  return -1;
}

/** A datagram to an address made by socketAddress. */
export function sendTo(fd: number, data: Uint8Array, to: Uint8Array): number {
  return sendto(fd, data, data.length, 0, to, to.length);
}

/** Where the other side's address is put: its bytes, and the same as an argument of system calls. */
export class Peer {
  readonly #memory: Uint8Array;
  readonly #length = allocate(4);
  /** The address alone, 4 or 16 bytes. */
  readonly bytes: Uint8Array;

  constructor(family: Family) {
    const { bytes, at, length } = SOCKADDR[family];
    this.#memory = allocate(bytes);
    this.bytes = this.#memory.subarray(at, at + length);
  }

  accept(listener: number): number {
    this.#length[0] = this.#memory.length;
    return accept(listener, this.#memory, this.#length);
  }

  receive(fd: number, data: Uint8Array): number {
    this.#length[0] = this.#memory.length;
    return recvfrom(fd, data, data.length, 0, this.#memory, this.#length);
  }

  send(fd: number, data: Uint8Array, bytes: number): number {
    return sendto(fd, data, bytes, 0, this.#memory, this.#memory.length);
  }
}

/** Bytes of an address as they stood in Peer.bytes, as text. */
export function addressText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  return formatAddress(bytes);
}
