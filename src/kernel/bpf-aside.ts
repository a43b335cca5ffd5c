// SPDX-License-Identifier: Apache-2.0
// Commands of bpf(2) that take milliseconds, run in a thread of libuv's pool so that the event loop goes on: making a large
// map, exchanging what is in a map of maps (the kernel waits until no program can hold what was there), and walks over
// tables. All reject with Fault KERNEL_REFUSED or KERNEL_BUSY.
import { closeSync } from "node:fs";
import {
  type MapSpec,
  MapType,
  mapCreate,
  mapCreateAttr,
  type TestRun,
  type TestRunResult,
  testRunAttr,
} from "./bpf.ts";
import { Attr, BpfCommand } from "./bpf-attr.ts";
import { isErrno } from "./errno.ts";
import { allocate } from "./ffi.ts";

/** As mapCreate: gives the fd. */
export function mapCreateAside(spec: MapSpec): Promise<number> {
  return mapCreateAttr(spec).runAside(BpfCommand.mapCreate, "map.create", spec.name);
}

/** As progTestRun. */
export async function progTestRunAside(run: TestRun): Promise<TestRunResult> {
  const { attr, result } = testRunAttr(run);
  await attr.runAside(BpfCommand.progTestRun, "prog.test_run", `fd ${run.fd}`, 80);
  return result();
}

function word(value: number): Uint8Array {
  const bytes = allocate(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

/** Puts a map into a slot of an array of maps. Resolves when no program can see the slot as it was. */
export async function slotSetAside(outerFd: number, slot: number, innerFd: number): Promise<void> {
  const attr = new Attr().u32(0, outerFd).pointer(8, word(slot)).pointer(16, word(innerFd));
  await attr.runAside(BpfCommand.mapUpdate, "map.update", `slot ${slot}`, 32);
}

/** Empties a slot of an array of maps; one that is empty stays so. Resolves when no program can see what was in it. */
export async function slotClearAside(outerFd: number, slot: number): Promise<void> {
  const attr = new Attr().u32(0, outerFd).pointer(8, word(slot));
  try {
    await attr.runAside(BpfCommand.mapDelete, "map.delete", `slot ${slot}`, 16);
  } catch (thrown) {
    if (!isErrno(thrown, "ENOENT")) throw thrown;
  }
}

/**
 * Resolves when no program runs any more that began before: none holds what it found in a table then. Only programs of packets
 * are waited for. A write to any array of maps waits so, also where membarrier(2) does not (nohz_full).
 */
export async function graceAside(): Promise<void> {
  const one = { name: "grace", keySize: 4, valueSize: 4, maxEntries: 1 };
  const inner = mapCreate({ ...one, type: MapType.array });
  try {
    const outer = mapCreate({ ...one, type: MapType.arrayOfMaps, innerFd: inner });
    try {
      await slotSetAside(outer, 0, inner);
    } finally {
      closeSync(outer);
    }
  } finally {
    closeSync(inner);
  }
}
