// SPDX-License-Identifier: Apache-2.0
// Ends flows by hand, for `bpf nat flush` and `bpf ct flush`. A record is marked dead, which takes effect at once; the
// agent's sweep then removes it together with its index entry, in the one order that leaves no half flow behind.
import type { GlobalOptions } from "./command.ts";
import { faults } from "./faults.ts";
import { type FlowFilter, isFiltered } from "./flow-filter.ts";
import { questionTest } from "./flow-list.ts";
import { write } from "./output.ts";
import { resolveTarget, type Target } from "./target.ts";

export interface FlushOptions extends GlobalOptions, FlowFilter {
  readonly force?: boolean;
}

/** What to end: `state` bits that a record must have, and what to call them. */
export interface Flushed {
  readonly state: number;
  readonly what: string;
}

/** Asks on the terminal. @throws Fault USAGE without one */
export async function confirm(question: string): Promise<boolean> {
  if (!process.stdin.isTTY)
    throw faults.USAGE({ why: `${question} Add --force to say so without a terminal` });
  const { createInterface } = await import("node:readline/promises");
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `)).trim());
  } finally {
    terminal.close();
  }
}

/** Marks records dead; gives their number. */
async function endFlows(options: FlushOptions, state: number): Promise<number> {
  const { pinsOf } = await import("./pins.ts");
  const { openInner, openPinned } = await import("../maps/table.ts");
  const { forgetCrowded } = await import("../maps/port-use.ts");
  const { UpdateFlag } = await import("../kernel/bpf-map.ts");
  const { nowTicks } = await import("../maps/ticks.ts");
  const { isErrno } = await import("../kernel/errno.ts");
  const wanted = await questionTest(options);
  const root = pinsOf(resolveTarget(options));
  const tables = openInner(root, "flows");
  let ended = 0;
  // A second ago: the data plane's clock may lie a tick behind. 0 stands for a record that somebody is ending right now.
  const past = (nowTicks() - 61) >>> 0 || 1;
  for (const table of tables) {
    for (const [key, flow] of table.entries()) {
      if ((flow.state & state) !== state || flow.expires === 0 || !wanted({ ...key, ...flow })) continue;
      try {
        table.set(key, { ...flow, expires: past }, UpdateFlag.exist);
        ended++;
      } catch (thrown) {
        // A sweep has removed it meanwhile.
        if (!isErrno(thrown, "ENOENT")) throw thrown;
      }
    }
    table.close();
  }
  // A sweep says whose ports are free; perhaps none will come.
  using crowded = openPinned(root, "crowded");
  forgetCrowded(crowded);
  return ended;
}

/** False if no agent answers. */
async function sweep(target: Target): Promise<boolean> {
  const { ask } = await import("../api/client.ts");
  try {
    await ask({ socketPath: target.socket, path: "/v1/sweep", body: {} });
    return true;
  } catch {
    return false;
  }
}

/** Asks, ends, sweeps and tells. @throws Fault USAGE without a terminal and without --force */
export async function flush(options: FlushOptions, { state, what }: Flushed): Promise<void> {
  const target = resolveTarget(options);
  const which = isFiltered(options)
    ? "the connections that the filter chooses"
    : `the connections of all ${what}`;
  if (!options.force && !(await confirm(`This breaks ${which} on this node.`))) return;
  const ended = await endFlows(options, state);
  const swept = await sweep(target);
  await write(
    swept
      ? `${ended} ${what} removed\n`
      : `${ended} ${what} ended; no agent answers, so their room is freed when one runs again\n`,
  );
}
