// SPDX-License-Identifier: Apache-2.0
// `bpf nat flush` and `bpf ct flush`: asks, ends what the filter chooses (src/loader/flush.ts) and tells how many that were.
import type { GlobalOptions } from "./command.ts";
import { faults } from "./faults.ts";
import { type FlowFilter, isFiltered } from "./flow-filter.ts";
import { questionTest } from "./flow-list.ts";
import { write } from "./output.ts";
import { resolveTarget } from "./target.ts";

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

/** Asks, ends and tells. @throws Fault USAGE without a terminal and without --force */
export async function flush(options: FlushOptions, { state, what }: Flushed): Promise<void> {
  const target = resolveTarget(options);
  const which = isFiltered(options)
    ? "the connections that the filter chooses"
    : `the connections of all ${what}`;
  if (!options.force && !(await confirm(`This breaks ${which} on this node.`))) return;
  const { pinsOf } = await import("./pins.ts");
  const { flushFlows } = await import("../loader/flush.ts");
  const asked = await questionTest(options);
  const ended = await flushFlows(pinsOf(target), (r) => (r.state & state) === state && asked(r));
  await write(`${ended} ${what} removed\n`);
}
