// SPDX-License-Identifier: Apache-2.0
// How full a map is, counted in the kernel now, a batch at a time with pauses between: a table of a million records must
// not hold up the process that asks. For the metrics.
import { setImmediate as pause } from "node:timers/promises";
import type { BpfMap } from "../kernel/bpf-map.ts";
import { flowFieldAt, type PortCounts } from "./port-use.ts";
import { nowTicks } from "./ticks.ts";

/** Entries of one batch. */
const BATCH = 1024;

/** Records of the flow table by what their time says. */
export interface FlowCounts {
  /** Their flows go on, or may. */
  readonly live: number;
  /** Their ports are free; the next sweep removes them. */
  readonly dead: number;
}

/** Entries that are in the map now. */
export async function countEntries(map: BpfMap): Promise<number> {
  let entries = 0;
  for (const { count } of map.batches(BATCH)) {
    entries += count;
    await pause();
  }
  return entries;
}

/** Records of a flow table, live and dead now. `ports` counts the live ones by their remote endpoints. */
export async function countFlows(map: BpfMap, ports?: PortCounts): Promise<FlowCounts> {
  const now = nowTicks();
  const at = flowFieldAt({ expires: 0xffff_ffff });
  const { keySize, valueSize: size } = map.info;
  let live = 0;
  let total = 0;
  for (const { keys, values, count } of map.batches(BATCH)) {
    const keyView = new DataView(keys.buffer, keys.byteOffset, keys.byteLength);
    const view = new DataView(values.buffer, values.byteOffset, values.byteLength);
    for (let i = 0; i < count; i++) {
      const expires = view.getUint32(i * size + at, true);
      // As the data plane judges it: 0 is a record that is being ended, the difference is signed.
      if (expires === 0 || ((expires - now) | 0) <= 0) continue;
      live++;
      ports?.add(keyView, i * keySize, view, i * size);
    }
    total += count;
    await pause();
  }
  return { live, dead: total - live };
}
