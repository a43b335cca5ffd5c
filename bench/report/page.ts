// SPDX-License-Identifier: Apache-2.0
// docs/benchmarks.md from the figures of one run: the machine, the targets and which of them are missed, the method, and then
// everything that was measured.
import { execFileSync } from "node:child_process";
import { cpus, release, totalmem } from "node:os";
import type { Results, Run } from "./results.ts";
import {
  changeSection,
  largeSection,
  packetSection,
  podSection,
  portSection,
  sizeSection,
  trafficSection,
} from "./sections.ts";
import { table } from "./tables.ts";
import { met, targetCells, targets } from "./targets.ts";

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
  const system = `Linux ${release()}, ${process.arch}, Node.js ${process.version}`;
  return `${cpus()[0]?.model.trim()}, ${processors} processors, ${memory} GiB, ${system}`;
}

const METHOD = `A pod, its node and the outside are network namespaces, each joined to the next by a veth pair, wired alike in every
mode: what differs is who gives the pod's packets the node's address. The modes take turns, each in a fresh world, and a ratio is
taken within its round. Client and server run on the last processor, before everything else there; Hookline's event reader
(the agent's own, a drain every 5 ms, never woken by the packet path) and its sweep run on the first. Everything is on: both families, the flow table, counters,
events of first packets; netfilter has the rules of both families too. Each run fails unless the server saw the address that the
mode stands for.

- Round trips and UDP packets are sockperf's over IPv4 (one connection; packets with 64 bytes of payload to a socket that nobody
  reads, counted there). Debian's sockperf has no IPv6: there \`bench/traffic/exchange.ts\` does the same by blocking system calls from
  Node.js, which adds 0.3 to 0.5 µs to a way in all modes (measured over IPv4 beside sockperf). Compare modes, not families.
- iperf3 measures bulk. New connections are made one by one by exchange.ts: connect, one byte, an answer, close; 8 addresses in turn,
  so that flows are new. wrk with a web server was considered and would measure HTTP as well; netperf is not in Debian's free
  archive. Time lost to connections that took over 200 ms is left out and they are counted below.
- veth and large unsegmented packets hide costs that a network card would show; read the ratios, not the rates.`;

/** The page. */
export function render(run: Run, results: Results): string {
  const { traffic, pods, large, changes, packets, ports, sizes } = results;
  const rows = targets(results);
  const missed = rows.filter((target) => met(target).includes(false)).map(({ what }) => what);
  const verdict = missed.length === 0 ? "All targets are met." : `Missed: ${missed.join("; ")}.`;
  const day = new Date().toISOString().slice(0, 10);
  const sections = [
    ...(traffic === undefined ? [] : [trafficSection(traffic, run)]),
    packetSection(packets),
    portSection(ports),
    ...(pods === undefined ? [] : [podSection(pods)]),
    ...(large === undefined ? [] : [largeSection(large)]),
    ...(changes === undefined ? [] : [changeSection(changes)]),
    sizeSection(sizes),
  ];
  return `# Benchmarks

Written by \`npm run bench\`; do not edit. ${day}, ${machine(run.processors)}.${traffic ? ` ${tools()}.` : ""}

## Targets

${table(["what", "Cilium 1.18-dev", "iptables", "nftables", "target", "Hookline", "met"], rows.map(targetCells))}

${verdict} Two figures are those of IPv4 and of IPv6.

iptables and nftables are of this run. Cilium's figures come from an earlier run of its own programs in a like world over IPv4, on a
virtual machine of two processors where plain routing had a TCP round trip of 2.69 µs one way and iptables the ratios 1.15, 1.15,
0.87, 0.82 and 0.97. Where round trips are slower than that, all ratios lie closer to 1.

${METHOD}

${sections.join("\n\n")}
`;
}
