// SPDX-License-Identifier: Apache-2.0
// `hookline endpoint list|get`: the pods that the agent has wired.
import type { Command } from "commander";
import type { EndpointReport } from "../agent/status.ts";
import { askAgent } from "./agent.ts";
import { type FormatOption, type GlobalOptions, withExamples, withFormat } from "./command.ts";
import { faults } from "./faults.ts";
import { printRows, printValue } from "./output.ts";
import type { Column } from "./table.ts";
import { resolveTarget } from "./target.ts";

const COLUMNS: Column<EndpointReport>[] = [
  { header: "ENDPOINT", cell: (e) => e.id },
  { header: "STATE", cell: (e) => e.state },
  { header: "POD", cell: (e) => (e.pod === "" ? e.containerId.slice(0, 12) : `${e.namespace}/${e.pod}`) },
  { header: "IPV4", cell: (e) => e.ipv4 },
  { header: "IPV6", cell: (e) => e.ipv6 },
  { header: "IDENTITY", cell: (e) => e.identity },
  { header: "DEVICE", cell: (e) => e.device },
];

/** One endpoint, a field per line. */
function endpointText(endpoint: EndpointReport): string {
  const rows = Object.entries(endpoint).map(([field, value]): [string, string] => [
    field,
    typeof value === "object" ? JSON.stringify(value) : String(value),
  ]);
  const width = Math.max(...rows.map(([field]) => field.length)) + 2;
  return rows
    .map(([field, value]) => `${`${field}:`.padEnd(width)}${value}`.trimEnd())
    .join("\n")
    .concat("\n");
}

async function fetchEndpoints(options: GlobalOptions): Promise<EndpointReport[]> {
  return askAgent<EndpointReport[]>(resolveTarget(options), "/v1/endpoints");
}

/** By id, by `namespace/pod`, by pod name, by address. */
function findEndpoint(all: EndpointReport[], name: string): EndpointReport {
  const found = all.find((e) =>
    [String(e.id), `${e.namespace}/${e.pod}`, e.pod, e.ipv4, e.ipv6].filter(Boolean).includes(name),
  );
  if (!found) throw faults.NO_SUCH({ what: "endpoint", name, hint: "see hookline endpoint list" });
  return found;
}

export function addEndpoint(program: Command): void {
  const group = program.command("endpoint").description("the pods of this node");
  withExamples(withFormat(group.command("list").description("list them")), [
    ["hookline endpoint list", "all pods of this node"],
    ["hookline --node node2 endpoint list -o yaml", "of a lab's node, in full"],
  ]).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption>();
    await printRows(options.output, COLUMNS, await fetchEndpoints(options));
  });
  withExamples(
    withFormat(group.command("get").description("show one in full").argument("<id>", "id, pod or address")),
    [
      ["hookline endpoint get 7", "by id"],
      ["hookline endpoint get default/web-1", "by pod"],
      ["hookline endpoint get 10.244.1.2 -o json", "by address"],
    ],
  ).action(async (id: string, _: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption>();
    await printValue(options.output, findEndpoint(await fetchEndpoints(options), id), endpointText);
  });
}
