// SPDX-License-Identifier: Apache-2.0
// Typed maps: a map behind an fd read and written as the values that its generated codecs stand for.
import { MapType, mapById } from "../kernel/bpf.ts";
import { BpfMap, UpdateFlag } from "../kernel/bpf-map.ts";
import { isErrno } from "../kernel/errno.ts";
import type { Codec, MapShape } from "./codec.ts";
import { faults } from "./faults.ts";
import { MAPS } from "./gen/maps.ts";
import { describeChange } from "./layout.ts";
import { checkLayout, mapPin, openPin, readLayout } from "./pins.ts";

export type MapName = keyof typeof MAPS;

/** Key and value types of a row of the generated table. */
export type KeyOf<R> = R extends { key: Codec<infer K> } ? K : never;
export type ValueOf<R> = R extends { value: Codec<infer V> } ? V : never;

export type TableOf<N extends MapName> = Table<KeyOf<(typeof MAPS)[N]>, ValueOf<(typeof MAPS)[N]>>;

/** What a table needs to know of its rows. */
export type Row<K, V> = Pick<MapShape<K, V>, "key" | "value">;

/** Types whose entries are not made or removed, only overwritten. */
const FIXED_TYPES: readonly number[] = [MapType.array, MapType.progArray, MapType.percpuArray];

/**
 * A map with typed keys and values. Reading a per-CPU map gives its values through `getPerCpu` and `entriesPerCpu`
 * only. All methods throw Fault KERNEL_REFUSED or KERNEL_BUSY with errno, operation and map name.
 */
export class Table<K, V> implements Disposable {
  readonly map: BpfMap;
  readonly row: Row<K, V>;

  /** Takes over `map`. */
  constructor(map: BpfMap, row: Row<K, V>) {
    this.map = map;
    this.row = row;
  }

  get name(): string {
    return this.map.name;
  }

  get maxEntries(): number {
    return this.map.info.maxEntries;
  }

  /** Whether every key always has a value, 0 at first: arrays. */
  get fixed(): boolean {
    return FIXED_TYPES.includes(this.map.info.type);
  }

  get(key: K): V | undefined {
    this.row.key.write(this.map.keyView, 0, key);
    return this.map.lookup() ? this.row.value.read(this.map.valueView, 0) : undefined;
  }

  /** One value for each processor. */
  getPerCpu(key: K): V[] | undefined {
    this.row.key.write(this.map.keyView, 0, key);
    if (!this.map.lookup()) return undefined;
    return Array.from({ length: this.map.cpus }, (_, cpu) =>
      this.row.value.read(this.map.valueView, cpu * this.map.stride),
    );
  }

  /** `flag`: UpdateFlag; noExist and exist are refused with EEXIST and ENOENT. */
  set(key: K, value: V, flag: number = UpdateFlag.any): void {
    this.row.key.write(this.map.keyView, 0, key);
    this.row.value.write(this.map.valueView, 0, value);
    this.map.update(flag);
  }

  /** Removes an entry, or in an array makes it 0; false if there was none. */
  delete(key: K): boolean {
    this.row.key.write(this.map.keyView, 0, key);
    if (!this.fixed) return this.map.delete();
    this.map.value.fill(0);
    this.map.update();
    return true;
  }

  /** All entries, in the map's order. Entries that come or go meanwhile may be missed. */
  *entries(): Generator<[K, V]> {
    for (const [key, value, at] of this.#raw())
      yield [this.row.key.read(key, at.key), this.row.value.read(value, at.value)];
  }

  /** All entries, with one value for each processor. */
  *entriesPerCpu(): Generator<[K, V[]]> {
    const { cpus, stride } = this.map;
    for (const [key, value, at] of this.#raw()) {
      const values = Array.from({ length: cpus }, (_, cpu) =>
        this.row.value.read(value, at.value + cpu * stride),
      );
      yield [this.row.key.read(key, at.key), values];
    }
  }

  /** Entries that are there now; for an array its length. */
  count(): number {
    if (this.fixed) return this.maxEntries;
    let count = 0;
    for (const batch of this.map.batches()) count += batch.count;
    return count;
  }

  /** Entries as bytes: views and offsets that are valid until the next one is asked for. */
  *#raw(): Generator<[DataView, DataView, { key: number; value: number }]> {
    const { keySize } = this.map.info;
    const valueBytes = this.map.stride * this.map.cpus;
    for (const { keys, values, count } of this.map.batches()) {
      const keyView = new DataView(keys.buffer);
      const valueView = new DataView(values.buffer);
      for (let i = 0; i < count; i++) yield [keyView, valueView, { key: i * keySize, value: i * valueBytes }];
    }
  }

  close(): void {
    this.map.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The pinned map of that name. @throws Fault NO_PIN, PIN_MISMATCH */
export function openPinned<N extends MapName>(bpfRoot: string, name: N): TableOf<N> {
  const row = MAPS[name] as (typeof MAPS)[MapName];
  const path = mapPin(bpfRoot, name);
  const fd = openPin(path);
  if (fd === undefined) throw faults.NO_PIN({ name, path });
  const map = new BpfMap(fd, name);
  try {
    checkLayout(name, path, map.info, row);
    const changes = describeChange(readLayout(bpfRoot, name) ?? row.layout, row.layout);
    if (changes.length > 0) throw faults.PIN_MISMATCH({ name, path, why: changes.join("; ") });
  } catch (thrown) {
    map.close();
    throw thrown;
  }
  return new Table(map, row as Row<unknown, unknown>) as TableOf<N>;
}

/** Names of maps of maps. */
export type OuterName = { [N in MapName]: (typeof MAPS)[N] extends { inner: unknown } ? N : never }[MapName];

export type InnerTableOf<N extends OuterName> = Table<
  KeyOf<(typeof MAPS)[N]["inner"]>,
  ValueOf<(typeof MAPS)[N]["inner"]>
>;

/** The table in a slot of a map of maps: slot 0 of `flows` is the flow table. Undefined if the slot is empty. */
export function findInner<N extends OuterName>(
  outer: Table<number, number>,
  name: N,
  slot: number,
): InnerTableOf<N> | undefined {
  for (;;) {
    const id = outer.get(slot);
    if (id === undefined) return undefined;
    try {
      const row = MAPS[name].inner as Row<unknown, unknown>;
      return new Table(new BpfMap(mapById(id), `${name}[${slot}]`), row) as unknown as InnerTableOf<N>;
    } catch (thrown) {
      // The slot was given another table between the two calls.
      if (!isErrno(thrown, "ENOENT") || outer.get(slot) === id) throw thrown;
    }
  }
}

/** The tables of all slots of a pinned map of maps, the one that takes new records first. @throws Fault NO_SLOT */
export function openInner<N extends OuterName>(bpfRoot: string, name: N): InnerTableOf<N>[] {
  using outer = openPinned(bpfRoot, name) as unknown as Table<number, number>;
  const tables: InnerTableOf<N>[] = [];
  for (let slot = 0; slot < outer.maxEntries; slot++) {
    const table = findInner(outer, name, slot);
    // For a moment of a growth both slots hold the same one.
    if (table && table.map.info.id === tables[0]?.map.info.id) table.close();
    else if (table) tables.push(table);
    else if (slot === 0) throw faults.NO_SLOT({ name, slot });
  }
  return tables;
}

/**
 * The tables of a pinned map of maps, for who wants to meet every record while they grow: the one that is being drained comes
 * first, and one that came meanwhile last, so that what moves between them is met at least once. The caller closes each.
 */
export function* innerTables<N extends OuterName>(bpfRoot: string, name: N): Generator<InnerTableOf<N>> {
  const met = new Set<number>();
  for (;;) {
    const tables = openInner(bpfRoot, name).reverse();
    const next = tables.find(({ map }) => !met.has(map.info.id));
    for (const table of tables) if (table !== next) table.close();
    if (next === undefined) return;
    met.add(next.map.info.id);
    yield next;
  }
}
