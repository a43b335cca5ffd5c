// SPDX-License-Identifier: Apache-2.0
// The pinned maps of an agent, read without the agent: their entries, and how full each of them is, counted in the
// kernel at that moment.
import { existsSync } from "node:fs";
import { MapType } from "../kernel/bpf.ts";
import { countFlows } from "../maps/fill.ts";
import { MAPS } from "../maps/gen/maps.ts";
import { mapPin } from "../maps/pins.ts";
import { type MapName, type OuterName, openInner, openPinned, type Table } from "../maps/table.ts";
import { faults } from "./faults.ts";
import { bpfRootOf, type Target } from "./target.ts";

/** One line of `bpf map list`. */
export interface MapFill {
  name: string;
  type: string;
  keyBytes: number;
  valueBytes: number;
  /** Entries counted now; null for arrays and ring buffers, which are neither full nor empty. */
  entries: number | null;
  maxEntries: number;
  /** Share of maxEntries in use, 0 to 1. */
  fill: number | null;
  /** The share that does not give way: of the flow table the live records; null where the oldest entry always does. */
  pressure: number | null;
  /** Kernel memory in bytes. */
  memoryBytes: number;
  doc: string;
}

/**
 * The folder of an agent's pins.
 * @throws Fault NO_MAPS if nothing is pinned there
 */
export function pinsOf(target: Target): string {
  const root = bpfRootOf(target);
  if (!existsSync(mapPin(root, "flows"))) throw faults.NO_MAPS({ path: root });
  return root;
}

const isOuter = (name: MapName): name is OuterName => "inner" in MAPS[name];
/** Types that make room by themselves. */
const EVICTING: readonly string[] = ["lru_hash", "lru_percpu_hash"];

async function fillOf(table: Table<never, never>, type: string, doc: string): Promise<MapFill> {
  const { map, maxEntries } = table;
  const counted = !table.fixed && map.info.type !== MapType.ringbuf;
  const flows = counted && table.name.startsWith("flows[") ? await countFlows(map) : undefined;
  const entries = flows !== undefined ? flows.live + flows.dead : counted ? table.count() : null;
  const staying = flows?.live ?? (EVICTING.includes(type) ? null : entries);
  return {
    name: table.name,
    type,
    keyBytes: map.info.keySize,
    valueBytes: map.info.valueSize,
    entries,
    maxEntries,
    fill: entries === null ? null : entries / maxEntries,
    pressure: staying === null ? null : staying / maxEntries,
    memoryBytes: map.memory(),
    doc,
  };
}

async function slotFills(root: string, name: OuterName, doc: string): Promise<MapFill[]> {
  const tables = openInner(root, name);
  try {
    const fills: MapFill[] = [];
    for (const table of tables) fills.push(await fillOf(table as never, MAPS[name].inner.typeName, doc));
    return fills;
  } finally {
    for (const table of tables) table.close();
  }
}

/** `flows` of `flows[1]`. */
const base = (name: string): string => name.replace(/\[\d+\]$/, "");

/** Whether a map is asked for: by its name, for slots with or without their number; all if none are named. */
export function isMapWanted(name: string, wanted: readonly string[]): boolean {
  return wanted.length === 0 || wanted.includes(name) || wanted.includes(base(name));
}

/** How full maps are, in the order of the names; maps of maps by slot. `wanted` as for isMapWanted. */
export async function readFills(root: string, wanted: readonly string[] = []): Promise<MapFill[]> {
  const fills: MapFill[] = [];
  for (const name of Object.keys(MAPS) as MapName[]) {
    const { typeName, doc } = MAPS[name];
    // What is not asked for is not counted either: that may take a while.
    if (wanted.length > 0 && !wanted.some((one) => base(one) === name)) continue;
    if (isOuter(name)) fills.push(...(await slotFills(root, name, doc)));
    else {
      using table = openPinned(root, name);
      fills.push(await fillOf(table as never, typeName, doc));
    }
  }
  return fills.filter((fill) => isMapWanted(fill.name, wanted));
}
