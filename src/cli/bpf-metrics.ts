// SPDX-License-Identifier: Apache-2.0
// `hookline bpf metrics list`: packets and bytes per hook, forwarded or dropped by reason, over all processors.
import type { Command } from "commander";
import { dropReasonText, hookText } from "../maps/gen/verdict.ts";
import { type FormatOption, type GlobalOptions, withExamples, withFormat } from "./command.ts";
import { printRows } from "./output.ts";
import type { Column } from "./table.ts";
import { resolveTarget } from "./target.ts";

interface Metric {
  reason: number;
  reasonText: string;
  hook: string;
  packets: bigint;
  bytes: bigint;
}

const COLUMNS: Column<Metric>[] = [
  { header: "REASON", cell: (m) => m.reasonText },
  { header: "HOOK", cell: (m) => m.hook },
  { header: "PACKETS", cell: (m) => String(m.packets), right: true },
  { header: "BYTES", cell: (m) => String(m.bytes), right: true },
];

export function addBpfMetrics(group: Command): void {
  const metrics = group.command("metrics").description("packet counters");
  withExamples(withFormat(metrics.command("list").description("list them by reason and hook")), [
    ["hookline bpf metrics list", "since the maps were made"],
    ["watch -d hookline bpf metrics list", "what is growing"],
  ]).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption>();
    const { pinsOf } = await import("./pins.ts");
    const { openPinned } = await import("../maps/table.ts");
    using table = openPinned(pinsOf(resolveTarget(options)), "counters");
    const all = [...table.entriesPerCpu()].map(([index, perCpu]) => {
      const [hook, reason] = [index >> 8, index & 255];
      return {
        reason,
        reasonText: dropReasonText[reason] ?? `reason ${reason}`,
        hook: hookText[hook] ?? `hook ${hook}`,
        packets: perCpu.reduce((sum, counter) => sum + counter.packets, 0n),
        bytes: perCpu.reduce((sum, counter) => sum + counter.bytes, 0n),
      };
    });
    const rows = all.filter((metric) => metric.packets > 0n);
    rows.sort((a, b) => a.reason - b.reason || a.hook.localeCompare(b.hook));
    await printRows(options.output, COLUMNS, rows);
  });
}
