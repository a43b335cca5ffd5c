// SPDX-License-Identifier: Apache-2.0
// Ends chosen flows for `bpf nat flush` and `bpf ct flush`, from the pins alone: no agent need run, and one that sweeps or lets the
// tables grow meanwhile need not know. What is chosen is read here; what ends is decided by the pinned program `flush`, by the
// rules of the packet path (bpf/hook/flush.h).
import { closeSync } from "node:fs";
import { sleep } from "../base/async.ts";
import { graceAside, progTestRunAside } from "../kernel/bpf-aside.ts";
import type { Batch } from "../kernel/bpf-map.ts";
import { addressOf, allocate } from "../kernel/ffi.ts";
import {
  FLOW_KEY_SIZE,
  FLOW_SIZE,
  type Flow,
  type FlowKey,
  type Flush,
  flushCodec,
  readFlow,
  readFlowKey,
} from "../maps/gen/types.ts";
import { openPin, programPin } from "../maps/pins.ts";
import { innerTables } from "../maps/table.ts";
import { faults } from "./faults.ts";
import { PINNED_PROGRAM } from "./load.ts";

/** Whether a record's flow is to end. */
export type FlushChoice = (record: FlowKey & Flow) => boolean;

/** Records read, and ended, at a time. */
const BATCH = 4096;
/** When all that is left is on its way to a larger table: for how long each time, and how often in a row. */
const PAUSE_MS = 20;
const PAUSES = 250;

/** Tuples of chosen records that were opened in tick `before` at the latest, back to back. */
function chosenKeys({ keys, values, count }: Batch, chosen: FlushChoice, before: number): Uint8Array {
  const views = { keys: new DataView(keys.buffer), values: new DataView(values.buffer) };
  const tuples = allocate(count * FLOW_KEY_SIZE);
  let bytes = 0;
  for (let i = 0; i < count; i++) {
    const at = i * FLOW_KEY_SIZE;
    const flow = readFlow(views.values, i * FLOW_SIZE);
    if (((flow.created - before) | 0) > 0 || !chosen({ ...readFlowKey(views.keys, at), ...flow })) continue;
    tuples.set(keys.subarray(at, at + FLOW_KEY_SIZE), bytes);
    bytes += FLOW_KEY_SIZE;
  }
  return tuples.subarray(0, bytes);
}

/** The pinned program. */
class FlushProgram implements Disposable {
  readonly #fd: number;

  constructor(bpfRoot: string) {
    const path = programPin(bpfRoot, PINNED_PROGRAM);
    const fd = openPin(path);
    if (fd === undefined) throw faults.NO_PROGRAM({ name: PINNED_PROGRAM, path });
    this.#fd = fd;
  }

  /**
   * Takes these records one step further, from alive to dead, from dead to gone. The program reads `keys` where they are: the caller
   * holds them until this has ended. @throws Fault FLUSH_FAILED
   */
  async run(keys: Uint8Array, before: number): Promise<Flush> {
    const ctx = allocate(flushCodec.size);
    const flush = {
      keys: addressOf(keys),
      count: keys.length / FLOW_KEY_SIZE,
      before,
      now: 0,
      ended: 0,
      removed: 0,
    };
    flushCodec.write(new DataView(ctx.buffer), 0, flush);
    const run = await progTestRunAside({ fd: this.#fd, ctx });
    if (run.retval !== 0) throw faults.FLUSH_FAILED({ retval: run.retval });
    return flushCodec.read(new DataView(run.ctx.buffer, run.ctx.byteOffset), 0);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

interface Pass {
  /** Records that are chosen and were there. */
  readonly met: number;
  readonly ended: number;
  readonly removed: number;
}

/** Goes once through all tables and ends what is chosen there and not held by a growth at that moment. */
async function onePass(
  program: FlushProgram,
  bpfRoot: string,
  chosen: FlushChoice,
  before: number,
): Promise<Pass> {
  // Kernels that free a table at once free none of these.
  using tables = new DisposableStack();
  const batches: Uint8Array[] = [];
  const pass = { met: 0, ended: 0, removed: 0 };
  const end = async (keys: Uint8Array): Promise<void> => {
    const { ended, removed } = await program.run(keys, before);
    pass.ended += ended;
    pass.removed += removed;
  };
  for (const table of innerTables(bpfRoot, "flows")) {
    for (const batch of tables.use(table).map.batches(BATCH)) {
      const keys = chosenKeys(batch, chosen, before);
      if (keys.length === 0) continue;
      pass.met += keys.length / FLOW_KEY_SIZE;
      batches.push(keys);
      await end(keys);
    }
  }
  // A packet that found a record alive must be done with it before it is gone and its place another's.
  if (batches.length > 0) await graceAside();
  for (const keys of batches) await end(keys);
  return pass;
}

/**
 * Ends the chosen flows that were there when this began and frees their ports and their room; gives their number. Flows that are
 * opened meanwhile stay.
 * @throws Fault NO_PROGRAM, NO_PIN, FLUSH_HELD, and those of the kernel
 */
export async function flushFlows(bpfRoot: string, chosen: FlushChoice): Promise<number> {
  using program = new FlushProgram(bpfRoot);
  const { now: before } = await program.run(allocate(0), 0);
  let total = 0;
  for (let pauses = 0; ; ) {
    const { met, ended, removed } = await onePass(program, bpfRoot, chosen, before);
    total += ended;
    if (met === 0) return total;
    pauses = ended + removed === 0 ? pauses + 1 : 0;
    if (pauses > PAUSES) throw faults.FLUSH_HELD({ left: met });
    if (pauses > 0) await sleep(PAUSE_MS);
  }
}
