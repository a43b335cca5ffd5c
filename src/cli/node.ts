// SPDX-License-Identifier: Apache-2.0
// `hookline node list`: the nodes that the agent knows, and how it reaches their pods.
import type { Command } from "commander";
import type { NodeReport } from "../agent/status.ts";
import { askAgent } from "./agent.ts";
import { type FormatOption, type GlobalOptions, withExamples, withFormat } from "./command.ts";
import { printRows } from "./output.ts";
import type { Column } from "./table.ts";
import { resolveTarget } from "./target.ts";

const COLUMNS: Column<NodeReport>[] = [
  { header: "NAME", cell: (n) => (n.local ? `${n.name} (local)` : n.name) },
  { header: "ADDRESSES", cell: (n) => n.addresses.join(",") },
  { header: "POD CIDRS", cell: (n) => n.podCidrs.join(",") },
  { header: "ROUTE", cell: (n) => n.route },
];

export function addNode(program: Command): void {
  const group = program.command("node").description("the nodes of the cluster");
  withExamples(withFormat(group.command("list").description("list them, with the routes to their pods")), [
    ["hookline node list", "as this host's agent sees them"],
    ["hookline --node node1 node list -o json", "as a lab's node sees them"],
  ]).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption>();
    await printRows(
      options.output,
      COLUMNS,
      await askAgent<NodeReport[]>(resolveTarget(options), "/v1/nodes"),
    );
  });
}
