// SPDX-License-Identifier: Apache-2.0
// The targets that the project has set itself, each with what was measured and whether it is met, by the figures as they were
// measured, not as they are printed. Rows of both families are met or missed by each for itself.
import { FAMILIES, MEASURES, type Measure } from "../traffic/load.ts";
import type { Mode } from "../traffic/world.ts";
import { idleMiB, instructions, type Results, ratios } from "./results.ts";
import { percent } from "./tables.ts";

/** What one or both families reached: IPv4, then IPv6. */
type Figures = readonly number[];

export interface Target {
  readonly what: string;
  readonly peers: { readonly cilium: string; readonly iptables: string; readonly nftables: string };
  readonly least?: number;
  readonly most?: number;
  readonly unit: string;
  readonly digits: number;
  readonly figures: Figures;
}

/** Of each measure the ratio to plain routing: the target, and what Cilium 1.18-dev reached over IPv4. */
const TRAFFIC: Record<Measure, { target: number; cilium: string }> = {
  tcp: { target: 1.03, cilium: "1.10" },
  udp: { target: 1.04, cilium: "1.14" },
  packets: { target: 0.95, cilium: "0.83" },
  connections: { target: 0.93, cilium: "0.19 (0.81 without an event reader)" },
  bulk: { target: 1, cilium: "0.98" },
};
const FOUND: readonly (readonly [share: number, target: number, cilium: string])[] = [
  [0.9, 100, "28 %"],
  [0.95, 100, ""],
  [0.99, 99.9, "2 %"],
  [0.999, 99, "0.3 %"],
];
/** A sweep of fewer records, as in a quick run, is not what the target speaks of. */
const SWEPT = 1_000_000;

const row = (
  what: string,
  cilium: string,
  rest: Pick<Target, "figures" | "unit"> & Partial<Target>,
): Target => ({ what, peers: { cilium, iptables: "", nftables: "" }, digits: 0, ...rest });

function trafficTargets({ traffic }: Results): Target[] {
  if (traffic === undefined) return [];
  return (Object.keys(MEASURES) as Measure[]).map((measure) => {
    const { title, better } = MEASURES[measure];
    const { target, cilium } = TRAFFIC[measure];
    const reached = (mode: Mode): number[] =>
      FAMILIES.map((family) => ratios(traffic, { family, mode, measure }).median);
    const peer = (mode: Mode): string => figuresText(reached(mode), 2, "");
    return {
      what: `${title.split(",")[0]}, ratio to plain routing`,
      peers: { cilium, iptables: peer("iptables"), nftables: peer("nftables") },
      ...(better === "lower" ? { most: target } : { least: target }),
      unit: "",
      digits: 2,
      figures: reached("hookline"),
    };
  });
}

function datapathTargets({ packets, ports, sizes }: Results): Target[] {
  const { costs, sweep } = packets;
  const ns = (kind: "out" | "back" | "fresh"): Pick<Target, "figures" | "unit"> => ({
    figures: FAMILIES.map((family) => costs[family][kind].median),
    unit: " ns",
  });
  return [
    row("established packet out", "293 ns", { most: 130, ...ns("out") }),
    row("established packet back", "242 ns", { most: 120, ...ns("back") }),
    row("new flow out", "1350-1440 ns", { most: 900, ...ns("fresh") }),
    ...FOUND.map(([share, least, cilium]) => {
      const at = ports.find(({ held, ports: all }) => Math.abs(held / all - share) < 1e-4);
      const reached = at === undefined ? Number.NaN : percent(at.found, at.attempts);
      const what = `new flows that find a port, ${share * 100} % held`;
      return row(what, cilium, { least, figures: [reached], unit: " %", digits: 2 });
    }),
    row("kernel memory of a flow", "384 B", { most: 300, figures: [sizes.bytesPerFlow], unit: " B" }),
    row("maps of an idle node", "126 MiB", { most: 40, figures: [idleMiB(sizes)], unit: " MiB" }),
    row("instructions of all hooks", "26,823", {
      most: 8000,
      figures: [instructions(sizes).hooks],
      unit: "",
    }),
    ...(sweep.records < SWEPT
      ? []
      : [row("sweep of 1,000,000 live flows", "", { most: 200, figures: [sweep.liveMs], unit: " ms" })]),
  ];
}

function agentTargets({ pods, large, changes }: Results): Target[] {
  const rows: Target[] = [];
  if (large !== undefined) {
    const what = `ip-masq-agent's file of ${large.ranges} ranges, until all are in force`;
    rows.push(row(what, "", { most: 1000, figures: [large.applied.median], unit: " ms" }));
    const grown = `flows lost while a pod opens ${large.flows} and the table grows`;
    rows.push(row(grown, "", { most: 0, figures: [large.opened.lost], unit: "" }));
  }
  for (const { what, times } of changes?.changes ?? [])
    rows.push(
      row(`${what}, until flows follow, longest`, "", { most: 1000, figures: [times.max], unit: " ms" }),
    );
  if (pods !== undefined) {
    const most = Math.max(...pods.memory.map(({ cluster }) => cluster.resident));
    const what = `resident memory of the agent, ${pods.pods} pods`;
    rows.push(row(what, "", { most: 150, figures: [most / 1e6], unit: " MB" }));
  }
  return rows;
}

export function targets(results: Results): Target[] {
  return [...trafficTargets(results), ...datapathTargets(results), ...agentTargets(results)];
}

export function figuresText(figures: Figures, digits: number, unit: string): string {
  return `${figures.map((figure) => figure.toFixed(digits)).join(" / ")}${unit}`;
}

/** By figure: whether it meets the target. */
export function met({ figures, least, most }: Target): boolean[] {
  return figures.map(
    (figure) => figure >= (least ?? Number.NEGATIVE_INFINITY) && figure <= (most ?? Number.POSITIVE_INFINITY),
  );
}

/** The row of the table. */
export function targetCells(target: Target): string[] {
  const { what, peers, least, most, unit, digits, figures } = target;
  const limit = most === undefined ? `>= ${least}${unit}` : `<= ${most}${unit}`;
  const verdicts = met(target).map((yes) => (yes ? "yes" : "**missed**"));
  return [
    what,
    peers.cilium,
    peers.iptables,
    peers.nftables,
    limit,
    figuresText(figures, digits, unit),
    [...new Set(verdicts)].length === 1 ? (verdicts[0] ?? "") : verdicts.join(" / "),
  ];
}
