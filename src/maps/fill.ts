// SPDX-License-Identifier: Apache-2.0
// How full a map is, counted in the kernel now, a batch at a time with pauses between: a table of a million records must
// not hold up the process that asks. For the metrics.
import { setImmediate as pause } from "node:timers/promises";
import type { BpfMap } from "../kernel/bpf-map.ts";
import { FLOW_SIZE, type Flow, writeFlow } from "./gen/types.ts";
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

const NOTHING: Flow = {
  xsaddr: "::",
  xdaddr: "::",
  xsport: 0,
  xdport: 0,
  expires: 0,
  created: 0,
  endpoint: 0,
  proxyPort: 0,
  service: 0,
  state: 0,
  rule: 0,
  identity: 0,
};

/** Where `expires` stands in a record, found out by writing one: reading whole records would make 2 addresses of each. */
function expiresOffset(): number {
  const view = new DataView(new ArrayBuffer(FLOW_SIZE));
  writeFlow(view, 0, { ...NOTHING, expires: 0xffff_ffff });
  return new Uint8Array(view.buffer).indexOf(0xff);
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

/** Records of a flow table, live and dead now. */
export async function countFlows(map: BpfMap): Promise<FlowCounts> {
  const now = nowTicks();
  const at = expiresOffset();
  const size = map.info.valueSize;
  let live = 0;
  let total = 0;
  for (const { values, count } of map.batches(BATCH)) {
    const view = new DataView(values.buffer, values.byteOffset, values.byteLength);
    for (let i = 0; i < count; i++) {
      const expires = view.getUint32(i * size + at, true);
      // As the data plane judges it: 0 is a record that is being ended, the difference is signed.
      if (expires !== 0 && ((expires - now) | 0) > 0) live++;
    }
    total += count;
    await pause();
  }
  return { live, dead: total - live };
}
