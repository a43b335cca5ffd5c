// SPDX-License-Identifier: Apache-2.0
// `hookline status`: the agent's report in Cilium's words and order, then what Cilium's should have said: masquerade
// address per device, the set of exclusions and its generation, writes that are pending, everything refused.
import type { Command } from "commander";
import type { StatusReport } from "../agent/status.ts";
import { askAgent } from "./agent.ts";
import { type FormatOption, type GlobalOptions, withExamples, withFormat } from "./command.ts";
import { formatSeconds } from "./duration.ts";
import { EXIT } from "./faults.ts";
import { printValue } from "./output.ts";
import { resolveTarget } from "./target.ts";

const LABEL_WIDTH = 24;

function line(label: string, text: string): string {
  return `${`${label}:`.padEnd(LABEL_WIDTH)}${text}`.trimEnd();
}

/** A list under one label: the first beside it, the others below. */
function lines(label: string, texts: string[]): string[] {
  return texts.map((text, i) => (i === 0 ? line(label, text) : `${" ".repeat(LABEL_WIDTH)}${text}`));
}

const WORDS = { ok: "Ok", warning: "Warning", failure: "Failure", disabled: "Disabled" } as const;

function condition({ state, text }: StatusReport["overall"]): string {
  return `${WORDS[state]}   ${text}`;
}

function masqueradeLines({ masquerading, devices }: StatusReport): string[] {
  const agent = masquerading.ipMasqAgent;
  const exclusions = agent.enabled
    ? `${agent.ranges} ranges from ${agent.origin}, generation ${agent.generation}${agent.refused ? "; a newer document is refused, see Faults" : ""}`
    : "ip-masq-agent off";
  return [
    line("Masquerading", masquerading.line),
    ...lines(
      "  Addresses",
      devices.map((d) => `${d.name}: ${[d.ipv4, d.ipv6, ...d.lacks].filter(Boolean).join(", ") || "none"}`),
    ),
    line("  Exclusions", exclusions),
  ];
}

/** What is not as asked: endpoints without free ports, pending writes, unknown keys, refused documents. Empty if all is well. */
function troubleLines(report: StatusReport): string[] {
  const pending = report.reconcilers.flatMap((r) => [
    ...(r.pending > 0 ? [`${r.map}: ${r.pending} writes pending`] : []),
    ...r.failures.map((f) => `${r.map} ${f.key}: ${f.error}`),
  ]);
  const exhausted = report.exhausted.map(
    (e) =>
      `${e.proto} ${e.source} -> ${e.remote}: ${e.refused} flows refused, the last ${formatSeconds(e.secondsAgo)} ago`,
  );
  return [
    ...lines("Ports exhausted", exhausted),
    ...lines("Pending writes", pending),
    ...lines("Unknown keys", [...report.config.unknownKeys]),
    ...lines("Faults", [...report.faults]),
  ];
}

function flowTableText({ flowTable, flowOwners }: StatusReport): string {
  if (flowTable === null) return "not loaded";
  const { records, size, maximum, growing } = flowTable;
  const more =
    growing !== null ? `growing to ${growing.to}` : size < maximum ? `grows to ${maximum}` : "at its maximum";
  const held = flowOwners
    .filter(({ refused }) => refused > 0)
    .map(({ name, flows, refused }) => `; ${name} was held back: has ${flows}, ${refused} refused`);
  return `${records} of ${size} records, ${more}${held.join("")}`;
}

/** The report for people. */
export function statusText(report: StatusReport): string {
  const { routing, ipam, endpoints, monitor, sweep, config } = report;
  const wired = report.devices.map((d) => `${d.name} (mtu ${d.mtu}${d.attached ? "" : ", not attached"})`);
  const fullest = [...report.maps].sort((a, b) => b.entries / b.maxEntries - a.entries / a.maxEntries)[0];
  const all = [
    line("Hookline", `${condition(report.overall)}   [${report.nodeName}, ${report.version}]`),
    line("Kubernetes", `${condition(report.kubernetes)}   [${report.kubernetes.server}]`),
    line("KubeProxyReplacement", report.kubeProxyReplacement),
    line("Routing", `Network: ${routing.network}   Host: ${routing.host}`),
    line("Attach Mode", report.attachMode),
    line("Device Mode", report.deviceMode),
    ...masqueradeLines(report),
    line("Clock Source for BPF", report.clockSource),
    line("Devices", wired.join(", ") || "none"),
    line(
      "IPAM",
      `IPv4: ${ipam.ipv4.inUse}/${ipam.ipv4.usable}, IPv6: ${ipam.ipv6.inUse}/${ipam.ipv6.usable}   ${ipam.cidrs.join(" ")}`,
    ),
    line("Endpoints", `${endpoints.ready} ready of ${endpoints.total}`),
    line("Nodes", `${report.nodes}, ${routing.routes} routes`),
    line(
      "BPF maps",
      `${report.maps.length}${fullest ? `, fullest ${fullest.name} ${fullest.entries}/${fullest.maxEntries}` : ""}`,
    ),
    line("Flow table", flowTableText(report)),
    line("Monitor", `${monitor.events} events, ${monitor.lost} lost, ${monitor.clients} listening`),
    line("Sweep", `${sweep.runs} runs, ${sweep.removed} records removed, last ${sweep.lastMs.toFixed(1)} ms`),
    line(
      "Configuration",
      `generation ${config.generation}${config.fromState ? " (last known, no API server)" : ""}`,
    ),
    line("Agent", `pid ${report.pid}, up ${formatSeconds(report.uptimeSeconds)}`),
    ...troubleLines(report),
  ];
  return `${all.join("\n")}\n`;
}

export function addStatus(program: Command): void {
  withExamples(
    withFormat(program.command("status").description("say how the agent and its data plane fare")),
    [
      ["hookline status", "this host's agent"],
      ["hookline --node node1 status", "an agent of the lab"],
      ["hookline status -o json | jq .masquerading", "one part, for programs"],
    ],
  ).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption>();
    const report = await askAgent<StatusReport>(resolveTarget(options), "/v1/status");
    await printValue(options.output, report, statusText);
    if (report.overall.state === "failure") process.exitCode = EXIT.error;
  });
}
