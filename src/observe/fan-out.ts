// SPDX-License-Identifier: Apache-2.0
// From one stream of flows to many listeners, none of which can hold up the others or the packet path: each has a queue
// of its own with a bound, and what does not fit is counted and told to that listener.
import type { Flow } from "./decode.ts";

/** What a listener gets. */
export type MonitorItem =
  | { readonly flow: Flow }
  | { readonly lost: number; readonly where: "queue" | "kernel" };

export const QUEUE_LENGTH = 4096;

/** One listener's queue. */
export class FlowQueue {
  readonly #limit: number;
  #items: MonitorItem[] = [];
  #lost = 0;
  #lostInKernel = 0;
  #wake: (() => void) | undefined;

  constructor(limit = QUEUE_LENGTH) {
    this.#limit = limit;
  }

  /** False if there was no room for it. */
  push(flow: Flow): boolean {
    const room = this.#items.length < this.#limit;
    if (room) this.#items.push({ flow });
    else this.#lost++;
    this.#wake?.();
    return room;
  }

  noteKernelLoss(count: number): void {
    this.#lostInKernel += count;
    this.#wake?.();
  }

  /** Everything that waits, losses last: they are younger than what is in the queue. */
  take(): MonitorItem[] {
    const items = this.#items;
    this.#items = [];
    if (this.#lost > 0) items.push({ lost: this.#lost, where: "queue" });
    if (this.#lostInKernel > 0) items.push({ lost: this.#lostInKernel, where: "kernel" });
    this.#lost = 0;
    this.#lostInKernel = 0;
    return items;
  }

  /** Called when something has come; one caller. */
  onReady(wake: (() => void) | undefined): void {
    this.#wake = wake;
  }
}

/** The listeners. */
export class FanOut {
  readonly #queues = new Set<FlowQueue>();
  #events = 0;
  #lost = 0;
  #unread = 0;

  get clients(): number {
    return this.#queues.size;
  }

  /** Flows seen, and events that the kernel could not put into its ring buffer, since the agent started. */
  get counts(): { events: number; lost: number } {
    return { events: this.#events, lost: this.#lost };
  }

  /** Flows that listeners have missed because they read too slowly, over all listeners there have been. */
  get unread(): number {
    return this.#unread;
  }

  join(queue: FlowQueue): void {
    this.#queues.add(queue);
  }

  leave(queue: FlowQueue): void {
    this.#queues.delete(queue);
  }

  /** Counts events that nobody listens for. */
  count(events: number): void {
    this.#events += events;
  }

  publish(flow: Flow): void {
    for (const queue of this.#queues) if (!queue.push(flow)) this.#unread++;
  }

  lostInKernel(count: number): void {
    if (count <= 0) return;
    this.#lost += count;
    for (const queue of this.#queues) queue.noteKernelLoss(count);
  }
}
