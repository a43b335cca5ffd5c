// SPDX-License-Identifier: Apache-2.0
// From everything that is known to everything that must hold on this node, in one pure function: native devices, routes,
// ipcache, ranges that keep the pod's address, ports that are not ours, pod ranges and MTU.
import { type Address, familyOf } from "../base/addr.ts";
import { Fault } from "../base/fault.ts";
import { formatPrefix, type Prefix, prefixFamily } from "../base/prefix.ts";
import { type IpcacheEntry, planIpcache } from "../engine/identity/plan.ts";
import { type IpamSpec, ipamSpec } from "../engine/ipam/spec.ts";
import {
  type NonmasqEntry,
  planNonmasq,
  planReservedPorts,
  type SourceTable,
} from "../engine/masquerade/plan.ts";
import type { IpMasqAgentSpec, KeptRange } from "../engine/masquerade/spec.ts";
import { type NativeDevice, planDevices } from "../engine/route/devices.ts";
import type { NetworkFacts } from "../engine/route/facts.ts";
import { planRoutes, type RoutePlanEntry } from "../engine/route/plan.ts";
import type { NodeSpec } from "../engine/route/spec.ts";
import { faults } from "./faults.ts";
import type { ListeningPorts } from "./listening-ports.ts";
import type { Config, OptionName } from "./options.ts";
import type { NodeAddresses } from "./own-addresses.ts";

export interface AgentInputs {
  readonly nodeName: string;
  readonly config: Config;
  /** Path of an option's value, for the source lines of ranges. */
  readonly originOf: (name: OptionName) => string;
  readonly nodes: readonly NodeSpec[];
  readonly facts: NetworkFacts;
  readonly ipMasqAgent: IpMasqAgentSpec;
  readonly listening: ListeningPorts;
  /** Whether this kernel tells a route's preferred source (features.ts). */
  readonly routeSource: boolean;
}

export interface AgentPlan {
  readonly devices: readonly NativeDevice[];
  readonly routes: ReadonlyMap<string, RoutePlanEntry>;
  readonly ipcache: ReadonlyMap<string, IpcacheEntry>;
  readonly own: NodeAddresses;
  readonly nonmasq: ReadonlyMap<string, NonmasqEntry>;
  readonly reservedPorts: BigUint64Array;
  readonly podRanges: IpamSpec;
  /** Bytes, for pods added from now on. */
  readonly mtu: number;
  /** This node as it is to be published; undefined while it has no Node object and no address. */
  readonly self: NodeSpec | undefined;
  readonly faults: readonly Fault[];
}

const DEFAULT_MTU = 1500;
const NO_RANGES: IpamSpec = { cidrs: { 4: [], 6: [] } };

/** The Node object's ranges, and for a family that it lacks the option's. */
function podCidrs(config: Config, node: NodeSpec | undefined): Prefix[] {
  const cidrs = [...(node?.podCidrs ?? [])];
  for (const [family, name] of [
    [4, "ipv4-range"],
    [6, "ipv6-range"],
  ] as const) {
    const option = config[name];
    if (option !== undefined && !cidrs.some((cidr) => prefixFamily(cidr) === family)) cidrs.push(option);
  }
  return cidrs;
}

function globalAddresses(facts: NetworkFacts, ifindexes: ReadonlySet<number>): Address[] {
  return facts.links
    .filter((link) => ifindexes.has(link.ifindex))
    .flatMap((link) => link.addresses.filter((a) => a.scope === "global" && !a.secondary))
    .map((a) => a.address);
}

/** Native-routing CIDRs of the options; for a family without one the pod ranges of all nodes. */
function nativeRanges(inputs: AgentInputs, nodes: readonly NodeSpec[]): KeptRange[] {
  const { config, originOf } = inputs;
  const ranges: KeptRange[] = [];
  for (const [family, name] of [
    [4, "ipv4-native-routing-cidr"],
    [6, "ipv6-native-routing-cidr"],
  ] as const) {
    const option = config[name];
    if (option !== undefined) {
      ranges.push({ prefix: option, source: { origin: originOf(name), path: "", line: 0 } });
      continue;
    }
    for (const node of nodes) {
      const source = { origin: `Node ${node.name}`, path: "spec.podCIDRs", line: 0 };
      for (const prefix of node.podCidrs)
        if (prefixFamily(prefix) === family) ranges.push({ prefix, source });
    }
  }
  return ranges;
}

function podRangesOf(
  cidrs: readonly Prefix[],
  families: { ipv4: boolean; ipv6: boolean },
  found: Fault[],
): IpamSpec {
  try {
    return ipamSpec(cidrs.map(formatPrefix), families);
  } catch (thrown) {
    found.push(Fault.from(thrown));
    return NO_RANGES;
  }
}

/** What must hold. Nothing is refused as a whole: what cannot be is in `faults`, the rest is planned. */
export function planAgent(inputs: AgentInputs, sources: SourceTable): AgentPlan {
  const { config, facts, nodeName } = inputs;
  const families = { ipv4: config["enable-ipv4"], ipv6: config["enable-ipv6"] };
  const known = inputs.nodes.find((node) => node.name === nodeName);
  const cidrs = podCidrs(config, known);
  const found: Fault[] = [];
  const devices = planDevices(
    { patterns: config.devices, nodeAddresses: known?.internalAddresses ?? [], ...families },
    facts,
  );
  found.push(...devices.faults);
  if (config["enable-masquerade-to-route-source"] && !inputs.routeSource)
    found.push(faults.NO_ROUTE_SOURCE());
  if (inputs.listening.fault !== undefined) found.push(inputs.listening.fault);
  const indexes = new Set(devices.devices.map((device) => device.ifindex));
  const own = globalAddresses(facts, indexes);
  const internalAddresses = known?.internalAddresses.length
    ? known.internalAddresses
    : own.filter((a, i) => own.findIndex((b) => familyOf(b) === familyOf(a)) === i);
  const self: NodeSpec | undefined =
    internalAddresses.length === 0 && known === undefined
      ? undefined
      : { name: nodeName, internalAddresses, otherAddresses: known?.otherAddresses ?? [], podCidrs: cidrs };
  const others = inputs.nodes.filter((node) => node.name !== nodeName);
  const nodes = self === undefined ? others : [...others, self];
  const routes = planRoutes(
    { nodeName, nodes, ...families, autoDirectNodeRoutes: config["auto-direct-node-routes"] },
    facts,
  );
  found.push(...routes.faults);
  const addresses = new Map(
    facts.links.flatMap((link) =>
      link.addresses
        .filter((a) => a.scope === "global" || a.scope === "site")
        .map((a): [Address, number] => [a.address, link.ifindex]),
    ),
  );
  return {
    devices: devices.devices,
    routes: routes.routes,
    ipcache: planIpcache({ nodeName, hostAddresses: [...addresses.keys()], nodes }),
    own: { addresses, devices: new Set(facts.links.map((link) => link.ifindex)) },
    nonmasq: planNonmasq(
      {
        ...families,
        nativeRanges: nativeRanges(inputs, nodes),
        ipMasqAgent: config["enable-ip-masq-agent"] ? inputs.ipMasqAgent : undefined,
      },
      sources,
    ),
    reservedPorts: planReservedPorts({
      nodePorts: config["node-port-range"],
      tunnelPort: config["tunnel-port"],
      listening: inputs.listening,
    }),
    podRanges: podRangesOf(cidrs, families, found),
    mtu:
      config.mtu ||
      Math.min(...devices.devices.map((d) => d.mtu), devices.devices.length ? 65535 : DEFAULT_MTU),
    self,
    faults: found,
  };
}
