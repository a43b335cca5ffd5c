// SPDX-License-Identifier: Apache-2.0
// `hookline config view|get`: every option in force, and the document that it came from.
import { type Command, Option } from "commander";
import type { ConfigReport, OptionReport } from "../agent/status.ts";
import { askAgent } from "./agent.ts";
import { type FormatOption, type GlobalOptions, withExamples, withFormat } from "./command.ts";
import { faults } from "./faults.ts";
import { printValue } from "./output.ts";
import { type Column, renderTable } from "./table.ts";
import { resolveTarget } from "./target.ts";

const COLUMNS: Column<OptionReport>[] = [
  { header: "KEY", cell: (o) => o.name },
  { header: "VALUE", cell: (o) => o.value },
  { header: "ORIGIN", cell: (o) => o.origin },
];

function configText(report: ConfigReport): string {
  const notes = [
    ...report.unknownKeys.map((key) => `unknown key: ${key}\n`),
    ...report.faults.map((fault) => `refused: ${fault}\n`),
  ];
  return renderTable(COLUMNS, [...report.options]) + notes.join("");
}

export function addConfig(program: Command): void {
  const group = program.command("config").description("the agent's configuration");
  withExamples(
    withFormat(
      group.command("view").description("list the options in force and where they come from"),
    ).addOption(new Option("--changed", "only those that differ from their default")),
    [
      ["hookline config view --changed", "what somebody has set"],
      ["hookline config view -o yaml", "with defaults and descriptions"],
    ],
  ).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption & { changed?: boolean }>();
    const report = await askAgent<ConfigReport>(resolveTarget(options), "/v1/config");
    const shown = options.changed
      ? { ...report, options: report.options.filter((o) => o.value !== o.default) }
      : report;
    await printValue(options.output, shown, configText);
  });
  withExamples(
    withFormat(
      group.command("get").description("print the value of one option").argument("<key>", "its name"),
    ),
    [
      ["hookline config get enable-ipv6-masquerade", "the bare value"],
      ["hookline config get devices -o json", "with origin and default"],
    ],
  ).action(async (key: string, _: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption>();
    const report = await askAgent<ConfigReport>(resolveTarget(options), "/v1/config");
    const found = report.options.find((o) => o.name === key);
    if (!found) throw faults.NO_SUCH({ what: "option", name: key, hint: "see hookline config view" });
    await printValue(options.output, found, (o) => `${o.value}\n`);
  });
}
