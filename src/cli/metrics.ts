// SPDX-License-Identifier: Apache-2.0
// `hookline metrics list`: what Prometheus would read, from the agent's socket.
import type { Command } from "commander";
import type { MetricRow } from "../api/metrics.ts";
import { askAgent } from "./agent.ts";
import { type FormatOption, type GlobalOptions, withExamples, withFormat } from "./command.ts";
import { faults } from "./faults.ts";
import { printRows } from "./output.ts";
import type { Column } from "./table.ts";
import { resolveTarget } from "./target.ts";

const labelText = (labels: MetricRow["labels"]): string =>
  Object.entries(labels)
    .map(([label, value]) => `${label}=${value}`)
    .join(" ");

const COLUMNS: Column<MetricRow>[] = [
  { header: "METRIC", cell: (m) => m.name },
  { header: "LABELS", cell: (m) => labelText(m.labels) },
  { header: "VALUE", cell: (m) => m.value, right: true },
];

function pattern(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (thrown) {
    throw faults.USAGE({ why: `--match-pattern ${text}: ${(thrown as Error).message}` }, thrown);
  }
}

export function addMetrics(program: Command): void {
  const group = program.command("metrics").description("metrics of the agent and its data plane");
  withExamples(
    withFormat(group.command("list").description("list them with their values of this moment")).option(
      "-p, --match-pattern <regex>",
      "only metrics whose names match",
      "",
    ),
    [
      ["hookline metrics list", "all of docs/user/metrics.md"],
      ["hookline metrics list -p drop", "what is dropped and why"],
      ["hookline metrics list -p pressure -o json", "how full the maps are, for programs"],
    ],
  ).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption & { matchPattern: string }>();
    const wanted = pattern(options.matchPattern);
    const rows = await askAgent<MetricRow[]>(resolveTarget(options), "/v1/metrics");
    await printRows(
      options.output,
      COLUMNS,
      rows.filter((row) => wanted.test(row.name)),
    );
  });
}
