// SPDX-License-Identifier: Apache-2.0
// `hookline bpf endpoint list`: the pods that the data plane knows.
import { type Command, Option } from "commander";
import type { EndpointReport } from "../agent/status.ts";
import { NO_ADDRESS } from "../base/addr.ts";
import { type Prefix, prefixContains } from "../base/prefix.ts";
import type { Endpoint } from "../maps/gen/types.ts";
import { askAgent } from "./agent.ts";
import { numberArgument, prefixArgument } from "./arguments.ts";
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

interface Filter {
  readonly ip?: Prefix;
  readonly endpoint?: number;
  readonly pod?: string;
}

/** Ids of the pods of a name. @throws Fault NO_SUCH, NOT_RUNNING */
async function idsOf(options: GlobalOptions, pod: string): Promise<ReadonlySet<number>> {
  const { findPods } = await import("./flow-filter.ts");
  const endpoints = await askAgent<EndpointReport[]>(resolveTarget(options), "/v1/endpoints");
  return new Set(findPods(endpoints, pod).map(({ id }) => id));
}

async function readEndpoints(options: GlobalOptions & Filter): Promise<Endpoint[]> {
  const { pinsOf } = await import("./pins.ts");
  const { openPinned } = await import("../maps/table.ts");
  const { ip, endpoint, pod } = options;
  const ids = pod === undefined ? undefined : await idsOf(options, pod);
  using table = openPinned(pinsOf(resolveTarget(options)), "endpoints");
  const has = (address: string): boolean =>
    ip !== undefined && address !== NO_ADDRESS && prefixContains(ip, address);
  return [...table.entries()]
    .map(([, e]) => e)
    .filter((e) => ip === undefined || has(e.addr4) || has(e.addr6))
    .filter((e) => endpoint === undefined || e.id === endpoint)
    .filter((e) => ids === undefined || ids.has(e.id))
    .sort((a, b) => a.id - b.id || a.ifindex - b.ifindex);
}

export function addBpfEndpoint(group: Command): void {
  const endpoint = group.command("endpoint").description("local pods");
  withExamples(
    withFormat(endpoint.command("list").description("list them by device"))
      .addOption(new Option("--ip <address|cidr>", "only with such an address").argParser(prefixArgument))
      .addOption(new Option("--endpoint <id>", "only this one").argParser(numberArgument("an id", 65535)))
      .option("--pod <[namespace/]name>", "only this pod (asks the agent)"),
    [
      ["hookline bpf endpoint list", "what the packet path sees"],
      ["hookline bpf endpoint list --ip 10.244.1.0/24", "pods with an address of that range"],
    ],
  ).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption & Filter>();
    await printRows(options.output, COLUMNS, await readEndpoints(options));
  });
}
