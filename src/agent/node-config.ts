// SPDX-License-Identifier: Apache-2.0
// The data plane's configuration struct and table sizes from the options. Pure. Every field has one option that owns it
// (checked by the test beside this file), so that nothing is loaded which nobody can set.
import type { PairSize } from "../loader/flow-tables.ts";
import type { NodeConfig } from "../maps/gen/config.ts";
import type { Config } from "./options.ts";

/** Time in maps is counted in ticks of 2^24 ns. */
export const TICK_NS = 2 ** 24;

/** Ticks of a time in seconds, rounded up. */
export function ticks(seconds: number): number {
  return Math.ceil((seconds * 1e9) / TICK_NS);
}

const EVENTS = { none: 2, lowest: 2, low: 2, medium: 2, maximum: 1 } as const;

/** How pods' packets are masqueraded: by the BPF programs or by netfilter, in either case only the families that are on. */
export type MasqueradeMode = "bpf" | "iptables";

/** `mode` is the one in force, which may lag behind the option. */
export function nodeConfig(config: Config, mode: MasqueradeMode = "bpf"): NodeConfig {
  const flag = (value: boolean): number => (value ? 1 : 0);
  const ports = config["masquerade-port-range"];
  const inBpf = mode === "bpf";
  return {
    enableIpv4: flag(config["enable-ipv4"]),
    enableIpv6: flag(config["enable-ipv6"]),
    masqueradeIpv4: flag(inBpf && config["enable-ipv4"] && config["enable-ipv4-masquerade"]),
    masqueradeIpv6: flag(inBpf && config["enable-ipv6"] && config["enable-ipv6-masquerade"]),
    masqueradeRemoteNodes: flag(config["enable-remote-node-masquerade"]),
    masqueradeToRouteSource: flag(config["enable-masquerade-to-route-source"]),
    hostRouting: flag(inBpf && !config["enable-host-legacy-routing"]),
    netfilter: flag(!inBpf),
    tunnel: flag(config["routing-mode"] === "tunnel"),
    trackFragmentsIpv4: flag(config["enable-ipv4-fragment-tracking"]),
    trackFragmentsIpv6: flag(config["enable-ipv6-fragment-tracking"]),
    events: EVENTS[config["monitor-aggregation"]],
    portMin: ports.first,
    portMax: ports.last,
    tunnelPort: config["tunnel-port"],
    timeoutTcpSyn: ticks(config["bpf-ct-timeout-regular-tcp-syn"]),
    timeoutTcp: ticks(config["bpf-ct-timeout-regular-tcp"]),
    timeoutTcpFin: ticks(config["bpf-ct-timeout-regular-tcp-fin"]),
    timeoutAny: ticks(config["bpf-ct-timeout-regular-any"]),
  };
}

/** Entries of the maps whose sizes are options; of the flow table and its index the most that they may grow to. */
export interface TableSizes extends PairSize {
  readonly frag_datagrams: number;
}

/**
 * Records of the flow table and of its reply index, and datagrams in fragments. Cilium's three sizes are of three maps; here
 * one table holds all protocols, and a record holds tracking and translation, so the sizes add up.
 */
export function tableSizes(config: Config): TableSizes {
  const flows = config["bpf-ct-global-tcp-max"] + config["bpf-ct-global-any-max"];
  const replies = Math.min(config["bpf-nat-global-max"] || flows, flows);
  return { flows, replies, frag_datagrams: config["bpf-fragments-map-max"] };
}
