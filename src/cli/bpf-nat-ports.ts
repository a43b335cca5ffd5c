// SPDX-License-Identifier: Apache-2.0
// `hookline bpf nat retries`: how many ports were refused before new flows got one, in the line format of `cilium bpf nat
// retries list`; and `hookline bpf nat stats`: the remote endpoints towards which the most ports are in use, and those
// towards which there were none.
import type { Command } from "commander";
import { familyOf } from "../base/addr.ts";
import type { RemoteEndpoint } from "../maps/port-use.ts";
import type { RetryFamily } from "../maps/retries.ts";
import { formatEnd } from "../observe/decode.ts";
import { protocolName } from "../observe/protocol.ts";
import { type FormatOption, type GlobalOptions, withExamples, withFormat } from "./command.ts";
import { formatSeconds } from "./duration.ts";
import { type FamilyFilter, isFamilyWanted, withFamilies } from "./family.ts";
import { faults } from "./faults.ts";
import { printRows, renderData, write } from "./output.ts";
import type { Column } from "./table.ts";
import { resolveTarget } from "./target.ts";

/** One slot of the histogram. */
interface Retries {
  family: RetryFamily;
  /** Ports refused; the last slot is for more, and for flows that got none. */
  retries: number;
  flows: number;
}

/** The histograms that are asked for. */
function wantedFamilies(all: readonly RetryFamily[], filter: FamilyFilter): RetryFamily[] {
  return all.filter((family) => isFamilyWanted(family === "ipv4" ? 4 : 6, filter));
}

async function listRetries(options: GlobalOptions & FormatOption & FamilyFilter): Promise<void> {
  const { pinsOf } = await import("./pins.ts");
  const { openPinned } = await import("../maps/table.ts");
  const { RETRY_FAMILIES, RETRY_MAPS, readRetries } = await import("../maps/retries.ts");
  const root = pinsOf(resolveTarget(options));
  const rows = wantedFamilies(RETRY_FAMILIES, options).flatMap((family): Retries[] => {
    using table = openPinned(root, RETRY_MAPS[family]);
    return readRetries(table).map((flows, retries) => ({ family, retries, flows }));
  });
  if (options.output !== "table") await write(await renderData(options.output, rows));
  else await write(rows.map(({ retries, flows }) => `${retries}:\t${flows}\n`).join(""));
}

async function flushRetries(options: GlobalOptions & FamilyFilter): Promise<void> {
  const { pinsOf } = await import("./pins.ts");
  const { openPinned } = await import("../maps/table.ts");
  const { RETRY_FAMILIES, RETRY_MAPS, clearRetries } = await import("../maps/retries.ts");
  const root = pinsOf(resolveTarget(options));
  for (const family of wantedFamilies(RETRY_FAMILIES, options)) {
    using table = openPinned(root, RETRY_MAPS[family]);
    clearRetries(table);
  }
}

export function addNatRetries(nat: Command): void {
  const retries = nat.command("retries").description("histogram of the ports refused before one was found");
  withExamples(
    withFamilies(
      withFormat(
        retries
          .command("list")
          .description("number of refused ports and of new flows, 33 lines for IPv4, then 33 for IPv6"),
      ),
    ),
    [
      [
        "hookline bpf nat retries list",
        "as cilium bpf nat retries list prints them; 32 is for more, or none found",
      ],
      ["hookline bpf nat retries list -6", "those of IPv6"],
      ["hookline bpf nat retries list -o json", "with the family, for programs"],
    ],
  ).action(async (_: unknown, command: Command) =>
    listRetries(command.optsWithGlobals<GlobalOptions & FormatOption & FamilyFilter>()),
  );
  withExamples(withFamilies(retries.command("flush").description("begin again at 0")), [
    ["hookline bpf nat retries flush", "flows and their ports are not touched"],
  ]).action(async (_: unknown, command: Command) =>
    flushRetries(command.optsWithGlobals<GlobalOptions & FamilyFilter>()),
  );
}

/** One remote endpoint as one of the node's addresses reaches it. */
interface NatStats {
  proto: string;
  source: string;
  remote: string;
  /** Ports in use. */
  ports: number;
  /** Flows that found none. */
  refused: number;
  /** Since the last of them; null if none was ever refused. */
  refusedSecondsAgo: number | null;
}

const STATS: Column<NatStats>[] = [
  { header: "PROTO", cell: (s) => s.proto },
  { header: "SOURCE SEEN", cell: (s) => s.source },
  { header: "REMOTE", cell: (s) => s.remote },
  { header: "PORTS", cell: (s) => s.ports, right: true },
  { header: "REFUSED", cell: (s) => s.refused, right: true },
  {
    header: "LAST REFUSED",
    cell: (s) => (s.refusedSecondsAgo === null ? "" : formatSeconds(s.refusedSecondsAgo)),
    right: true,
  },
];

interface StatsOptions extends FamilyFilter {
  readonly top: number;
}

/** The most ports in use first. */
async function readStats(root: string, options: StatsOptions): Promise<NatStats[]> {
  const { openInner, openPinned } = await import("../maps/table.ts");
  const { PortCounts, portRefusals } = await import("../maps/port-use.ts");
  const { countFlows } = await import("../maps/fill.ts");
  const { nowTicks } = await import("../maps/ticks.ts");
  const counts = new PortCounts();
  const tables = openInner(root, "flows");
  for (const table of tables) {
    await countFlows(table.map, counts);
    table.close();
  }
  using crowded = openPinned(root, "crowded");
  const name = (of: RemoteEndpoint): Pick<NatStats, "proto" | "source" | "remote"> => ({
    proto: protocolName(of.proto),
    source: of.source,
    remote: formatEnd(of.remote, of.port),
  });
  const key = (of: RemoteEndpoint): string => Object.values(name(of)).join(" ");
  const rows = new Map<string, NatStats>();
  const wanted = (of: RemoteEndpoint): boolean => isFamilyWanted(familyOf(of.remote), options);
  for (const use of counts.top(Number.POSITIVE_INFINITY).filter(wanted))
    rows.set(key(use), { ...name(use), ports: use.held, refused: 0, refusedSecondsAgo: null });
  const refusals = portRefusals(crowded.entries(), nowTicks(), Number.POSITIVE_INFINITY);
  for (const of of refusals.filter(wanted)) {
    const ports = rows.get(key(of))?.ports ?? 0;
    rows.set(key(of), {
      ...name(of),
      ports,
      refused: of.refused,
      refusedSecondsAgo: Math.round(of.secondsAgo),
    });
  }
  return [...rows.values()]
    .sort((a, b) => b.ports - a.ports || b.refused - a.refused || (a.remote < b.remote ? -1 : 1))
    .slice(0, options.top);
}

function count(text: string): number {
  const most = Number(text);
  if (!Number.isInteger(most) || most < 1) throw faults.USAGE({ why: `--top ${text}: not a number above 0` });
  return most;
}

export function addNatStats(nat: Command): void {
  withExamples(
    withFamilies(
      withFormat(
        nat
          .command("stats")
          .description("ports in use towards the busiest remote endpoints, and flows that found none"),
      ),
    ).option("--top <number>", "so many endpoints", count, 32),
    [
      ["hookline bpf nat stats", "who is near the end of the ports; each address of the node has its own"],
      ["hookline bpf nat stats --top 5 -o json", "the first five, for programs"],
    ],
  ).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption & StatsOptions>();
    const { pinsOf } = await import("./pins.ts");
    await printRows(options.output, STATS, await readStats(pinsOf(resolveTarget(options)), options));
  });
}
