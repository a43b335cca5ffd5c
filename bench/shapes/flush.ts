// SPDX-License-Identifier: Apache-2.0
// Two ways of ending all flows but the lasting ones in a table under fire (growth.ts): by the data plane's program, and by writing
// whole records, whatever has become of them since they were read.
import { sleep } from "../../src/base/async.ts";
import { UpdateFlag } from "../../src/kernel/bpf-map.ts";
import { isErrno } from "../../src/kernel/errno.ts";
import { flushFlows } from "../../src/loader/flush.ts";
import type { FlowKey } from "../../src/maps/gen/types.ts";
import { innerTables } from "../../src/maps/table.ts";

/** Openers of lasting flows, bpf/bench/growth.h. */
const LASTING: readonly string[] = ["10.244.1.1", "fd00:10::af4:101"];
const mayEnd = ({ saddr }: FlowKey): boolean => !LASTING.includes(saddr);

/** Gives the number of flows ended. */
export function flushByProgram(bpfRoot: string): Promise<number> {
  return flushFlows(bpfRoot, mayEnd);
}

/** Gives the number of records written. */
export async function flushByWriting(bpfRoot: string): Promise<number> {
  let written = 0;
  for (const table of innerTables(bpfRoot, "flows")) {
    using closing = table;
    for (const [key, flow] of closing.entries()) {
      if (flow.expires === 0 || !mayEnd(key)) continue;
      // In ticks of bpf/bench/growth.h, long ago.
      const expires = Number(((process.hrtime.bigint() >> 6n) - 1000n) & 0xffff_ffffn);
      try {
        closing.set(key, { ...flow, expires }, UpdateFlag.exist);
        written++;
      } catch (thrown) {
        if (!isErrno(thrown, "ENOENT")) throw thrown;
      }
    }
    await sleep(0);
  }
  return written;
}
