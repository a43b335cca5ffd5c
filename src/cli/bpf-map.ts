// SPDX-License-Identifier: Apache-2.0
// `hookline bpf map list`: every map with its fill, counted in the kernel at that moment, and its memory.
import type { Command } from "commander";
import { type FormatOption, type GlobalOptions, withExamples, withFormat } from "./command.ts";
import { formatBytes } from "./duration.ts";
import { printRows } from "./output.ts";
import type { MapFill } from "./pins.ts";
import type { Column } from "./table.ts";
import { resolveTarget } from "./target.ts";

const COLUMNS: Column<MapFill>[] = [
  { header: "NAME", cell: (m) => m.name },
  { header: "TYPE", cell: (m) => m.type },
  { header: "ENTRIES", cell: (m) => `${m.entries ?? "-"}/${m.maxEntries}`, right: true },
  { header: "FILL", cell: (m) => (m.fill === null ? "" : `${(100 * m.fill).toFixed(1)}%`), right: true },
  { header: "KEY", cell: (m) => m.keyBytes, right: true },
  { header: "VALUE", cell: (m) => m.valueBytes, right: true },
  { header: "MEMORY", cell: (m) => formatBytes(m.memoryBytes), right: true },
];

export function addBpfMap(group: Command): void {
  const map = group.command("map").description("the maps themselves");
  withExamples(withFormat(map.command("list").description("list them with their measured fill and memory")), [
    ["hookline bpf map list", "flows[0] takes new records, flows[1] is being drained after growth"],
    ["hookline bpf map list -o json", "with what each map is for"],
  ]).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption>();
    const { pinsOf, readFills } = await import("./pins.ts");
    await printRows(options.output, COLUMNS, readFills(pinsOf(resolveTarget(options))));
  });
}
