// SPDX-License-Identifier: Apache-2.0
// Answers to the questions of the agent's socket, read off the running agent. Changes nothing.
import { Fault } from "../base/fault.ts";
import { formatPrefix } from "../base/prefix.ts";
import type { Endpoint } from "../engine/endpoint/spec.ts";
import { anyPortLeft, formatSourceLine } from "../engine/masquerade/plan.ts";
import { ENDPOINTS_SHOWN, portRefusals } from "../maps/port-use.ts";
import { nowTicks } from "../maps/ticks.ts";
import { formatEnd } from "../observe/decode.ts";
import { protocolName } from "../observe/protocol.ts";
import type { Agent } from "./create.ts";
import { reconcilerRow } from "./data-plane.ts";
import { masqueradingLine } from "./masquerading-line.ts";
import { tableSizes } from "./node-config.ts";
import { OPTION_NAMES, OPTIONS, type Option } from "./options.ts";
import type {
  Condition,
  ConfigReport,
  EndpointReport,
  ExclusionReport,
  ExhaustionReport,
  FlowOwnerReport,
  MasqueradeReport,
  NodeReport,
  StatusReport,
} from "./status.ts";
import { VERSION } from "./version.ts";

/** How long an endpoint without ports is news. */
const EXHAUSTED_SECONDS = 600;

/** All that is refused, missing or not done, each once. */
function faultTexts(agent: Agent): string[] {
  const faults = [
    ...agent.config.faults,
    ...agent.cluster.faults,
    ...(agent.config.config?.["enable-ip-masq-agent"] ? agent.ipMasq.faults : []),
    ...(agent.plan?.faults ?? []),
    ...agent.network.faults,
    ...(agent.dataPlane?.faults ?? []),
    ...agent.masquerade.faults,
    ...(agent.updateFault === undefined ? [] : [agent.updateFault]),
    ...(agent.serviceFault === undefined ? [] : [agent.serviceFault]),
  ].map((fault) => fault.detail);
  const { config } = agent.config;
  const sizes = config === undefined ? [] : (agent.dataPlane?.sizeProblems(tableSizes(config)) ?? []);
  const { pending, lastError } = agent.publisher.status;
  const publishing = lastError === undefined ? [] : [`${pending} objects not published: ${lastError}`];
  const cni = agent.cniProblem === undefined ? [] : [agent.cniProblem];
  return [
    ...new Set([
      ...faults,
      ...agent.sysctlProblems,
      ...portProblems(agent),
      ...sizes,
      ...agent.manifestFaults,
      ...publishing,
      ...cni,
    ]),
  ];
}

function kubernetes(agent: Agent): StatusReport["kubernetes"] {
  const watches = agent.cluster.health();
  const server = agent.client.server;
  const away = watches.filter((watch) => !watch.connected && watch.lastError !== undefined);
  if (away.length === 0) return { state: "ok", text: `${watches.length} watches`, server, watches };
  const why = `${away.map((watch) => watch.name).join(", ")}: ${away[0]?.lastError}`;
  return { state: agent.cluster.synced ? "warning" : "failure", text: why, server, watches };
}

function overall(agent: Agent, faults: readonly string[]): Condition {
  const obstacle = agent.pods.notReady();
  if (obstacle !== undefined) return { state: "failure", text: obstacle };
  if (faults.length > 0)
    return { state: "warning", text: faults.length === 1 ? "1 fault" : `${faults.length} faults` };
  return { state: "ok", text: "pods can be added" };
}

const MODE_WORDS = { bpf: "BPF", iptables: "IPTables" } as const;

function masquerading(agent: Agent): MasqueradeReport {
  // What the options ask for, but cannot be loaded, is not what packets meet.
  const { config, plan } = agent.dataPlane?.inForce ?? {};
  const on = (family: 4 | 6): boolean =>
    (config?.[`enable-ipv${family}`] && config[`enable-ipv${family}-masquerade`]) ?? false;
  const cidr = (family: 4 | 6): string => {
    const prefix = config?.[`ipv${family}-native-routing-cidr`];
    if (prefix !== undefined) return formatPrefix(prefix);
    // As Cilium does, the node's own pod range stands where no native-routing CIDR is given.
    const own = plan?.podRanges.cidrs[family][0];
    return own === undefined ? "" : formatPrefix(own);
  };
  const ipMasqAgent = config?.["enable-ip-masq-agent"] ?? false;
  const nonmasq = [...(plan?.nonmasq.values() ?? [])];
  const { document, generation } = agent.ipMasq;
  const protocols = { ipv4: on(4), ipv6: on(6) };
  return {
    line: masqueradingLine({
      enabled: protocols.ipv4 || protocols.ipv6,
      protocols,
      mode: agent.masquerade.mode,
      ipMasqAgent,
      devices: plan?.devices.map((device) => device.name) ?? [],
      exclusions: [cidr(4), cidr(6)],
    }),
    ...protocols,
    mode: protocols.ipv4 || protocols.ipv6 ? MODE_WORDS[agent.masquerade.mode] : "Disabled",
    ipMasqAgent: {
      enabled: ipMasqAgent,
      origin: ipMasqAgent ? (document?.origin ?? "defaults") : "",
      ranges: nonmasq.filter((entry) => entry.rule === 7).length,
      generation,
      refused: ipMasqAgent && agent.ipMasq.refused,
    },
    nativeRoutingCidrs: nonmasq.filter((e) => e.rule === 5).map((e) => formatPrefix(e.prefix)),
  };
}

function flowOwners(agent: Agent): FlowOwnerReport[] {
  const table = agent.dataPlane?.flowTable;
  if (table === undefined) return [];
  const pods = agent.pods.engine
    .list()
    .map(({ id, podNamespace, podName }) => ({ id, name: `${podNamespace}/${podName}` }));
  return [{ id: 0, name: "the node" }, ...pods].map((owner) => ({ ...owner, ...table.owner(owner.id) }));
}

/** Answer of GET /v1/status. */
export function statusReport(agent: Agent): StatusReport {
  const faults = faultTexts(agent);
  const { dataPlane, plan, config } = agent;
  const ipam = agent.pods.ipamStatus();
  const sweep = dataPlane?.flowTable.sweepState;
  const broken = agent.pods.engine
    .list()
    .filter((endpoint) => agent.pods.engine.problems(endpoint).length > 0);
  const total = agent.pods.engine.size;
  return {
    version: VERSION,
    nodeName: agent.options.nodeName,
    pid: process.pid,
    uptimeSeconds: Math.round((performance.now() - agent.startedAt) / 1000),
    overall: overall(agent, faults),
    kubernetes: kubernetes(agent),
    routing: {
      network: "Native",
      host:
        config.config?.["enable-host-legacy-routing"] || agent.masquerade.mode === "iptables"
          ? "Legacy"
          : "BPF",
      routes: plan?.routes.size ?? 0,
    },
    attachMode: dataPlane?.attachMode === "tc" ? "Legacy TC" : "TCX",
    deviceMode: "veth",
    kubeProxyReplacement: "False",
    masquerading: masquerading(agent),
    devices: (plan?.devices ?? []).map((device) => ({
      name: device.name,
      ifindex: device.ifindex,
      mtu: device.mtu,
      ipv4: device.addr4 === "::" ? "" : device.addr4,
      ipv6: device.addr6 === "::" ? "" : device.addr6,
      lacks: Object.values(device.lacks),
      attached: dataPlane?.isAttached(device.ifindex) ?? false,
    })),
    ipam: {
      cidrs: ipam.cidrs,
      ipv4: { inUse: ipam.ipv4.inUse, usable: String(ipam.ipv4.usable) },
      ipv6: { inUse: ipam.ipv6.inUse, usable: String(ipam.ipv6.usable) },
    },
    endpoints: { total, ready: total - broken.length },
    nodes: agent.nodes().length,
    reconcilers: [...(dataPlane?.reconcilers() ?? []), ...agent.masquerade.status().map(reconcilerRow)],
    maps: dataPlane?.fills() ?? [],
    monitor: { clients: agent.flows.clients, ...agent.flows.counts },
    flowTable: dataPlane?.flowTable.report() ?? null,
    flowOwners: flowOwners(agent),
    sweep: {
      runs: sweep?.runs ?? 0,
      lastMs: sweep?.lastMs ?? 0,
      intervalMs: sweep?.intervalMs ?? 0,
      removed: sweep?.removed ?? 0,
    },
    exhausted: exhausted(agent),
    clockSource: "ktime",
    config: {
      generation: config.generation,
      unknownKeys: config.unknownKeys,
      fromState: config.fromState,
    },
    faults,
  };
}

function exhausted(agent: Agent): ExhaustionReport[] {
  if (agent.dataPlane === undefined) return [];
  using crowded = agent.dataPlane.table("crowded");
  return portRefusals(crowded.entries(), nowTicks(), ENDPOINTS_SHOWN)
    .filter(({ secondsAgo }) => secondsAgo < EXHAUSTED_SECONDS)
    .map(({ proto, source, remote, port, refused, secondsAgo }) => ({
      proto: protocolName(proto),
      source,
      remote: formatEnd(remote, port),
      refused,
      secondsAgo: Math.round(secondsAgo),
    }));
}

/** All ports reserved: nothing can be masqueraded. */
function portProblems(agent: Agent): string[] {
  const range = agent.config.config?.["masquerade-port-range"];
  const { plan } = agent;
  if (range === undefined || plan === undefined) return [];
  return (["TCP", "UDP"] as const)
    .filter((proto) => !anyPortLeft(plan.reservedPorts, proto, range))
    .map(
      (proto) =>
        `masquerade-port-range ${range.first},${range.last}: every port is reserved for ${proto} (NodePorts, the tunnel, listeners), so no ${proto} flow can be masqueraded`,
    );
}

function endpointReport(agent: Agent, endpoint: Endpoint): EndpointReport {
  const pod = agent.cluster.pod(endpoint.podNamespace, endpoint.podName);
  return {
    id: endpoint.id,
    state: agent.pods.engine.problems(endpoint).length === 0 ? "ready" : "gone",
    namespace: endpoint.podNamespace,
    pod: endpoint.podName,
    containerId: endpoint.containerId,
    ifName: endpoint.ifName,
    device: endpoint.device,
    ifindex: endpoint.ifindex,
    mac: endpoint.mac,
    hostMac: endpoint.hostMac,
    netns: endpoint.netns,
    mtu: endpoint.mtu,
    ipv4: endpoint.ipv4 ?? "",
    ipv6: endpoint.ipv6 ?? "",
    identity: endpoint.identity,
    labels: pod?.labels ?? {},
    createdAt: endpoint.createdAt,
  };
}

export function endpointReports(agent: Agent): EndpointReport[] {
  return agent.pods.engine
    .list()
    .map((endpoint) => endpointReport(agent, endpoint))
    .sort((a, b) => a.id - b.id);
}

/** Undefined if there is no such endpoint. */
export function endpointById(agent: Agent, id: number): EndpointReport | undefined {
  const endpoint = agent.pods.engine.byId(id);
  return endpoint === undefined ? undefined : endpointReport(agent, endpoint);
}

function routeText(agent: Agent, cidrs: readonly string[]): string {
  const ways = cidrs.map((cidr) => {
    const route = agent.plan?.routes.get(cidr);
    if (route === undefined) return `${cidr}: no route`;
    return "unreachable" in route
      ? "local"
      : `via ${route.gateway} dev ${agent.network.deviceName(route.ifindex)}`;
  });
  return [...new Set(ways)].join(", ");
}

export function nodeReports(agent: Agent): NodeReport[] {
  return agent
    .nodes()
    .map((node) => {
      const podCidrs = node.podCidrs.map(formatPrefix);
      return {
        name: node.name,
        local: node.name === agent.options.nodeName,
        addresses: [...node.internalAddresses, ...node.otherAddresses],
        podCidrs,
        route: routeText(agent, podCidrs),
      };
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** What is planned for nonmasq_cidrs, with the lines that ask for it. */
export function exclusionReports(agent: Agent): ExclusionReport[] {
  return [...(agent.plan?.nonmasq.values() ?? [])].map(({ prefix, rule, source }) => {
    const line = agent.sources.line(source);
    return { prefix: formatPrefix(prefix), rule, source: line === undefined ? "" : formatSourceLine(line) };
  });
}

export function configReport(agent: Agent): ConfigReport {
  const { config } = agent.config;
  return {
    generation: agent.config.generation,
    options: OPTION_NAMES.map((name) => {
      const option = OPTIONS[name] as Option<unknown>;
      return {
        name,
        value: config === undefined ? option.default : option.type.show(config[name]),
        default: option.default,
        origin: agent.config.originOf(name),
        when: option.when,
        text: option.text,
      };
    }),
    faults: agent.config.faults.map((fault) => Fault.from(fault).detail),
    unknownKeys: agent.config.unknownKeys,
  };
}
