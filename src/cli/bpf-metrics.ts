// SPDX-License-Identifier: Apache-2.0
// `hookline bpf metrics list`: packets and bytes per hook, forwarded or dropped by reason, over all processors.
import { type Command, Option } from "commander";
import { directionOf } from "../maps/direction.ts";
import { dropReasonText, hookText } from "../maps/gen/verdict.ts";
import { type FormatOption, type GlobalOptions, withExamples, withFormat } from "./command.ts";
import { printRows } from "./output.ts";
import type { Column } from "./table.ts";
import { resolveTarget } from "./target.ts";

interface Metric {
  reason: number;
  reasonText: string;
  hook: string;
  /** From the pods' point of view. */
  direction: string;
  packets: bigint;
  bytes: bigint;
}

const COLUMNS: Column<Metric>[] = [
  { header: "REASON", cell: (m) => m.reasonText },
  { header: "DIRECTION", cell: (m) => m.direction },
  { header: "HOOK", cell: (m) => m.hook },
  { header: "PACKETS", cell: (m) => String(m.packets), right: true },
  { header: "BYTES", cell: (m) => String(m.bytes), right: true },
];

interface Filter {
  readonly verdict?: "forwarded" | "dropped";
  readonly reason?: string;
  readonly trafficDirection?: "egress" | "ingress";
  readonly hook?: string;
}

/** Whether a counter is asked for; a reason by its number or a part of its text. */
export function isMetricWanted(metric: Metric, filter: Filter): boolean {
  const { verdict, reason, trafficDirection, hook } = filter;
  if (verdict !== undefined && (metric.reason === 0) !== (verdict === "forwarded")) return false;
  if (trafficDirection !== undefined && metric.direction !== trafficDirection.toUpperCase()) return false;
  if (hook !== undefined && metric.hook !== hook) return false;
  if (reason === undefined) return true;
  return reason === String(metric.reason) || metric.reasonText.toLowerCase().includes(reason.toLowerCase());
}

async function readMetrics(options: GlobalOptions): Promise<Metric[]> {
  const { pinsOf } = await import("./pins.ts");
  const { openPinned } = await import("../maps/table.ts");
  using table = openPinned(pinsOf(resolveTarget(options)), "counters");
  return [...table.entriesPerCpu()].map(([index, perCpu]) => {
    const [hook, reason] = [index >> 8, index & 255];
    return {
      reason,
      reasonText: dropReasonText[reason] ?? `reason ${reason}`,
      hook: hookText[hook] ?? `hook ${hook}`,
      direction: directionOf.get(hook) ?? "UNKNOWN",
      packets: perCpu.reduce((sum, counter) => sum + counter.packets, 0n),
      bytes: perCpu.reduce((sum, counter) => sum + counter.bytes, 0n),
    };
  });
}

export function addBpfMetrics(group: Command): void {
  const metrics = group.command("metrics").description("packet counters");
  withExamples(
    withFormat(metrics.command("list").description("list them by reason and hook"))
      .addOption(new Option("--verdict <what>", "only these").choices(["forwarded", "dropped"]))
      .option("--reason <number|text>", "only this reason, by its number or a part of its text")
      .addOption(new Option("--traffic-direction <way>", "only this way").choices(["egress", "ingress"]))
      .addOption(new Option("--hook <name>", "only at this hook").choices(Object.values(hookText))),
    [
      ["hookline bpf metrics list", "since the maps were made"],
      ["hookline bpf metrics list --verdict dropped", "what is dropped, and why"],
      ["watch -d hookline bpf metrics list", "what is growing"],
    ],
  ).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption & Filter>();
    const all = await readMetrics(options);
    const rows = all.filter((metric) => metric.packets > 0n && isMetricWanted(metric, options));
    rows.sort((a, b) => a.reason - b.reason || a.hook.localeCompare(b.hook));
    await printRows(options.output, COLUMNS, rows);
  });
}
