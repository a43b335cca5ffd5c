// SPDX-License-Identifier: Apache-2.0
// The pinned maps of an agent, read without the agent: their entries, and how full each of them is, counted in the
// kernel at that moment.
import { existsSync } from "node:fs";
import { MapType } from "../kernel/bpf.ts";
import { MAPS } from "../maps/gen/maps.ts";
import { mapPin } from "../maps/pins.ts";
import {
  type InnerTableOf,
  type MapName,
  type OuterName,
  openInner,
  openPinned,
  type Table,
} from "../maps/table.ts";
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

/** All records of `flows` or `replies`, of all slots. */
export function readSlots<N extends OuterName>(
  root: string,
  name: N,
): [...Parameters<InnerTableOf<N>["set"]>][] {
  const tables = openInner(root, name);
  try {
    return tables.flatMap((table) => [...table.entries()]) as never;
  } finally {
    for (const table of tables) table.close();
  }
}

function fillOf(table: Table<never, never>, type: string, doc: string): MapFill {
  const { map } = table;
  const entries = table.fixed || map.info.type === MapType.ringbuf ? null : table.count();
  return {
    name: table.name,
    type,
    keyBytes: map.info.keySize,
    valueBytes: map.info.valueSize,
    entries,
    maxEntries: table.maxEntries,
    fill: entries === null ? null : entries / table.maxEntries,
    memoryBytes: map.memory(),
    doc,
  };
}

/** How full every map is, in the order of the names; maps of maps by slot. */
export function readFills(root: string): MapFill[] {
  return (Object.keys(MAPS) as MapName[]).flatMap((name) => {
    const { typeName, doc } = MAPS[name];
    if (name === "flows" || name === "replies") {
      const tables = openInner(root, name);
      const fills = tables.map((table) => fillOf(table as never, MAPS[name].inner.typeName, doc));
      for (const table of tables) table.close();
      return fills;
    }
    using table = openPinned(root, name);
    return [fillOf(table as never, typeName, doc)];
  });
}
