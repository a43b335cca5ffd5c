// SPDX-License-Identifier: Apache-2.0
// The pinned maps of an agent, read without the agent: entries decoded, per-CPU values added up, the inner tables of
// `flows` and `replies` by slot, and how full each map is.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { MapType, mapById, objGet } from "../kernel/bpf.ts";
import { BpfMap } from "../kernel/bpf-map.ts";
import type { MapRow, MapShape } from "../maps/codec.ts";
import { MAPS, type MapName } from "../maps/gen/maps.ts";
import type { Counter } from "../maps/gen/types.ts";
import { faults } from "./faults.ts";
import { bpfRootOf, type Target } from "./target.ts";

/** Slots of `flows` and `replies`: 0 takes new records, 1 is being drained after growth. */
const SLOTS = [0, 1] as const;

/** One line of `bpf map list`. */
export interface MapFill {
  name: string;
  type: string;
  keyBytes: number;
  valueBytes: number;
  /** Entries counted now; null where a map has no entries to count (ring buffer). */
  entries: number | null;
  maxEntries: number;
  /** Share of maxEntries in use, 0 to 1. */
  fill: number | null;
  /** Kernel memory in bytes. */
  memoryBytes: number;
  doc: string;
}

export class Pins {
  readonly #root: string;

  /** @throws Fault NO_MAPS if nothing is pinned */
  constructor(target: Target) {
    this.#root = join(bpfRootOf(target), "maps");
    if (!existsSync(join(this.#root, "flows"))) throw faults.NO_MAPS({ path: this.#root });
  }

  #open(name: MapName): BpfMap {
    return new BpfMap(objGet(join(this.#root, name), true), name);
  }

  /** The inner table of a slot, or undefined if the slot is empty. */
  #openSlot(name: "flows" | "replies", slot: number): BpfMap | undefined {
    using outer = this.#open(name);
    outer.keyView.setUint32(0, slot, true);
    if (!outer.lookup()) return undefined;
    return new BpfMap(mapById(outer.valueView.getUint32(0, true)), `${name}[${slot}]`);
  }

  /** All entries of a map that is not a map of maps, in the order of the kernel. */
  entries<K, V>(row: MapRow<K, V>): [K, V][] {
    using map = this.#open(row.name as MapName);
    return decodeAll(map, row);
  }

  /** Entries of a per-CPU map, one list of values per key. */
  perCpuEntries<K, V>(row: MapRow<K, V>): [K, V[]][] {
    using map = this.#open(row.name as MapName);
    const found: [K, V[]][] = [];
    for (const { keys, values, count } of map.batches()) {
      const keyView = new DataView(keys.buffer);
      const valueView = new DataView(values.buffer);
      for (let i = 0; i < count; i++) {
        const at = (cpu: number): number => (i * map.cpus + cpu) * map.stride;
        const perCpu = Array.from({ length: map.cpus }, (_, cpu) => row.value.read(valueView, at(cpu)));
        found.push([row.key.read(keyView, i * map.info.keySize), perCpu]);
      }
    }
    return found;
  }

  /** All records of `flows` or `replies`, of all slots. */
  records<K, V>(name: "flows" | "replies", shape: MapShape<K, V>): [K, V][] {
    return SLOTS.flatMap((slot) => {
      using map = this.#openSlot(name, slot);
      return map ? decodeAll(map, shape) : [];
    });
  }

  /** How full every map is, counted now, in the order of the names. */
  fills(): MapFill[] {
    return Object.values(MAPS).flatMap((row) => {
      if (row.name === "flows" || row.name === "replies") return this.#slotFills(row.name, row.doc);
      using map = this.#open(row.name);
      return [fillOf(map, row.typeName, row.doc)];
    });
  }

  #slotFills(name: "flows" | "replies", doc: string): MapFill[] {
    return SLOTS.flatMap((slot) => {
      using map = this.#openSlot(name, slot);
      return map ? [fillOf(map, "hash", doc)] : [];
    });
  }
}

/** An agent of another version may have pinned other layouts: reading them with ours would tell nonsense. */
function checkLayout(map: BpfMap, shape: MapShape<unknown, unknown>): void {
  const { keySize, valueSize } = map.info;
  if (keySize === shape.keySize && valueSize === shape.valueSize) return;
  const here = `${keySize} + ${valueSize} bytes`;
  throw faults.MAP_LAYOUT({ map: map.name, here, ours: `${shape.keySize} + ${shape.valueSize}` });
}

function decodeAll<K, V>(map: BpfMap, shape: MapShape<K, V>): [K, V][] {
  checkLayout(map, shape as MapShape<unknown, unknown>);
  const found: [K, V][] = [];
  for (const { keys, values, count } of map.batches()) {
    const keyView = new DataView(keys.buffer);
    const valueView = new DataView(values.buffer);
    for (let i = 0; i < count; i++) {
      found.push([
        shape.key.read(keyView, i * map.info.keySize),
        shape.value.read(valueView, i * map.stride),
      ]);
    }
  }
  return found;
}

/** Entries of an array are its elements that are not zero. */
function countEntries(map: BpfMap): number | null {
  if (map.info.type === MapType.ringbuf) return null;
  const isArray = map.info.type === MapType.array || map.info.type === MapType.percpuArray;
  let total = 0;
  for (const { values, count } of map.batches()) {
    if (!isArray) total += count;
    else for (let i = 0; i < count; i++) total += isZero(values, i * map.stride * map.cpus, map) ? 0 : 1;
  }
  return total;
}

function isZero(values: Uint8Array, at: number, map: BpfMap): boolean {
  return values.subarray(at, at + map.stride * map.cpus).every((byte) => byte === 0);
}

function fillOf(map: BpfMap, type: string, doc: string): MapFill {
  const entries = countEntries(map);
  return {
    name: map.name,
    type,
    keyBytes: map.info.keySize,
    valueBytes: map.info.valueSize,
    entries,
    maxEntries: map.info.maxEntries,
    fill: entries === null ? null : entries / map.info.maxEntries,
    memoryBytes: map.memory(),
    doc,
  };
}

/** Per-CPU counters added up. */
export function sumCounters(perCpu: Counter[]): Counter {
  return perCpu.reduce((sum, one) => ({ packets: sum.packets + one.packets, bytes: sum.bytes + one.bytes }), {
    packets: 0n,
    bytes: 0n,
  });
}
