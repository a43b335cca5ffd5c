// SPDX-License-Identifier: Apache-2.0
// `hookline bpf endpoint list`: the pods that the data plane knows.
import type { Command } from "commander";
import { NO_ADDRESS } from "../base/addr.ts";
import type { Endpoint } from "../maps/gen/types.ts";
import { type FormatOption, type GlobalOptions, withExamples, withFormat } from "./command.ts";
import { printRows } from "./output.ts";
import type { Column } from "./table.ts";
import { resolveTarget } from "./target.ts";

const COLUMNS: Column<Endpoint>[] = [
  { header: "ENDPOINT", cell: (e) => e.id, right: true },
  { header: "IPV4", cell: (e) => (e.addr4 === NO_ADDRESS ? "" : e.addr4) },
  { header: "IPV6", cell: (e) => (e.addr6 === NO_ADDRESS ? "" : e.addr6) },
  { header: "IFINDEX", cell: (e) => e.ifindex, right: true },
  { header: "MAC", cell: (e) => e.mac },
  { header: "HOST MAC", cell: (e) => e.hostMac },
  { header: "IDENTITY", cell: (e) => e.identity, right: true },
  { header: "FLAGS", cell: (e) => e.flags },
];

export function addBpfEndpoint(group: Command): void {
  const endpoint = group.command("endpoint").description("local pods");
  withExamples(withFormat(endpoint.command("list").description("list them by device")), [
    ["hookline bpf endpoint list", "what the packet path sees"],
  ]).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption>();
    const { pinsOf } = await import("./pins.ts");
    const { openPinned } = await import("../maps/table.ts");
    using table = openPinned(pinsOf(resolveTarget(options)), "endpoints");
    const entries = [...table.entries()];
    await printRows(
      options.output,
      COLUMNS,
      entries.map(([, endpoint]) => endpoint).sort((a, b) => a.id - b.id),
    );
  });
}
