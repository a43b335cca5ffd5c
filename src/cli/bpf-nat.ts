// SPDX-License-Identifier: Apache-2.0
// `hookline bpf nat list`: translations, in the line format of `cilium bpf nat list`, which users' scripts read; and
// `flush`, which ends them.
import type { Command } from "commander";
import { FlowState } from "../maps/gen/verdict.ts";
import { readFlows } from "./bpf-flow.ts";
import { type FormatOption, type GlobalOptions, withExamples, withFormat } from "./command.ts";
import { natLines } from "./flows.ts";
import { type FlushOptions, flush } from "./flush.ts";
import { renderData, write } from "./output.ts";

export function addBpfNat(group: Command): void {
  const nat = group.command("nat").description("translated flows");
  withExamples(
    withFormat(nat.command("list").description("list translations, two lines per flow: out and back")),
    [
      ["hookline bpf nat list", "as cilium bpf nat list prints them"],
      ["hookline --node node1 bpf nat list | grep 198.51.100.10", "towards one destination"],
      ["hookline bpf nat list -o json", "with the deciding rule, for programs"],
    ],
  ).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption>();
    const rows = (await readFlows(options)).filter((row) => row.masqueraded);
    if (options.output !== "table") await write(await renderData(options.output, rows));
    else if (rows.length > 0) await write(`${rows.flatMap(natLines).join("\n")}\n`);
  });
  withExamples(
    nat
      .command("flush")
      .description("end all translated flows and free their ports")
      .option("-f, --force", "do not ask"),
    [["hookline bpf nat flush --force", "without a question, for scripts"]],
  ).action(async (_: unknown, command: Command) => {
    await flush(command.optsWithGlobals<FlushOptions>(), {
      state: FlowState.FLOW_XSOURCE,
      what: "translated flows",
    });
  });
}
