// SPDX-License-Identifier: Apache-2.0
// The objects of one kind in memory, with their recent past: every write gets the next resource version and becomes an
// event; lists at an older version and resumed watches are answered from the events kept, or refused with 410 Gone.
import { faults } from "../faults.ts";
import type { KubeObject } from "../json.ts";
import type { Limits } from "../limits.ts";

/**
 * The resource versions of one server. They begin at the microseconds of the wall clock, so that versions from before a
 * restart are older than all history and clients list again instead of missing events.
 */
export class Clock {
  #version = Date.now() * 1000;

  get version(): number {
    return this.#version;
  }

  next(): number {
    this.#version += 1;
    return this.#version;
  }
}

/** One stored object. It and everything under `object` never changes; a write stores a new item. */
export class Item {
  readonly object: KubeObject;
  readonly key: string;
  readonly version: number;
  /** The object as JSON. */
  readonly text: string;

  constructor(object: KubeObject, version: number) {
    object.metadata.resourceVersion = String(version);
    this.object = object;
    this.key = keyOf(object.metadata.namespace, object.metadata.name);
    this.version = version;
    this.text = JSON.stringify(object);
  }
}

export function keyOf(namespace: string | undefined, name: string): string {
  return `${namespace ?? ""}/${name}`;
}

export interface StoreEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly version: number;
  /** The object after the write; for DELETED its last state under the version of the removal. */
  readonly item: Item;
  readonly previous: Item | undefined;
}

export interface Subscriber {
  /** Called in order of versions, inside the write. Must not throw. */
  event: (event: StoreEvent) => void;
  /** The kind is gone (its CRD was deleted). */
  closed: () => void;
}

export class Collection {
  readonly #clock: Clock;
  readonly #limits: Pick<Limits, "historyEvents" | "historyBytes">;
  readonly #items = new Map<string, Item>();
  readonly #subscribers = new Set<Subscriber>();
  #history: StoreEvent[] = [];
  #historyBytes = 0;
  /** All events after this version are in the history. */
  #horizon: number;
  #sorted: Item[] | undefined;

  constructor(clock: Clock, limits: Pick<Limits, "historyEvents" | "historyBytes">) {
    this.#clock = clock;
    this.#limits = limits;
    this.#horizon = clock.version;
  }

  get size(): number {
    return this.#items.size;
  }

  /** The version that a list of the present state carries. */
  get version(): number {
    return this.#clock.version;
  }

  get(namespace: string | undefined, name: string): Item | undefined {
    return this.#items.get(keyOf(namespace, name));
  }

  /** Stores an object, new or in the place of the one with its name; takes ownership of it. */
  put(object: KubeObject): Item {
    const item = new Item(object, this.#clock.next());
    const previous = this.#items.get(item.key);
    this.#items.set(item.key, item);
    this.#sorted = undefined;
    this.#publish({ type: previous ? "MODIFIED" : "ADDED", version: item.version, item, previous });
    return item;
  }

  /** Removes an object. Returns its last state. */
  remove(item: Item): Item {
    const last = new Item({ ...item.object, metadata: { ...item.object.metadata } }, this.#clock.next());
    this.#items.delete(item.key);
    this.#sorted = undefined;
    this.#publish({ type: "DELETED", version: last.version, item: last, previous: item });
    return last;
  }

  /** All objects, ordered by namespace and name. */
  items(): readonly Item[] {
    this.#sorted ??= [...this.#items.values()].sort(byKey);
    return this.#sorted;
  }

  /**
   * The objects as they were at a version.
   * @throws Fault API_GONE when the history does not reach back that far
   */
  itemsAt(version: number): readonly Item[] {
    const events = this.since(version);
    if (events.length === 0) return this.items();
    const past = new Map(this.#items);
    for (const event of events.reverse()) {
      if (event.previous) past.set(event.item.key, event.previous);
      else past.delete(event.item.key);
    }
    return [...past.values()].sort(byKey);
  }

  /**
   * The events after a version, oldest first.
   * @throws Fault API_GONE when some of them are no longer kept, or the version is not of this server
   */
  since(version: number): StoreEvent[] {
    if (version < this.#horizon || version > this.#clock.version) {
      throw faults.API_GONE({ why: `too old resource version: ${version} (${this.#horizon})` });
    }
    let first = this.#history.length;
    while (first > 0 && (this.#history[first - 1] as StoreEvent).version > version) first -= 1;
    return this.#history.slice(first);
  }

  /** Follows the writes from now on. Returns what ends it. */
  subscribe(subscriber: Subscriber): () => void {
    this.#subscribers.add(subscriber);
    return () => this.#subscribers.delete(subscriber);
  }

  /** Ends all subscriptions: the kind is gone. */
  close(): void {
    for (const subscriber of [...this.#subscribers]) subscriber.closed();
    this.#subscribers.clear();
  }

  #publish(event: StoreEvent): void {
    this.#history.push(event);
    this.#historyBytes += event.item.text.length;
    const { historyEvents, historyBytes } = this.#limits;
    // A quarter more is let in and then cut off: moving a long array at every write would cost more than the write.
    if (this.#history.length > historyEvents * 1.25 || this.#historyBytes > historyBytes * 1.25) {
      let drop = 0;
      while (this.#history.length - drop > historyEvents || this.#historyBytes > historyBytes) {
        const oldest = this.#history[drop] as StoreEvent;
        this.#historyBytes -= oldest.item.text.length;
        this.#horizon = oldest.version;
        drop += 1;
      }
      this.#history = this.#history.slice(drop);
    }
    for (const subscriber of [...this.#subscribers]) subscriber.event(event);
  }
}

function byKey(a: Item, b: Item): number {
  return a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
}
