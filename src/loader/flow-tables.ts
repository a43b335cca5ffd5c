// SPDX-License-Identifier: Apache-2.0
// The flow table and its index grow while packets use them: a larger pair takes all new records, the smaller one is drained into
// it and then let go. The order, and why nothing is lost or made twice, is in bpf/stage/table.h and bpf/stage/move.h. An agent
// that dies at any point leaves a state from which the next one goes on.
import { closeSync } from "node:fs";
import { type SerialQueue, sleep } from "../base/async.ts";
import { btfById, mapById, mapInfo } from "../kernel/bpf.ts";
import { mapCreateAside, slotClearAside, slotSetAside } from "../kernel/bpf-aside.ts";
import { BpfMap } from "../kernel/bpf-map.ts";
import { duplicate } from "../kernel/ffi.ts";

/** Records and entries. */
export interface PairSize {
  readonly flows: number;
  readonly replies: number;
}

/** Moves at most `budget` records and entries from slot 1 to slot 0; `left` tells whether more is, or may be, there. */
export type MoveStep = (budget: number) => Promise<{ moved: number; removed: number; left: boolean }>;

const NEW = 0;
const DRAINING = 1;
/** Each step walks over the whole smaller table, so there are no more than about so many. */
const STEPS = 16;
const SMALLEST_STEP = 2048;
/** When nothing could be moved: somebody is in the way for an instant, or the new table has no room until a sweep makes some. */
const PAUSE_MS = 20;

/** One map of maps. */
class Slots {
  readonly name: string;
  readonly #outer: BpfMap;

  constructor(fd: number, name: string) {
    this.name = name;
    this.#outer = new BpfMap(duplicate(fd), name);
  }

  /** Kernel id of the map in a slot; undefined if it is empty. */
  id(slot: number): number | undefined {
    this.#outer.keyView.setUint32(0, slot, true);
    return this.#outer.lookup() ? this.#outer.valueView.getUint32(0, true) : undefined;
  }

  /** fd of the map in a slot. */
  open(slot: number): number | undefined {
    const id = this.id(slot);
    return id === undefined ? undefined : mapById(id);
  }

  sizeOf(slot: number): number {
    const fd = this.open(slot);
    if (fd === undefined) return 0;
    try {
      return mapInfo(fd, this.name).maxEntries;
    } finally {
      closeSync(fd);
    }
  }

  /** Whether slot 1 holds a table that slot 0 no longer holds. */
  get swapped(): boolean {
    const id = this.id(DRAINING);
    return id !== undefined && id !== this.id(NEW);
  }

  async put(slot: number, fd: number): Promise<void> {
    await slotSetAside(this.#outer.fd, slot, fd);
  }

  /** Puts what is in one slot into another one too; it may be the same. */
  async copy(from: number, to: number): Promise<void> {
    const fd = this.open(from);
    if (fd === undefined) return;
    try {
      await this.put(to, fd);
    } finally {
      closeSync(fd);
    }
  }

  async clear(): Promise<void> {
    // Held until no program can use it: kernels before 6.8 free a table too early that loses its last holder here.
    const fd = this.open(DRAINING);
    try {
      await slotClearAside(this.#outer.fd, DRAINING);
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }

  /** An empty table like the one in slot 0; gives its fd. */
  async make(maxEntries: number): Promise<number> {
    const like = this.open(NEW);
    const { type, keySize, valueSize, flags, btf } = mapInfo(like ?? -1, this.name);
    if (like !== undefined) closeSync(like);
    const types = btf.id > 0 ? btfById(btf.id) : undefined;
    try {
      const spec = { name: this.name, type, keySize, valueSize, flags, maxEntries };
      return await mapCreateAside({
        ...spec,
        ...(types === undefined ? {} : { btf: { fd: types, key: btf.key, value: btf.value } }),
      });
    } finally {
      if (types !== undefined) closeSync(types);
    }
  }

  close(): void {
    this.#outer.close();
  }
}

/** The two maps of maps of one data plane. */
export class FlowTables {
  readonly #flows: Slots;
  readonly #replies: Slots;
  readonly #use: BpfMap;
  readonly #move: MoveStep;
  readonly #alone: SerialQueue;
  #closed = false;
  #work: Promise<unknown> = Promise.resolve();

  /**
   * fds of `flows`, `replies` and `table_use`, which stay the caller's. `alone`: where programs wait that user space runs and that
   * must not see an exchange. They may sleep, so the kernel waits for none of them.
   */
  constructor(fds: { flows: number; replies: number; tableUse: number }, move: MoveStep, alone: SerialQueue) {
    this.#flows = new Slots(fds.flows, "flows");
    this.#replies = new Slots(fds.replies, "replies");
    this.#use = new BpfMap(duplicate(fds.tableUse), "table_use");
    this.#move = move;
    this.#alone = alone;
    this.#tellSize();
  }

  /** Room for new records. */
  get size(): PairSize {
    return { flows: this.#flows.sizeOf(NEW), replies: this.#replies.sizeOf(NEW) };
  }

  /** Records now, dead ones included. One system call. */
  get records(): number {
    this.#use.keyView.setUint32(0, USE_RECORDS, true);
    this.#use.lookup();
    return Math.max(0, Number(this.#use.valueView.getBigInt64(0, true)));
  }

  /** Whether an index entry without a record was met since the last call. */
  takeOrphan(): boolean {
    this.#use.keyView.setUint32(0, USE_ORPHAN, true);
    this.#use.lookup();
    const met = this.#use.valueView.getBigUint64(0, true) !== 0n;
    this.#use.valueView.setBigUint64(0, 0n, true);
    if (met) this.#use.update();
    return met;
  }

  /** Whether an earlier growth, perhaps of another process, has not come to its end. */
  get unfinished(): boolean {
    return this.#flows.id(DRAINING) !== undefined || this.#replies.id(DRAINING) !== undefined;
  }

  #tellSize(): void {
    this.#use.keyView.setUint32(0, USE_SIZE, true);
    this.#use.valueView.setBigUint64(0, BigInt(this.#flows.sizeOf(NEW)), true);
    this.#use.update();
  }

  /** Makes the pair, exchanges it and drains the old one. Rejects with the kernel's fault if a table cannot be made. */
  grow(to: PairSize): Promise<void> {
    return this.#begin(() => this.#grow(to));
  }

  /** Brings a growth to its end that was begun before. A pair of which nothing has been exchanged stays as it is. */
  finish(): Promise<void> {
    return this.#begin(() => this.#finish());
  }

  #begin(work: () => Promise<void>): Promise<void> {
    const running = this.#work.then(work);
    this.#work = running.catch(() => undefined);
    return running;
  }

  async #grow(to: PairSize): Promise<void> {
    const fds: number[] = [];
    try {
      for (const [slots, size] of this.#pairs(to)) fds.push(await slots.make(size));
      await this.#exchange(fds);
    } finally {
      for (const fd of fds) closeSync(fd);
    }
    await this.#drain();
  }

  #pairs(size: PairSize): [Slots, number][] {
    return [
      [this.#flows, size.flows],
      [this.#replies, size.replies],
    ];
  }

  #exchange(fds: readonly number[]): Promise<void> {
    return this.#alone.run(async () => {
      // Every program must see both slots taken before one of them sees the new tables.
      await this.#both((slots) => slots.copy(NEW, DRAINING));
      await this.#both((slots) => slots.put(NEW, fds[slots === this.#flows ? 0 : 1] ?? -1));
      this.#tellSize();
    });
  }

  async #both(action: (slots: Slots) => Promise<void>): Promise<void> {
    await Promise.all([action(this.#flows), action(this.#replies)]);
  }

  async #finish(): Promise<void> {
    if (this.#flows.swapped || this.#replies.swapped) {
      await this.#alone.run(() => this.#exchangeLate());
      await this.#drain();
      return;
    }
    await this.#alone.run(() => this.#both((slots) => slots.clear()));
  }

  /** Exchanges the table of which only the other one has been exchanged. */
  async #exchangeLate(): Promise<void> {
    const { flows, replies } = this.size;
    const size = Math.max(flows, replies);
    const late = [this.#flows, this.#replies].filter(
      (slots) => slots.id(DRAINING) !== undefined && !slots.swapped,
    );
    for (const slots of late) {
      const fd = await slots.make(size);
      try {
        await slots.put(NEW, fd);
      } finally {
        closeSync(fd);
      }
    }
    this.#tellSize();
  }

  async #drain(): Promise<void> {
    const budget = Math.max(SMALLEST_STEP, Math.ceil(this.#flows.sizeOf(DRAINING) / STEPS));
    for (;;) {
      if (this.#closed) return;
      const { moved, removed, left } = await this.#move(budget);
      if (!left) break;
      if (moved + removed === 0) await sleep(PAUSE_MS);
    }
    await this.#alone.run(async () => {
      // Who looked into slot 0 before something was moved there must still find slot 1 taken, so that he looks again. A write, of
      // what is there already, waits for those.
      await this.#both((slots) => slots.copy(DRAINING, DRAINING));
      await this.#both((slots) => slots.clear());
    });
  }

  /** A growth that is under way stops after its step; whoever comes next goes on. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    void this.#work.finally(() => {
      this.#flows.close();
      this.#replies.close();
      this.#use.close();
    });
  }
}

/** Entries of table_use, bpf/abi/maps.h. */
const USE_RECORDS = 0;
const USE_SIZE = 1;
const USE_ORPHAN = 2;
