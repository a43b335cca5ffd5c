// SPDX-License-Identifier: Apache-2.0
// What netfilter is asked for in iptables mode, from the options, the plan and the node's network; and which options say
// nothing in a mode. Pure.
import { type Family, familyOf } from "../base/addr.ts";
import type { Fault } from "../base/fault.ts";
import { type Prefix, prefixContains, prefixOf } from "../base/prefix.ts";
import { type Endpoint, endpointAddresses } from "../engine/endpoint/spec.ts";
import type { NetfilterSpec, SourceRoute } from "../engine/masquerade/netfilter-plan.ts";
import { matchesDevice, type NativeDevice, planDevices } from "../engine/route/devices.ts";
import type { NetworkFacts } from "../engine/route/facts.ts";
import { faults } from "./faults.ts";
import type { MasqueradeMode } from "./node-config.ts";
import { type Config, OPTIONS, type Option, type OptionName } from "./options.ts";
import type { AgentPlan } from "./plan.ts";

/** Options that mean something in the other mode only. */
const IDLE: Readonly<Record<MasqueradeMode, readonly OptionName[]>> = {
  bpf: ["egress-masquerade-interfaces", "iptables-random-fully"],
  iptables: ["enable-remote-node-masquerade", "masquerade-port-range"],
};
const WHERE: Readonly<Record<MasqueradeMode, string>> = {
  bpf: "while BPF masquerades (enable-bpf-masquerade: true)",
  iptables: "while iptables masquerades (enable-bpf-masquerade: false)",
};

/** One fault for each option that was set and means nothing in a mode. */
export function idleOptions(config: Config, mode: MasqueradeMode): Fault[] {
  return IDLE[mode]
    .filter((name) => {
      const { type, default: standard } = OPTIONS[name] as Option<unknown>;
      return type.show(config[name]) !== type.show(type.read(standard));
    })
    .map((name) => faults.OPTION_IDLE({ name, where: WHERE[mode] }));
}

/** The devices on which pods' packets are masqueraded: the native ones, or those of egress-masquerade-interfaces. */
function masqueradeDevices(
  config: Config,
  plan: AgentPlan,
  facts: NetworkFacts,
): { devices: readonly NativeDevice[]; found: Fault[] } {
  const patterns = config["egress-masquerade-interfaces"];
  if (patterns.length === 0) return { devices: plan.devices, found: [] };
  const { devices } = planDevices(
    {
      patterns,
      nodeAddresses: plan.self?.internalAddresses ?? [],
      ipv4: config["enable-ipv4"],
      ipv6: config["enable-ipv6"],
    },
    facts,
  );
  const missing = patterns.filter(
    (pattern) => !facts.links.some((link) => matchesDevice(pattern, link.name)),
  );
  return { devices, found: missing.map((pattern) => faults.INTERFACE_NOT_FOUND({ pattern })) };
}

function sourceRoutes(devices: readonly NativeDevice[], facts: NetworkFacts): SourceRoute[] {
  return (facts.sourceRoutes ?? []).flatMap(({ destination, ifindex, source }) => {
    const device = devices.find((d) => d.ifindex === ifindex)?.name;
    return device === undefined ? [] : [{ destination, device, source }];
  });
}

export interface NetfilterInputs {
  readonly config: Config;
  readonly plan: AgentPlan;
  readonly facts: NetworkFacts;
  /** Of this node. */
  readonly pods: readonly Endpoint[];
}

/** The ranges that pods get their addresses from; pods that are older than a range have theirs from another. */
function podRanges({ plan, pods }: NetfilterInputs): Prefix[] {
  const { cidrs } = plan.podRanges;
  const ranges = [...cidrs[4], ...cidrs[6]];
  const outside = pods
    .flatMap(endpointAddresses)
    .filter((address) => !ranges.some((range) => prefixContains(range, address)));
  return [...ranges, ...outside.map((address) => prefixOf(address, familyOf(address) === 4 ? 32 : 128))];
}

/** What netfilter must do, and what of the options cannot be followed. */
export function netfilterSpec(inputs: NetfilterInputs): { spec: NetfilterSpec; found: Fault[] } {
  const { config, plan, facts } = inputs;
  const families = ([4, 6] as const satisfies readonly Family[]).filter((f) => config[`enable-ipv${f}`]);
  const { devices, found } = masqueradeDevices(config, plan, facts);
  const spec: NetfilterSpec = {
    families,
    masqueraded: families.filter((family) => config[`enable-ipv${family}-masquerade`]),
    podRanges: podRanges(inputs),
    kept: [...plan.nonmasq.values()],
    nodes: [...plan.ipcache.values()].filter((entry) => entry.remoteNode).map((entry) => entry.prefix),
    devices,
    sourceRoutes: config["enable-masquerade-to-route-source"] ? sourceRoutes(devices, facts) : [],
    randomFully: config["iptables-random-fully"],
  };
  return { spec, found };
}
