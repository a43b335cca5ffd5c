// SPDX-License-Identifier: Apache-2.0
// docs/benchmarks.md from the figures of one run: medians, ranges, ratios to plain routing of the same round, and against the
// targets that the project has set itself. A missed target is called so.
import { execFileSync } from "node:child_process";
import { cpus, release, totalmem } from "node:os";
import { type Figures, MEASURES, type Measure } from "./masquerade-load.ts";
import type { Cost, PacketCosts } from "./masquerade-packets.ts";
import type { PortSearch } from "./masquerade-ports.ts";
import type { Sizes } from "./masquerade-sizes.ts";
import { MODE_TITLES, MODES, type Mode } from "./masquerade-world.ts";

/** Figures of each mode, one per round. */
export type Rounds = Record<Mode, { figures: Record<keyof Figures, number[]>; failed: number; slow: number }>;

export interface Run {
  readonly rounds: number;
  readonly seconds: number;
  readonly quick: boolean;
  /** Before the thread was pinned, which hides the others. */
  readonly processors: number;
}

export interface Results {
  readonly traffic: Rounds | undefined;
  readonly packets: PacketCosts;
  readonly ports: readonly PortSearch[];
  readonly sizes: Sizes;
}

/** Of each measure the ratio to plain routing: the target, and what Cilium 1.18-dev reached on this kind of machine. */
const RATIO_TARGETS: Record<Measure, { target: number; cilium: string }> = {
  tcp: { target: 1.03, cilium: "1.10" },
  udp: { target: 1.04, cilium: "1.14" },
  packets: { target: 0.95, cilium: "0.83" },
  connections: { target: 0.93, cilium: "0.19 (0.81 without an event reader)" },
  bulk: { target: 1, cilium: "0.98" },
};
const NS_TARGET = { out: 130, back: 120, fresh: 900 } as const;
const SUCCESS_TARGET: readonly (readonly [share: number, percent: number])[] = [
  [0.9, 100],
  [0.95, 100],
  [0.99, 99.9],
  [0.999, 99],
];
const BYTES_PER_FLOW_TARGET = 300;
const IDLE_MIB_TARGET = 40;
const INSTRUCTIONS_TARGET = 8000;
const SWEEP_MS_TARGET = 200;

interface Spread {
  median: number;
  min: number;
  max: number;
}

function spread(list: readonly number[]): Spread {
  const sorted = list.toSorted((a, b) => a - b);
  const at = (i: number): number => sorted[i] ?? Number.NaN;
  const half = (sorted.length - 1) / 2;
  const median = (at(Math.floor(half)) + at(Math.ceil(half))) / 2;
  return { median, min: at(0), max: at(sorted.length - 1) };
}

const table = (head: readonly string[], rows: readonly (readonly (string | number)[])[]): string =>
  [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");

const range = ({ median, min, max }: Spread, digits: number): string =>
  `${median.toFixed(digits)} [${min.toFixed(digits)}-${max.toFixed(digits)}]`;

/** Ratio of each round to plain routing of that round. */
function ratios(rounds: Rounds, mode: Mode, measure: Measure): Spread {
  const plain = rounds.routing.figures[measure];
  return spread(rounds[mode].figures[measure].map((value, i) => value / (plain[i] ?? Number.NaN)));
}

function trafficTable(rounds: Rounds, measure: Measure): string {
  const { title, better, digits } = MEASURES[measure];
  const rows = MODES.map((mode) => [
    MODE_TITLES[mode],
    range(spread(rounds[mode].figures[measure]), digits),
    range(ratios(rounds, mode, measure), 3),
  ]);
  return `**${title}** (${better} is better)\n\n${table(["mode", "median [min-max]", "ratio to plain routing"], rows)}`;
}

/** One row of the table of targets: `met` by the figure as it was measured, not as it is printed. */
interface Judged {
  what: string;
  peers?: readonly [cilium: string, iptables: string, nftables: string];
  target: string;
  figure: string;
  met: boolean;
}

const judged = ({ what, peers = ["", "", ""], target, figure, met }: Judged): string[] => [
  what,
  ...peers,
  target,
  figure,
  met ? "yes" : "**missed**",
];

function trafficTargets(rounds: Rounds): string[][] {
  return (Object.keys(MEASURES) as Measure[]).map((measure) => {
    const { title, better } = MEASURES[measure];
    const { target, cilium } = RATIO_TARGETS[measure];
    const [name = ""] = title.split(",");
    const { median } = ratios(rounds, "hookline", measure);
    const limit = `${better === "lower" ? "<=" : ">="} ${target.toFixed(2)}`;
    const met = better === "lower" ? median <= target : median >= target;
    const netfilter = (mode: Mode): string => ratios(rounds, mode, measure).median.toFixed(3);
    return judged({
      what: `${name}, ratio to plain routing`,
      peers: [cilium, netfilter("iptables"), netfilter("nftables")],
      target: limit,
      figure: median.toFixed(3),
      met,
    });
  });
}

interface Limit {
  most: number;
  is: number;
  unit?: string;
}

/** A row whose target is a highest number, in `unit`. */
const limit = (what: string, cilium: string, { most, is, unit = "" }: Limit): string[] =>
  judged({
    what,
    peers: [cilium, "", ""],
    target: `<= ${most}${unit}`,
    figure: `${is.toFixed(0)}${unit}`,
    met: is <= most,
  });

function otherTargets({ packets, ports, sizes }: Results): string[][] {
  const v4 = packets.costs[4];
  const rows = [
    limit("established packet out, IPv4", "293 ns", { most: NS_TARGET.out, is: v4.out.median, unit: " ns" }),
    limit("established packet back, IPv4", "242 ns", {
      most: NS_TARGET.back,
      is: v4.back.median,
      unit: " ns",
    }),
    limit("new flow out, IPv4", "1350-1440 ns", { most: NS_TARGET.fresh, is: v4.fresh.median, unit: " ns" }),
  ];
  const peers: Record<number, string> = { 0.9: "28 %", 0.99: "2 %", 0.999: "0.3 %" };
  for (const [share, percent] of SUCCESS_TARGET) {
    const row = ports.find(({ held, ports: all }) => Math.abs(held / all - share) < 1e-4);
    const reached = row ? (100 * row.found) / row.attempts : Number.NaN;
    rows.push(
      judged({
        what: `new flows that find a port, ${share * 100} % held`,
        peers: [peers[share] ?? "", "", ""],
        target: `>= ${percent} %`,
        figure: `${reached.toFixed(2)} %`,
        met: reached >= percent,
      }),
    );
  }
  const instructions = sizes.programs.reduce((sum, program) => sum + program.instructions, 0);
  rows.push(
    limit("kernel memory of a flow", "384 B", {
      most: BYTES_PER_FLOW_TARGET,
      is: sizes.bytesPerFlow,
      unit: " B",
    }),
  );
  rows.push(
    limit("maps of an idle node", "126 MiB", { most: IDLE_MIB_TARGET, is: idleMiB(sizes), unit: " MiB" }),
  );
  rows.push(limit("instructions of all hooks", "26,823", { most: INSTRUCTIONS_TARGET, is: instructions }));
  if (packets.sweep.records >= 1_000_000) {
    rows.push(
      limit("sweep of 1,000,000 live flows", "", {
        most: SWEEP_MS_TARGET,
        is: packets.sweep.liveMs,
        unit: " ms",
      }),
    );
  }
  return rows;
}

const idleMiB = (sizes: Sizes): number => sizes.maps.reduce((sum, map) => sum + map.bytes, 0) / 2 ** 20;

function costTable({ costs, wrapperNs }: PacketCosts): string {
  const row = (what: string, of: (family: 4 | 6) => Cost): string[] => [
    what,
    range(of(4), 0),
    range(of(6), 0),
  ];
  const rows = [
    row("established out, one busy flow", (family) => costs[family].out),
    row("established back, one busy flow", (family) => costs[family].back),
    row("established out, 4096 flows in turn", (family) => costs[family].outMany),
    row("established back, 4096 flows in turn", (family) => costs[family].backMany),
    row("first packet of a new flow", (family) => costs[family].fresh),
  ];
  return `${table(["TCP, ns per packet, median [min-max]", "IPv4", "IPv6"], rows)}

The packet is put back before each run; that costs ${wrapperNs.toFixed(0)} ns, which is subtracted. With one busy flow most packets meet
what the last one was told in the same tick; with 4096 in turn each asks for its endpoint, its flow and its route. The targets
speak of one flow, as Cilium's figures do; with 4096 in turn Hookline is above them.`;
}

function portTable(ports: readonly PortSearch[]): string {
  const rows = ports.map(({ held, ports: all, attempts, found, ns }) => [
    `${held} (${((100 * held) / all).toFixed(held + 1 === all ? 3 : 1)} %)`,
    attempts,
    `${((100 * found) / attempts).toFixed(2)} %`,
    ns.median.toFixed(0),
    ns.p99.toFixed(0),
    ns.most.toFixed(0),
  ]);
  return table(
    [`held of ${ports[0]?.ports}`, "attempts", "found a port", "median ns", "p99 ns", "most ns"],
    rows,
  );
}

function version(command: string, args: readonly string[]): string {
  const text = execFileSync(command, args, { encoding: "utf8" });
  return text.split("\n")[0]?.trim() ?? "";
}

function tools(): string {
  const commands = [
    ["sockperf", "--version"],
    ["iperf3", "--version"],
    ["iptables", "-V"],
    ["nft", "-v"],
  ] as const;
  return commands.map(([command, option]) => version(command, [option])).join(", ");
}

function machine(processors: number): string {
  const memory = (totalmem() / 2 ** 30).toFixed(0);
  return `${cpus()[0]?.model.trim()}, ${processors} processors, ${memory} GiB, Linux ${release()}, ${process.arch}`;
}

const METHOD = `A pod, its node and the outside are network namespaces, each joined to the next by a veth pair, wired alike in every
mode: what differs is who gives the pod's packets the node's address. The modes take turns, each in a fresh world, and a ratio is
taken within its round. Client and server run on the last processor, before everything else there; Hookline's event reader
(the agent's own, a drain every 5 ms, never woken by the packet path) and its sweep run on the first. Everything is on: both families, the flow table, counters,
events of first packets. Each run fails unless the server saw the address that the mode stands for.

- Round trips and UDP packets are sockperf's (one connection; packets with 64 bytes of payload to a socket that nobody reads, counted there). iperf3
  measures bulk. New connections are made one by one by \`bench/connections.ts\`, by blocking system calls: connect, one byte, an
  answer, close; 8 addresses in turn, so that flows are new. wrk with a web server was considered and would
  measure HTTP as well; netperf is not in Debian's free archive. Time lost to connections that took over 200 ms is left out and they are
  counted below.
- veth and large unsegmented packets hide costs that a network card would show; read the ratios, not the rates.`;

function trafficPart(rounds: Rounds, run: Run): string {
  const odd = MODES.map((mode) => `${MODE_TITLES[mode]} ${rounds[mode].failed} and ${rounds[mode].slow}`);
  return `## Traffic

${run.rounds} rounds of ${run.seconds} s per measure.

${(Object.keys(MEASURES) as Measure[]).map((measure) => trafficTable(rounds, measure)).join("\n\n")}

Failed and slow connections: ${odd.join(", ")}.

`;
}

/** The page. */
export function render(run: Run, results: Results): string {
  const { traffic, packets, ports, sizes } = results;
  const targets = [...(traffic ? trafficTargets(traffic) : []), ...otherTargets(results)];
  const missed = targets.filter((row) => row.at(-1) !== "yes").map((row) => row[0]);
  const verdict = missed.length === 0 ? "All targets are met." : `Missed: ${missed.join("; ")}.`;
  const day = new Date().toISOString().slice(0, 10);
  const largest = sizes.maps.toSorted((a, b) => b.bytes - a.bytes).slice(0, 6);
  return `# Benchmarks

Written by \`npm run bench\`; do not edit. ${day}, ${machine(run.processors)}.${traffic ? ` ${tools()}.` : ""}

## Targets

${table(["what", "Cilium 1.18-dev", "iptables", "nftables", "target", "Hookline", "met"], targets)}

${verdict}

iptables and nftables are of this run. Cilium's figures come from an earlier run of its own programs in a like world, on a virtual
machine of two processors where plain routing had a TCP round trip of 2.69 µs one way and iptables the ratios 1.15, 1.15, 0.87,
0.82 and 0.97. Where round trips are slower than that, all ratios lie closer to 1.

${METHOD}

${traffic ? trafficPart(traffic, run) : ""}## Packets

${costTable(packets)}

A sweep of ${packets.sweep.records} live flows takes ${packets.sweep.liveMs.toFixed(0)} ms.

## Port search

TCP, one destination, ports held by live flows; each success is undone before the next attempt. The times are those of the whole
first packet, each run singly and hence with cold caches.

${portTable(ports)}

## Sizes

${table(
  ["program", "instructions after verification", "walked by the verifier"],
  sizes.programs.map(({ name, instructions, walked }) => [`\`${name}\``, instructions, walked]),
)}

Maps of an idle node with the default sizes: ${idleMiB(sizes).toFixed(1)} MiB, of which
${largest.map(({ name, bytes }) => `\`${name}\` ${(bytes / 2 ** 20).toFixed(1)}`).join(", ")}. A flow with its index entry: ${sizes.bytesPerFlow.toFixed(0)} bytes. The object is
loaded, its maps made, in ${sizes.loadMs.toFixed(0)} ms.
`;
}
