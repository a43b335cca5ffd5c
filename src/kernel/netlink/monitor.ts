// SPDX-License-Identifier: Apache-2.0
// What changes in a network namespace, as it changes: links, addresses, routes, routing rules, neighbours, and filters taken
// off devices, from rtnetlink's multicast groups. When changes come faster than they are read the kernel drops some and says so: then `lost` is
// told, and whoever keeps a picture reads it anew.
import { closeSync } from "node:fs";
import { allocate, errno, libc, refused, watchReadable } from "../ffi.ts";
import { type Netns, withNetns } from "../netns.ts";
import { type DeviceAddress, decodeAddress, RTM_ADDRESS } from "./address.ts";
import { type Message, messagesOf } from "./codec.ts";
import { decodeLink, type Link, RTM_LINK } from "./link.ts";
import { decodeNeighbour, type Neighbour, RTM_NEIGHBOUR } from "./neighbour.ts";
import { decodeRoute, type Route, RTM_ROUTE } from "./route.ts";
import { decodeRule, type RoutingRule, RTM_RULE } from "./rule.ts";
import { openGroupSocket } from "./socket.ts";
import { decodeStripped } from "./tc.ts";

/** include/uapi/linux/rtnetlink.h: bit n - 1 for group RTNLGRP_* n. */
const GROUPS = {
  link: 1,
  neighbour: 4,
  filter: 8,
  rule: 0x80 | 0x40000,
  address: 0x10 | 0x100,
  route: 0x40 | 0x400,
} as const;

export type NetworkTopic = keyof typeof GROUPS;

export type NetworkChange =
  | { readonly kind: "link"; readonly gone: boolean; readonly link: Link }
  | { readonly kind: "address"; readonly gone: boolean; readonly address: DeviceAddress }
  | { readonly kind: "route"; readonly gone: boolean; readonly route: Route }
  | { readonly kind: "neighbour"; readonly gone: boolean; readonly neighbour: Neighbour }
  | { readonly kind: "rule"; readonly gone: boolean; readonly rule: RoutingRule }
  /** Somebody took filters or a qdisc off a device. */
  | { readonly kind: "filter"; readonly gone: true; readonly device: number }
  /** Changes were lost: read everything again. */
  | { readonly kind: "lost" };

/** Room for about 2,000 changes that nobody has read yet. */
const RECEIVE_BUFFER_BYTES = 4 << 20;

/** Datagrams read in one go before other events get their turn. */
const DATAGRAMS_PER_TURN = 64;

function decode(message: Message): NetworkChange | undefined {
  const { type } = message;
  if (type === RTM_LINK.new || type === RTM_LINK.delete) {
    // Bridges tell of their ports in the family AF_BRIDGE as well.
    if (message.view.getUint8(0) !== 0) return undefined;
    return { kind: "link", gone: type === RTM_LINK.delete, link: decodeLink(message) };
  }
  if (type === RTM_ADDRESS.new || type === RTM_ADDRESS.delete) {
    const address = decodeAddress(message);
    return address && { kind: "address", gone: type === RTM_ADDRESS.delete, address };
  }
  if (type === RTM_ROUTE.new || type === RTM_ROUTE.delete) {
    const route = decodeRoute(message);
    return route && { kind: "route", gone: type === RTM_ROUTE.delete, route };
  }
  if (type === RTM_NEIGHBOUR.new || type === RTM_NEIGHBOUR.delete) {
    const neighbour = decodeNeighbour(message);
    return neighbour && { kind: "neighbour", gone: type === RTM_NEIGHBOUR.delete, neighbour };
  }
  if (type === RTM_RULE.new || type === RTM_RULE.delete) {
    const rule = decodeRule(message);
    return rule && { kind: "rule", gone: type === RTM_RULE.delete, rule };
  }
  const device = decodeStripped(message);
  if (device !== undefined) return { kind: "filter", gone: true, device };
  return undefined;
}

/**
 * An open subscription: iterate it with `for await`; disposing it ends the iteration. Changes that happen after it was
 * opened are told, so open it first and read the present state then.
 */
export class NetworkMonitor implements AsyncIterableIterator<NetworkChange>, Disposable {
  readonly #fd: number;
  readonly #buffer = allocate(65536);
  readonly #queue: NetworkChange[] = [];
  #watch: Disposable | undefined;
  #waiting: (() => void) | undefined;
  #closed = false;

  constructor(topics: readonly NetworkTopic[]) {
    this.#fd = openGroupSocket(
      topics.reduce((mask, topic) => mask | GROUPS[topic], 0),
      RECEIVE_BUFFER_BYTES,
    );
    this.#watch = watchReadable(this.#fd, () => this.#drain());
  }

  #drain(): void {
    for (let i = 0; i < DATAGRAMS_PER_TURN && !this.#closed; i++) {
      const length = libc.recv(this.#fd, this.#buffer, this.#buffer.length, 0);
      if (length < 0) {
        const name = errno();
        if (name === "ENOBUFS") this.#queue.push({ kind: "lost" });
        else if (name !== "EAGAIN" && name !== "EINTR") throw refused("netlink.receive", name, "monitor");
        if (name === "EAGAIN") break;
        continue;
      }
      for (const message of messagesOf(this.#buffer.subarray(0, length))) {
        const change = decode(message);
        if (change) this.#queue.push(change);
      }
    }
    if (this.#queue.length > 0) this.#wake();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.();
  }

  async next(): Promise<IteratorResult<NetworkChange>> {
    while (this.#queue.length === 0 && !this.#closed) {
      await new Promise<void>((wake) => {
        this.#waiting = wake;
      });
    }
    const value = this.#queue.shift();
    return value ? { value, done: false } : { value: undefined, done: true };
  }

  /** The loop over it was left. */
  async return(): Promise<IteratorResult<NetworkChange>> {
    this.close();
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue.length = 0;
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
    closeSync(this.#fd);
    this.#wake();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Follows `topics` in a namespace, or in the calling thread's own. */
export function watchNetwork(topics: readonly NetworkTopic[], netns?: Netns | string): NetworkMonitor {
  if (netns === undefined) return new NetworkMonitor(topics);
  return withNetns(netns, () => new NetworkMonitor(topics));
}
