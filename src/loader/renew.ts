// SPDX-License-Identifier: Apache-2.0
// A pinned map whose entries another release laid out in another way: can it be used, made anew with what it holds, or must the
// load be refused? From the layout that stands beside the pin (src/maps/layout.ts), for load.ts.
//   1. The same layout, or none told and the same sizes: the map is taken over.
//   2. Flow records: refused. While they were copied, packets would go on changing the old ones.
//   3. All others hold what the agent writes, or nothing that lasts: a new map gets what fits, by the names of the fields, before
//      the new program uses it; the agent then writes what it wants there. Counters begin at 0.
import { mapInfo } from "../kernel/bpf.ts";
import { BpfMap } from "../kernel/bpf-map.ts";
import { duplicate } from "../kernel/ffi.ts";
import type { ObjectMap } from "../kernel/libbpf.ts";
import { faults } from "../maps/faults.ts";
import { MAPS } from "../maps/gen/maps.ts";
import { carrier, describeChange } from "../maps/layout.ts";
import { checkLayout, mapPin, readLayout } from "../maps/pins.ts";
import type { MapName } from "../maps/table.ts";

/** A map to be made anew: the old one, which stays the caller's to close, and how its entries are laid out. */
export interface Renewal {
  readonly fd: number;
  readonly layout: string;
}

/** Types whose entries are worth copying. */
const COPIED: readonly string[] = ["hash", "array", "lpm_trie"];

export function layoutOf(name: string): string {
  return (MAPS as Readonly<Record<string, { layout: string }>>)[name]?.layout ?? "";
}

/**
 * Judges a pinned map behind `fd`: undefined if it can be taken over as it is.
 * @throws Fault LAYOUT_CHANGED, PIN_MISMATCH
 */
export function judgePin(bpfRoot: string, map: ObjectMap, fd: number): Renewal | undefined {
  const path = mapPin(bpfRoot, map.name);
  const told = readLayout(bpfRoot, map.name);
  const changes = told === undefined ? [] : describeChange(told, layoutOf(map.name));
  if (told === undefined || changes.length === 0) {
    checkLayout(map.name, path, mapInfo(fd, map.name), map);
    return undefined;
  }
  if (map.inner) throw faults.LAYOUT_CHANGED({ name: map.name, path, why: changes.join("; ") });
  return { fd, layout: told };
}

/** Copies what the old map holds and the new one can hold; gives the number of entries. */
export function carryOver(name: MapName, from: Renewal, to: number): number {
  const { typeName, layout } = MAPS[name];
  const carry = COPIED.includes(typeName) ? carrier(from.layout, layout) : undefined;
  if (carry === undefined) return 0;
  using old = new BpfMap(duplicate(from.fd), name);
  using fresh = new BpfMap(duplicate(to), name);
  const { keySize, valueSize } = old.info;
  let entries = 0;
  for (const { keys, values, count } of old.batches()) {
    for (let i = 0; i < count; i++) {
      carry.key(keys.subarray(i * keySize, (i + 1) * keySize), fresh.key);
      carry.value(values.subarray(i * valueSize, (i + 1) * valueSize), fresh.value);
      fresh.update();
      entries++;
    }
  }
  return entries;
}
