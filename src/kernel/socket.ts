// SPDX-License-Identifier: Apache-2.0
// TCP and UDP sockets made inside a network namespace, as fds for node:net (`server.listen({fd})`,
// `new net.Socket({fd})`) and node:dgram (`bind({fd})`), which can only make their own in the namespace of the process.
import { closeSync } from "node:fs";
import { type Address, addressBytes, familyOf } from "../base/addr.ts";
import { allocate, checked, errno, libc } from "./ffi.ts";
import { type Netns, withNetns } from "./netns.ts";

/** include/uapi/asm-generic/socket.h and friends. */
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;

export interface SocketPlace {
  /** Name, path or handle of the namespace; absent: the calling thread's. */
  netns?: Netns | string;
  /** Local address for listening, remote address for connecting. */
  host: Address;
  port: number;
}

/** struct sockaddr_in or sockaddr_in6, for libc. */
export function socketAddress(host: Address, port: number): Uint8Array {
  const mapped = addressBytes(host);
  const v4 = familyOf(host) === 4;
  const bytes = allocate(v4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, v4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port);
  bytes.set(v4 ? mapped.subarray(12) : mapped, v4 ? 4 : 8);
  return bytes;
}

function setOption(fd: number, level: number, option: number): void {
  const one = allocate(4);
  one[0] = 1;
  checked("socket.option", `level ${level} option ${option}`, libc.setsockopt(fd, level, option, one, 4));
}

function openInside(place: SocketPlace, type: number, finish: (fd: number, at: Uint8Array) => void): number {
  const make = (): number => {
    const family = familyOf(place.host) === 4 ? AF_INET : AF_INET6;
    const where = `${place.host} port ${place.port}`;
    const fd = checked("socket.open", where, libc.socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    try {
      finish(fd, socketAddress(place.host, place.port));
      return fd;
    } catch (thrown) {
      closeSync(fd);
      throw thrown;
    }
  };
  return place.netns === undefined ? make() : withNetns(place.netns, make);
}

function bindTo(fd: number, place: SocketPlace, at: Uint8Array): void {
  // `::` must not take IPv4 as well: servers listen on both families with two sockets.
  if (familyOf(place.host) === 6) setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY);
  checked("socket.bind", `${place.host} port ${place.port}`, libc.bind(fd, at, at.length));
}

/** A TCP socket that listens on `host`:`port` (0: the kernel chooses), non-blocking, close-on-exec. */
export function listenFd(place: SocketPlace): number {
  return openInside(place, SOCK_STREAM, (fd, at) => {
    setOption(fd, SOL_SOCKET, SO_REUSEADDR);
    bindTo(fd, place, at);
    checked("socket.listen", `${place.host} port ${place.port}`, libc.listen(fd, 511));
  });
}

/** A TCP socket that is connecting to `host`:`port`; the outcome shows on the socket that is made of it. */
export function connectFd(place: SocketPlace): number {
  return openInside(place, SOCK_STREAM, (fd, at) => {
    if (libc.connect(fd, at, at.length) < 0 && errno() !== "EINPROGRESS") {
      checked("socket.connect", `${place.host} port ${place.port}`, -1);
    }
  });
}

/**
 * A UDP socket bound to `host`:`port` (0: the kernel chooses), its own alone: with SO_REUSEADDR the kernel may choose a port
 * that another such socket holds, and only one of the two would get the datagrams.
 */
export function datagramFd(place: SocketPlace): number {
  return openInside(place, SOCK_DGRAM, (fd, at) => bindTo(fd, place, at));
}
