// SPDX-License-Identifier: Apache-2.0
// `hookline bpf flow list`: the records of the flow table, each with its translation, state and deciding rule; and
// `flush`, which ends them.
import type { Command } from "commander";
import { nowTicks } from "../maps/ticks.ts";
import { type FormatOption, type GlobalOptions, withExamples, withFormat } from "./command.ts";
import { formatSeconds } from "./duration.ts";
import { type FlowRow, flowRow } from "./flows.ts";
import { type FlushOptions, flush } from "./flush.ts";
import { printRows } from "./output.ts";
import type { Column } from "./table.ts";
import { resolveTarget } from "./target.ts";

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

/** Records that still count, youngest first; `all` adds the expired ones that nobody has replaced yet. */
export async function readFlows(options: GlobalOptions, all = false): Promise<FlowRow[]> {
  const { pinsOf, readSlots } = await import("./pins.ts");
  const records = readSlots(pinsOf(resolveTarget(options)), "flows");
  const now = nowTicks();
  return records
    .map(([key, flow]) => flowRow({ ...key, ...flow }, now))
    .filter((row) => all || row.expiresInSeconds > 0)
    .sort((a, b) => a.ageSeconds - b.ageSeconds);
}

export function addBpfFlow(group: Command): void {
  const flow = group.command("flow").alias("ct").description("the flow table");
  withExamples(
    withFormat(flow.command("list").description("list flows with their deciding rule")).option(
      "--all",
      "expired records too, which nobody has replaced yet",
    ),
    [
      ["hookline bpf flow list", "live flows, youngest first"],
      ["hookline bpf ct list -o json", "the same under Cilium's name, for programs"],
    ],
  ).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption & { all?: boolean }>();
    await printRows(options.output, COLUMNS, await readFlows(options, options.all));
  });
  withExamples(
    flow.command("flush").description("end all flows, translated or not").option("-f, --force", "do not ask"),
    [["hookline bpf ct flush --force", "without a question, for scripts"]],
  ).action(async (_: unknown, command: Command) => {
    await flush(command.optsWithGlobals<FlushOptions>(), { state: 0, what: "flows" });
  });
}
