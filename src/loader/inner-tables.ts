// SPDX-License-Identifier: Apache-2.0
// The tables inside of maps of maps (flows, replies): slot 0 takes new records and must never be empty. A new outer map
// gets a table of the configured size; an adopted one keeps the table that it has, and its records.
import { closeSync } from "node:fs";
import { mapById, mapCreate, mapInfo } from "../kernel/bpf.ts";
import { BpfMap } from "../kernel/bpf-map.ts";
import { isErrno } from "../kernel/errno.ts";
import { duplicate } from "../kernel/ffi.ts";
import type { ObjectMap } from "../kernel/libbpf.ts";
import { checkLayout } from "../maps/pins.ts";

export interface InnerTable {
  /** Of the outer map. */
  name: string;
  shape: ObjectMap;
  /** Absent: as the object declares it. */
  entries: number | undefined;
  /** The object's types. */
  btfFd: number;
}

/** A map of one entry that shows the kernel what inner tables look like; their sizes may differ from it. */
export function makeTemplate(shape: ObjectMap): number {
  const { type, keySize, valueSize, flags } = shape;
  return mapCreate({ name: "template", type, keySize, valueSize, flags, maxEntries: 1 });
}

/** Makes an empty table, with or without the types of its records; gives its fd. */
function makeTable({ name, shape, entries, btfFd }: InnerTable, typed: boolean): number {
  const { type, keySize, valueSize, flags, typeIds } = shape;
  const maxEntries = entries ?? shape.maxEntries;
  const btf = typed && btfFd >= 0 && typeIds.key > 0 ? { btf: { fd: btfFd, ...typeIds } } : {};
  return mapCreate({ name, type, keySize, valueSize, flags, maxEntries, ...btf });
}

function putFirst(outer: BpfMap, fd: number): void {
  try {
    outer.valueView.setUint32(0, fd, true);
    outer.update();
  } finally {
    closeSync(fd);
  }
}

/**
 * Puts a table into slot 0 of an outer map unless one is there, which must then fit.
 * @throws Fault PIN_MISMATCH if the table there does not
 */
export function fillFirstSlot(outerFd: number, table: InnerTable): void {
  using outer = new BpfMap(duplicate(outerFd), table.name);
  outer.keyView.setUint32(0, 0, true);
  if (outer.lookup()) {
    const fd = mapById(outer.valueView.getUint32(0, true));
    try {
      checkLayout(table.name, `${table.name} slot 0`, mapInfo(fd, table.name), table.shape);
    } finally {
      closeSync(fd);
    }
    return;
  }
  try {
    putFirst(outer, makeTable(table, true));
  } catch (thrown) {
    // Before 6.2 a table with types does not fit a template without (bpf_map_meta_equal); then bpftool prints bytes.
    if (!isErrno(thrown, "EINVAL")) throw thrown;
    putFirst(outer, makeTable(table, false));
  }
}
