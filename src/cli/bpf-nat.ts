// SPDX-License-Identifier: Apache-2.0
// `hookline bpf nat list`: translations, in the line format of `cilium bpf nat list`, which users' scripts read; and
// `flush`, which ends them; beside them what bpf-nat-ports.ts adds.
import type { Command } from "commander";
import { FlowState } from "../maps/gen/verdict.ts";
import { addNatRetries, addNatStats } from "./bpf-nat-ports.ts";
import { type FormatOption, withExamples, withFormat } from "./command.ts";
import { withFlowFilter } from "./flow-filter.ts";
import { type FlowQuestion, listFlows } from "./flow-list.ts";
import { type FlowRecord, type FlowRow, natLines } from "./flows.ts";
import { type FlushOptions, flush } from "./flush.ts";
import { printData, writeLines } from "./output.ts";

const isTranslated = ({ state }: FlowRecord): boolean => (state & FlowState.FLOW_XSOURCE) !== 0;

function* lines(rows: Iterable<FlowRow>): Generator<string> {
  for (const row of rows)
    yield natLines(row)
      .map((line) => `${line}\n`)
      .join("");
}

export function addBpfNat(group: Command): void {
  const nat = group.command("nat").description("translated flows");
  withExamples(
    withFlowFilter(
      withFormat(nat.command("list").description("list translations, two lines per flow: out and back")),
    ),
    [
      ["hookline bpf nat list", "as cilium bpf nat list prints them"],
      ["hookline --node node1 bpf nat list --to-ip 198.51.100.10", "towards one destination"],
      ["hookline bpf nat list -o json", "with the deciding rule, for programs"],
    ],
  ).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<FlowQuestion & FormatOption>();
    const rows = await listFlows(options, isTranslated);
    if (options.output === "table") await writeLines(lines(rows));
    else await printData(options.output, rows);
  });
  withExamples(
    withFlowFilter(
      nat.command("flush").description("end translated flows and free their ports; without a filter all"),
    ).option("-f, --force", "do not ask"),
    [
      ["hookline bpf nat flush --force", "without a question, for scripts"],
      ["hookline bpf nat flush --to-ip 198.51.100.10 --to-port 443", "towards one endpoint"],
    ],
  ).action(async (_: unknown, command: Command) => {
    await flush(command.optsWithGlobals<FlushOptions>(), {
      state: FlowState.FLOW_XSOURCE,
      what: "translated flows",
    });
  });
  addNatRetries(nat);
  addNatStats(nat);
}
