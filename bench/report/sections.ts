// SPDX-License-Identifier: Apache-2.0
// The page's parts below the targets: what was measured, in tables, with what a reader must know to read them.
import type { ChangeCosts } from "../agent/changes.ts";
import type { LargeCosts } from "../agent/large.ts";
import type { Calls, PodCosts } from "../agent/pods.ts";
import type { Cost, PacketCosts } from "../datapath/packets.ts";
import type { PortSearch } from "../datapath/ports.ts";
import type { Sizes } from "../datapath/sizes.ts";
import { spread } from "../statistics.ts";
import { BULK, FAMILIES, type Family, MEASURES, type Measure } from "../traffic/load.ts";
import type { Rounds } from "../traffic/run.ts";
import { MODE_TITLES, MODES } from "../traffic/world.ts";
import { idleMiB, instructions, type Run, ratios } from "./results.ts";
import { megabytes, percent, range, table } from "./tables.ts";

function familyTable(rounds: Rounds, family: Family): string {
  const measures = Object.keys(MEASURES) as Measure[];
  const head = measures.map(
    (measure) => `${MEASURES[measure].title} (${MEASURES[measure].better} is better)`,
  );
  const rows = MODES.map((mode) => [
    MODE_TITLES[mode],
    ...measures.map((measure) => {
      const { median } = spread(rounds[family][mode].figures[measure]);
      const ratio = mode === "routing" ? "" : `: ${range(ratios(rounds, { family, mode, measure }), 2)}`;
      return `${median.toFixed(MEASURES[measure].digits)}${ratio}`;
    }),
  ]);
  const odd = MODES.map(
    (mode) => `${MODE_TITLES[mode]} ${rounds[family][mode].failed} and ${rounds[family][mode].slow}`,
  );
  return `### IPv${family}

${table(["mode", ...head], rows)}

Failed and slow connections: ${odd.join(", ")}.`;
}

export function trafficSection(rounds: Rounds, run: Run): string {
  return `## Traffic

${run.rounds} rounds of ${run.seconds} s per measure and family, ${BULK.times * run.seconds} s for bulk. Each cell: the median, and after the colon the ratio to plain routing,
median [least-most] of the rounds.

${FAMILIES.map((family) => familyTable(rounds, family)).join("\n\n")}`;
}

export function packetSection({ costs, wrapperNs, sweep }: PacketCosts): string {
  const cells = (what: string, of: (family: Family) => Cost): string[] => [
    what,
    ...FAMILIES.map((family) => range(of(family), 0)),
  ];
  const rows = [
    cells("established out, one busy flow", (family) => costs[family].out),
    cells("established back, one busy flow", (family) => costs[family].back),
    cells("established out, 4096 flows in turn", (family) => costs[family].outMany),
    cells("established back, 4096 flows in turn", (family) => costs[family].backMany),
    cells("first packet of a new flow", (family) => costs[family].fresh),
    cells("the same, each to another port", (family) => costs[family].apart),
  ];
  return `## Packets

${table(["TCP, ns per packet, median [min-max]", "IPv4", "IPv6"], rows)}

The packet is put back before each run; that costs ${wrapperNs.toFixed(0)} ns, which is subtracted. With one busy flow most packets meet
what the last one was told in the same tick; with 4096 in turn each asks for its endpoint, its flow and its route. The targets
speak of one flow, as Cilium's figures do; with 4096 in turn Hookline is above them. First packets to one port of a destination are
told rule and route that the first of them found out in the tick; to another port each finds them out itself, as each does on a
node with several native devices.

A sweep of ${sweep.records} live flows takes ${sweep.liveMs.toFixed(0)} ms.`;
}

export function portSection(ports: readonly PortSearch[]): string {
  const rows = ports.map(({ held, ports: all, attempts, found, ns }) => [
    `${held} (${percent(held, all).toFixed(held + 1 === all ? 3 : 1)} %)`,
    attempts,
    `${percent(found, attempts).toFixed(2)} %`,
    ns.median.toFixed(0),
    ns.p99.toFixed(0),
    ns.most.toFixed(0),
  ]);
  return `## Port search

TCP, one destination, ports held by live flows; each success is undone before the next attempt. The times are those of the whole
first packet, each run singly and hence with cold caches.

${table([`held of ${ports[0]?.ports}`, "attempts", "found a port", "median ns", "p99 ns", "most ns"], rows)}`;
}

export function podSection(pods: PodCosts): string {
  const calls = (what: string, { p50, p99 }: Calls): string[] => [what, p50.toFixed(1), p99.toFixed(1)];
  const starts = [
    ["nothing to take over", range(pods.coldStart, 0)],
    [`${pods.pods} pods to take over`, range(pods.warmStart, 0)],
  ];
  const memory = pods.memory.map(({ when, cluster, embedded }) => [
    when,
    megabytes(cluster.resident),
    megabytes(cluster.anonymous),
    megabytes(embedded.resident),
  ]);
  return `## Agent

The built bundle, as users install it, in a namespace; ${pods.pods} pods in namespaces of their own, one after the other, both families, their
Pod objects in the API. Start is counted from the process to the first moment at which pods can be added.

${table(["start of the agent", "ms, median [min-max]"], starts)}

${table(
  ["CNI call, ms", "p50", "p99"],
  [
    calls("ADD, the plugin's process included", pods.addByPlugin),
    calls("ADD, the agent's part", pods.addByAgent),
    calls("DEL, the plugin's process included", pods.delByPlugin),
    calls("DEL, the agent's part", pods.delByAgent),
  ],
)}

Most of a DEL is the kernel's: a veth pair is gone when nobody uses it any more. The agent does other things meanwhile.

${table(
  ["memory of the agent, MB", "resident", "of it heaps and stacks", "resident, API server embedded"],
  memory,
)}

What is resident besides heaps and stacks is nearly all the file of Node.js itself, which its processes share.`;
}

export function largeSection(large: LargeCosts): string {
  const rows = [
    [
      `ip-masq-agent's file of ${large.ranges} ranges replaced, until all are in force`,
      range(large.applied, 0),
    ],
    [`\`hookline status\` with ${large.flows} flows`, range(large.status, 0)],
    [`\`hookline bpf nat list\`, ${large.natList.lines} lines`, large.natList.ms.toFixed(0)],
  ];
  const { perSecond, lost } = large.opened;
  return `## Large tables

${table(["what", "ms, median [min-max]"], rows)}

A pod opened ${large.flows} flows, ${perSecond.toFixed(0)} in a second; ${lost} of them were lost.${growthPart(large)}`;
}

function growthPart({ growths }: LargeCosts): string {
  if (growths.length === 0) return "";
  const rows = growths.map(({ from, to, ms }) => [from, to, ms.toFixed(0)]);
  return ` The flow table grew meanwhile, each time
from the making of the larger one to the last record moved:

${table(["records before", "after", "ms"], rows)}`;
}

export function changeSection({ samples, changes }: ChangeCosts): string {
  const rows = changes.map(({ what, times }) => [what, range(times, 0)]);
  return `## Changes at run time

From before the change to the first moment at which new flows of a pod, in both families, are seen as they must be; ${samples} times each.
The ip-masq-agent's file has to be still for 100 ms before it is believed.

${table(["what", "ms, median [min-max]"], rows)}`;
}

export function sizeSection(sizes: Sizes): string {
  const largest = sizes.maps.toSorted((a, b) => b.bytes - a.bytes).slice(0, 6);
  const { hooks, aside } = instructions(sizes);
  const rows = sizes.programs.map((program) => [`\`${program.name}\``, program.instructions, program.walked]);
  return `## Sizes

${table(["program", "instructions after verification", "walked by the verifier"], rows)}

The hooks and the program behind them have ${hooks} instructions together, what user space runs ${aside}. Maps of an idle node with the default sizes: ${idleMiB(sizes).toFixed(1)} MiB, of which
${largest.map(({ name, bytes }) => `\`${name}\` ${(bytes / 2 ** 20).toFixed(1)}`).join(", ")}. A flow with its index entry: ${sizes.bytesPerFlow.toFixed(0)} bytes. The object is
loaded, its maps made, in ${sizes.loadMs.toFixed(0)} ms.`;
}
