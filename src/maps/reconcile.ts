// SPDX-License-Identifier: Apache-2.0
// Makes a map hold exactly what is desired, from what is read back out of it: whoever changed it meanwhile is
// corrected. Additions and changes come before removals, so that no packet meets a gap; what cannot be written stays
// pending, is retried with growing pauses, and is shown. One reconciler is the only writer of its map.
import { performance } from "node:perf_hooks";
import { backoffMs } from "../base/async.ts";
import { Fault } from "../base/fault.ts";
import type { Table } from "./table.ts";

/** Entries as bytes, each byte one character: strings compare and hash fast. */
export type Entries = ReadonlyMap<string, string>;

/** What to do to turn one set of entries into another. */
export interface Writes {
  /** Keys to add or change, in the order in which they are desired. */
  readonly put: readonly string[];
  /** Against the order in which they were read: a trie gives prefixes before the shorter ones around them. */
  readonly remove: readonly string[];
}

/** The difference between what is desired and what is there. */
export function planWrites(desired: Entries, actual: Entries): Writes {
  const put: string[] = [];
  for (const [key, value] of desired) if (actual.get(key) !== value) put.push(key);
  const remove: string[] = [];
  for (const key of actual.keys()) if (!desired.has(key)) remove.push(key);
  return { put, remove: remove.reverse() };
}

/** One entry that could not be written or removed. */
export interface WriteFailure {
  /** As people write it: `10.0.0.0/8`, `7`. */
  readonly key: string;
  /** `map.update ENOSPC nonmasq_cidrs (16384 of 16384 entries)`. */
  readonly error: string;
}

export interface ReconcileStatus {
  readonly map: string;
  /** Entries that the map should hold. */
  readonly desired: number;
  /** Of those, entries that it does hold. */
  readonly realised: number;
  /** Writes and removals that have not succeeded. */
  readonly pending: number;
  readonly failures: readonly WriteFailure[];
  /** Writes and removals that have ever failed, retries included. */
  readonly errors: number;
  /** Grows with every desired set. */
  readonly generation: number;
  /** Entries written and removed by the last synchronisation, and how long it took in ms. */
  readonly lastWrites: number;
  readonly lastSyncMs: number;
}

export interface ReconcilerOptions {
  /** Called after every synchronisation, retries included. */
  onChange?: (status: ReconcileStatus) => void;
  /** First and longest pause before a retry. Default 100 ms and 30 s. */
  retryMs?: { first: number; longest: number };
}

/** A key as people write it. */
export function describeKey(key: unknown): string {
  if (typeof key !== "object" || key === null) return String(key);
  if ("address" in key && "length" in key) return `${key.address}/${key.length}`;
  return Object.entries(key)
    .map(([field, value]) => `${field} ${value}`)
    .join(" ");
}

/** Writes one map. All methods are synchronous; failures are in the status, not thrown. */
export class Reconciler<K, V> implements Disposable {
  readonly #table: Table<K, V>;
  readonly #options: ReconcilerOptions;
  #desired = new Map<string, string>();
  #wanted = 0;
  /** Entries that do not fit into the map's layout at all: no retry helps. */
  #refused: WriteFailure[] = [];
  #failures: WriteFailure[] = [];
  #errors = 0;
  #unwritten = 0;
  #generation = 0;
  #lastWrites = 0;
  #lastSyncMs = 0;
  #attempt = 0;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** Takes over `table`. */
  constructor(table: Table<K, V>, options: ReconcilerOptions = {}) {
    this.#table = table;
    this.#options = options;
  }

  /** Sets what the map must hold, in order of importance, and makes it so. Gives the status after that. */
  setDesired(desired: ReadonlyMap<K, V>): ReconcileStatus {
    this.#generation++;
    this.#wanted = desired.size;
    this.#attempt = 0;
    this.#encode(desired);
    return this.sync();
  }

  /** Entries to bytes. In an array an entry of zeroes is the same as none. */
  #encode(desired: ReadonlyMap<K, V>): void {
    const { row, map, fixed } = this.#table;
    const key = Buffer.alloc(map.info.keySize);
    const value = Buffer.alloc(map.info.valueSize);
    const keyView = new DataView(key.buffer, key.byteOffset, key.length);
    const valueView = new DataView(value.buffer, value.byteOffset, value.length);
    this.#desired = new Map();
    this.#refused = [];
    for (const [k, v] of desired) {
      try {
        row.key.write(keyView, 0, k);
        row.value.write(valueView, 0, v);
      } catch (thrown) {
        this.#refused.push({ key: describeKey(k), error: Fault.from(thrown).detail });
        continue;
      }
      if (fixed && value.every((byte) => byte === 0)) continue;
      this.#desired.set(key.toString("latin1"), value.toString("latin1"));
    }
  }

  /** Compares with what is in the map now and writes the difference. Retries come here by themselves. */
  sync(): ReconcileStatus {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const start = performance.now();
    this.#lastWrites = 0;
    this.#unwritten = 0;
    this.#failures = [];
    try {
      this.#write(planWrites(this.#desired, this.#read()));
    } catch (thrown) {
      this.#unwritten = this.#desired.size;
      this.#failures = [{ key: "*", error: Fault.from(thrown).detail }];
    }
    this.#lastSyncMs = performance.now() - start;
    this.#errors += this.#failures.length;
    if (this.#failures.length > 0) this.#retryLater();
    const status = this.status();
    this.#options.onChange?.(status);
    return status;
  }

  #read(): Map<string, string> {
    const { map, fixed } = this.#table;
    const { keySize, valueSize } = map.info;
    const zero = Buffer.alloc(valueSize).toString("latin1");
    const actual = new Map<string, string>();
    for (const { keys, values, count } of map.batches()) {
      const k = Buffer.from(keys.buffer);
      const v = Buffer.from(values.buffer);
      for (let i = 0; i < count; i++) {
        const value = v.toString("latin1", i * valueSize, (i + 1) * valueSize);
        if (!fixed || value !== zero) actual.set(k.toString("latin1", i * keySize, (i + 1) * keySize), value);
      }
    }
    return actual;
  }

  #write(writes: Writes): void {
    const failures = new Map<string, Error>();
    const put = (keys: readonly string[]): string[] =>
      keys.filter((key) => this.#attemptOn(key, failures, () => this.#put(key)));
    let unwritten = put(writes.put);
    const kept = writes.remove.filter((key) => this.#attemptOn(key, failures, () => this.#remove()));
    // Removals may have made room.
    if (unwritten.length > 0 && kept.length < writes.remove.length) unwritten = put(unwritten);
    this.#unwritten = unwritten.length;
    this.#lastWrites = writes.put.length + writes.remove.length - failures.size;
    this.#failures = [...failures].map(([key, error]) => ({
      key: this.#textOf(key),
      error: Fault.from(error).detail,
    }));
  }

  /** Does something to one key; true if it failed, which `failures` then tells. */
  #attemptOn(key: string, failures: Map<string, Error>, action: () => void): boolean {
    Buffer.from(this.#table.map.key.buffer).write(key, "latin1");
    try {
      action();
      failures.delete(key);
      return false;
    } catch (thrown) {
      failures.set(key, thrown as Error);
      return true;
    }
  }

  #put(key: string): void {
    const { map } = this.#table;
    Buffer.from(map.value.buffer).write(this.#desired.get(key) ?? "", "latin1");
    map.update();
  }

  /** The entry whose key stands in the map's key buffer; one that has gone by itself is no failure. */
  #remove(): void {
    const { map, fixed } = this.#table;
    if (!fixed) {
      map.delete();
      return;
    }
    map.value.fill(0);
    map.update();
  }

  #textOf(key: string): string {
    const bytes = Buffer.from(key, "latin1");
    return describeKey(
      this.#table.row.key.read(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0),
    );
  }

  #retryLater(): void {
    if (this.#closed) return;
    const { first, longest } = this.#options.retryMs ?? { first: 100, longest: 30_000 };
    this.#timer = setTimeout(() => this.sync(), backoffMs(this.#attempt++, first, longest));
    this.#timer.unref();
  }

  status(): ReconcileStatus {
    const failures = [...this.#refused, ...this.#failures];
    return {
      map: this.#table.name,
      desired: this.#wanted,
      realised: this.#wanted - this.#refused.length - this.#unwritten,
      pending: failures.length,
      failures,
      errors: this.#errors,
      generation: this.#generation,
      lastWrites: this.#lastWrites,
      lastSyncMs: this.#lastSyncMs,
    };
  }

  /** Ends retries and closes the table; the map keeps its entries. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#table.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
