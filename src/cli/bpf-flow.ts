// SPDX-License-Identifier: Apache-2.0
// `hookline bpf flow list`: the records of the flow table, each with its translation, state and deciding rule; and
// `flush`, which ends them.
import { type Command, InvalidArgumentError } from "commander";
import { type FormatOption, withExamples, withFormat } from "./command.ts";
import { formatSeconds } from "./duration.ts";
import { withFlowFilter } from "./flow-filter.ts";
import { type FlowQuestion, listFlows } from "./flow-list.ts";
import type { FlowRow } from "./flows.ts";
import { type FlushOptions, flush } from "./flush.ts";
import { printRows } from "./output.ts";
import type { Column } from "./table.ts";

const COLUMNS: Column<FlowRow>[] = [
  { header: "PROTO", cell: (f) => f.proto },
  { header: "SOURCE", cell: (f) => f.source },
  { header: "DESTINATION", cell: (f) => f.destination },
  { header: "SOURCE SEEN", cell: (f) => (f.masqueraded ? f.translatedSource : "") },
  { header: "STATE", cell: (f) => f.state },
  { header: "AGE", cell: (f) => formatSeconds(f.ageSeconds), right: true },
  { header: "EXPIRES", cell: (f) => formatSeconds(f.expiresInSeconds), right: true },
  { header: "ENDPOINT", cell: (f) => f.endpoint, right: true },
  { header: "RULE", cell: (f) => `${f.rule}: ${f.ruleText}` },
];

/** Cilium's argument: `global` is the whole table, an endpoint's id that endpoint's share. */
function tableArgument(text: string): number | undefined {
  if (text === "global") return undefined;
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("Not global and not an endpoint's id.");
  return Number(text);
}

export function addBpfFlow(group: Command): void {
  const flow = group.command("flow").alias("ct").description("the flow table");
  withExamples(
    withFlowFilter(withFormat(flow.command("list").description("list flows with their deciding rule")))
      .argument("[table]", "global, or an endpoint's id, as with cilium bpf ct list", tableArgument)
      .option("--all", "expired records too, which nobody has replaced yet"),
    [
      ["hookline bpf flow list", "live flows, youngest first"],
      ["hookline bpf flow list --pod default/web --to-port 443", "of one pod, towards one port"],
      ["hookline bpf ct list global -o json", "all of it under Cilium's name, for programs"],
    ],
  ).action(async (table: number | undefined, _: unknown, command: Command) => {
    const options = command.optsWithGlobals<FlowQuestion & FormatOption>();
    const question = table === undefined ? options : { ...options, endpoint: table };
    await printRows(options.output, COLUMNS, await listFlows(question));
  });
  withExamples(
    withFlowFilter(flow.command("flush").description("end flows, translated or not; without a filter all"))
      .argument("[table]", "global, or an endpoint's id", tableArgument)
      .option("-f, --force", "do not ask"),
    [
      ["hookline bpf ct flush --force", "without a question, for scripts"],
      ["hookline bpf flow flush --pod default/web", "of one pod"],
    ],
  ).action(async (table: number | undefined, _: unknown, command: Command) => {
    const options = command.optsWithGlobals<FlushOptions>();
    const question = table === undefined ? options : { ...options, endpoint: table };
    await flush(question, { state: 0, what: "flows" });
  });
}
