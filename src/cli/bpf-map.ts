// SPDX-License-Identifier: Apache-2.0
// `hookline bpf map list`: every map with its fill, counted in the kernel at that moment, the share that would not
// give way to new entries, and its memory.
import type { Command } from "commander";
import { type FormatOption, type GlobalOptions, withExamples, withFormat } from "./command.ts";
import { formatBytes } from "./duration.ts";
import { faults } from "./faults.ts";
import { printRows } from "./output.ts";
import type { MapFill } from "./pins.ts";
import type { Column } from "./table.ts";
import { resolveTarget } from "./target.ts";

const COLUMNS: Column<MapFill>[] = [
  { header: "NAME", cell: (m) => m.name },
  { header: "TYPE", cell: (m) => m.type },
  { header: "ENTRIES", cell: (m) => `${m.entries ?? "-"}/${m.maxEntries}`, right: true },
  { header: "FILL", cell: (m) => (m.fill === null ? "" : `${(100 * m.fill).toFixed(1)}%`), right: true },
  { header: "PRESSURE", cell: (m) => (m.pressure === null ? "" : m.pressure.toFixed(3)), right: true },
  { header: "KEY", cell: (m) => m.keyBytes, right: true },
  { header: "VALUE", cell: (m) => m.valueBytes, right: true },
  { header: "MEMORY", cell: (m) => formatBytes(m.memoryBytes), right: true },
];

/** @throws Fault NO_SUCH if there is no map of one of the names */
async function readMaps(options: GlobalOptions, names: readonly string[]): Promise<MapFill[]> {
  const { isMapWanted, pinsOf, readFills } = await import("./pins.ts");
  const fills = await readFills(pinsOf(resolveTarget(options)), names);
  const missing = names.find((name) => !fills.some((fill) => isMapWanted(fill.name, [name])));
  if (missing !== undefined) {
    throw faults.NO_SUCH({ what: "map", name: missing, hint: "see hookline bpf map list" });
  }
  return fills;
}

export function addBpfMap(group: Command): void {
  const map = group.command("map").description("the maps themselves");
  withExamples(
    withFormat(
      map.command("list").description("list them with their measured fill, pressure and memory"),
    ).argument("[name...]", "only these; flows stands for all of its slots"),
    [
      ["hookline bpf map list", "flows[0] takes new records, flows[1] is being drained after growth"],
      ["hookline bpf map list flows replies", "the flow table and its index alone"],
      ["hookline bpf map list -o json", "with what each map is for"],
    ],
  ).action(async (names: string[], _: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption>();
    await printRows(options.output, COLUMNS, await readMaps(options, names));
  });
}
