// SPDX-License-Identifier: Apache-2.0
// Masquerading by netfilter: which sets and rules must stand for a spec. Pure. The rules carry the numbers of the ones
// that the BPF programs walk (docs/user/masquerade.md), in the same order and with the same addresses, so that a packet
// leaves alike in both modes.
import { type Address, type Family, familyOf, NO_ADDRESS } from "../../base/addr.ts";
import { formatPrefix, type Prefix, prefixFamily } from "../../base/prefix.ts";
import { KeptBy, type NonmasqEntry } from "./plan.ts";

/** A device on which pods' packets are masqueraded, and to what. NO_ADDRESS: not in that family. */
export interface MasqueradeDevice {
  readonly name: string;
  readonly addr4: Address;
  readonly addr6: Address;
}

/** A route that names the source address of what takes it. */
export interface SourceRoute {
  readonly destination: Prefix;
  readonly device: string;
  readonly source: Address;
}

export interface NetfilterSpec {
  /** Families in which pods have addresses: their packets must pass the node's stack. */
  readonly families: readonly Family[];
  /** Of those, the ones that are masqueraded. */
  readonly masqueraded: readonly Family[];
  /** Where this node's pods take their addresses from. */
  readonly podRanges: readonly Prefix[];
  /** Destinations that keep the pod's address: rules 5 and 7. */
  readonly kept: readonly Pick<NonmasqEntry, "prefix" | "rule">[];
  /** Addresses of the cluster's other nodes: rule 8. */
  readonly nodes: readonly Prefix[];
  readonly devices: readonly MasqueradeDevice[];
  /** With enable-masquerade-to-route-source; else none. */
  readonly sourceRoutes: readonly SourceRoute[];
  /** Choose ports at random also where the pod's own is free. */
  readonly randomFully: boolean;
}

/** One set of the kind hash:net. */
export interface SetPlan {
  readonly name: string;
  readonly family: Family;
  readonly entries: readonly string[];
}

/** One chain of ours, and the rule that leads to it from a chain of the kernel's. */
export interface ChainPlan {
  readonly table: "nat" | "filter";
  readonly name: string;
  readonly parent: "POSTROUTING" | "FORWARD";
  /** First or last among the rules of `parent`. */
  readonly place: "first" | "last";
  /** Matches of the leading rule. */
  readonly when: string;
  /** Rules as iptables prints them, without `-A name`. */
  readonly rules: readonly string[];
}

export interface NetfilterPlan {
  readonly sets: readonly SetPlan[];
  /** Chains that must stand, by family; a chain of CHAINS that is not among them must not. */
  readonly chains: Readonly<Record<Family, readonly ChainPlan[]>>;
}

export const FAMILIES: readonly Family[] = [4, 6];

/** Every chain that a plan can have, and where it hangs. */
export const CHAINS = [
  { table: "nat", name: "HOOKLINE_POST_nat", parent: "POSTROUTING", place: "first" },
  { table: "filter", name: "HOOKLINE_FORWARD", parent: "FORWARD", place: "last" },
] as const satisfies readonly Omit<ChainPlan, "when" | "rules">[];

const SET_KINDS = ["pods", "native", "nonmasq", "nodes"] as const;
type SetKind = (typeof SET_KINDS)[number];

const setName = (kind: SetKind, family: Family): string => `hookline-${kind}-${family}`;

/** Every set that a plan can have. */
export const SET_NAMES: readonly string[] = FAMILIES.flatMap((family) =>
  SET_KINDS.map((kind) => setName(kind, family)),
);

/** Rule 1: never routed as the world's. */
const NEVER: Readonly<Record<Family, readonly string[]>> = {
  4: ["169.254.0.0/16", "224.0.0.0/4"],
  6: ["fe80::/10", "ff00::/8"],
};

/** hash:net takes no prefix of length 0: its two halves stand for it. */
function halves(prefix: Prefix): string[] {
  if (prefix.length > 0) return [formatPrefix(prefix)];
  return prefixFamily(prefix) === 4 ? ["0.0.0.0/1", "128.0.0.0/1"] : ["::/1", "8000::/1"];
}

function setPlan(kind: SetKind, family: Family, prefixes: readonly Prefix[]): SetPlan {
  const entries = prefixes.filter((prefix) => prefixFamily(prefix) === family).flatMap(halves);
  return { name: setName(kind, family), family, entries: [...new Set(entries)].sort() };
}

function planSets(spec: NetfilterSpec, family: Family): SetPlan[] {
  const keptBy = (rule: number): Prefix[] => spec.kept.filter((e) => e.rule === rule).map((e) => e.prefix);
  const pods = setPlan("pods", family, spec.podRanges);
  if (!spec.masqueraded.includes(family)) return [pods];
  return [
    pods,
    setPlan("native", family, keptBy(KeptBy.NATIVE_CIDR)),
    setPlan("nonmasq", family, keptBy(KeptBy.NONMASQ_CIDR)),
    setPlan("nodes", family, spec.nodes),
  ];
}

/**
 * MARK_NETFILTER of bpf/lib/pkt.h. Rules stand before the programs leave packets to them, and after: by the mark they touch
 * none of a flow that the programs still translate.
 */
const HANDED_OVER = "-m mark --mark 0x400000/0x400000";

const comment = (text: string): string => `-m comment --comment "${text}"`;
const inSet = (kind: SetKind, family: Family, side: "src" | "dst"): string =>
  `-m set --match-set ${setName(kind, family)} ${side}`;

/** `-d` of a route; of a default route nothing. */
const towards = (destination: Prefix): string =>
  destination.length === 0 ? "" : `-d ${formatPrefix(destination)} `;

/** Rule 9: the more specific route first, then the device's own address. */
function masqueradeRules(spec: NetfilterSpec, family: Family): string[] {
  const random = spec.randomFully ? " --random-fully" : "";
  const to = (address: Address): string => `-j SNAT --to-source ${address}${random}`;
  const devices = spec.devices.map((d) => ({ name: d.name, address: family === 4 ? d.addr4 : d.addr6 }));
  const routes = spec.sourceRoutes
    .filter((r) => familyOf(r.source) === family && devices.some((d) => d.name === r.device))
    .sort((a, b) => b.destination.length - a.destination.length);
  return [
    ...routes.map(
      (r) =>
        `${towards(r.destination)}-o ${r.device} ${comment("rule 9: pod traffic, the route's source")} ${to(r.source)}`,
    ),
    ...devices
      .filter((d) => d.address !== NO_ADDRESS)
      .map((d) => `-o ${d.name} ${comment("rule 9: pod traffic")} ${to(d.address)}`),
  ];
}

function natRules(spec: NetfilterSpec, family: Family): string[] {
  const kept = (kind: SetKind, text: string): string =>
    `${inSet(kind, family, "dst")} ${comment(text)} -j RETURN`;
  return [
    ...NEVER[family].map((range) => `-d ${range} ${comment("rule 1: link-local, multicast")} -j RETURN`),
    kept("native", "rule 5: native-routing CIDR"),
    kept("nonmasq", "rule 7: nonMasqueradeCIDRs"),
    kept("nodes", "rule 8: node of the cluster"),
    ...masqueradeRules(spec, family),
  ];
}

/** What FORWARD's policy may forbid, container runtimes set it to DROP, must pass for pods; rules before ours decide first. */
function forwardRules(family: Family): string[] {
  return (["src", "dst"] as const).map(
    (side) => `${inSet("pods", family, side)} ${comment("pods of this node")} -j ACCEPT`,
  );
}

function planChains(spec: NetfilterSpec, family: Family): ChainPlan[] {
  const [nat, forward] = CHAINS;
  const fromPods = `${inSet("pods", family, "src")} ${HANDED_OVER} ${comment("hookline: pods of this node")}`;
  return [
    ...(spec.masqueraded.includes(family) ? [{ ...nat, when: fromPods, rules: natRules(spec, family) }] : []),
    { ...forward, when: comment("hookline: pods of this node"), rules: forwardRules(family) },
  ];
}

/** Sets and chains for a spec. */
export function planNetfilter(spec: NetfilterSpec): NetfilterPlan {
  const of = (family: Family): ChainPlan[] =>
    spec.families.includes(family) ? planChains(spec, family) : [];
  return {
    sets: spec.families.flatMap((family) => planSets(spec, family)),
    chains: { 4: of(4), 6: of(6) },
  };
}
