// SPDX-License-Identifier: Apache-2.0
// `hookline metrics list`: what Prometheus would read, from the agent's socket.
import type { Command } from "commander";
import type { MetricRow } from "../api/metric.ts";
import { askAgent } from "./agent.ts";
import { collect, type FormatOption, type GlobalOptions, withExamples, withFormat } from "./command.ts";
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

interface Filter {
  matchPattern: string;
  label: string[];
}

function labelOf(text: string): [name: string, value: string] {
  const [, name, value] = /^([^=]+)=(.*)$/.exec(text) ?? [];
  if (name === undefined || value === undefined)
    throw faults.USAGE({ why: `--label ${text}: write name=value` });
  return [name, value];
}

/** In one order, whichever the registry has; numbers in labels (buckets) by their value. */
function byName(a: MetricRow, b: MetricRow): number {
  const text = (row: MetricRow): string => `${row.name} ${labelText(row.labels)}`;
  return text(a).localeCompare(text(b), "en", { numeric: true });
}

export function addMetrics(program: Command): void {
  const group = program.command("metrics").description("metrics of the agent and its data plane");
  withExamples(
    withFormat(group.command("list").description("list them with their values of this moment"))
      .option("-p, --match-pattern <regex>", "only metrics whose names match", "")
      .option("--label <name=value>", "only with this label, repeatable", collect, []),
    [
      ["hookline metrics list", "all of docs/user/metrics.md"],
      ["hookline metrics list -p drop", "what is dropped and why"],
      ["hookline metrics list --label direction=EGRESS", "what pods send"],
      ["hookline metrics list -p pressure -o json", "how full the maps are, for programs"],
    ],
  ).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption & Filter>();
    const wanted = pattern(options.matchPattern);
    const rows = await askAgent<MetricRow[]>(resolveTarget(options), "/v1/metrics");
    const labels = options.label.map(labelOf);
    const chosen = rows.filter(
      (row) => wanted.test(row.name) && labels.every(([name, value]) => String(row.labels[name]) === value),
    );
    await printRows(options.output, COLUMNS, chosen.sort(byName));
  });
}
