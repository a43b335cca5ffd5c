// SPDX-License-Identifier: Apache-2.0
// What the agent says of itself over its socket, as plain JSON: the report behind `hookline status` and the lists behind
// `endpoint`, `node` and `config`. Texts that users know from Cilium are made here, so that all readers agree.
import type { WatchHealth } from "../source/watch.ts";

/** One part of the agent: `ok` works, `warning` works with something refused or missing, `failure` does not work. */
export interface Condition {
  readonly state: "ok" | "warning" | "failure" | "disabled";
  readonly text: string;
}

/** One map that the agent writes, as its reconciler sees it. */
export interface ReconcilerStatus {
  readonly map: string;
  readonly desired: number;
  readonly realised: number;
  /** Writes that have not succeeded yet. */
  readonly pending: number;
  /** Writes that have ever failed, retries included. */
  readonly errors: number;
  readonly generation: number;
  readonly failures: readonly { readonly key: string; readonly error: string }[];
}

/** How full a map is. */
export interface MapFill {
  readonly name: string;
  readonly type: string;
  readonly entries: number;
  readonly maxEntries: number;
}

/** Who has flows: a pod, or under id 0 the node. */
export interface FlowOwnerReport {
  readonly id: number;
  /** `namespace/name`, or `the node`. */
  readonly name: string;
  readonly flows: number;
  /** New flows that were refused because it holds more than its share of a table that is filling up. */
  readonly refused: number;
}

/** The flow table's size and how it got there. */
export interface FlowTableReport {
  /** Records now, dead ones that no sweep has seen included. */
  readonly records: number;
  /** Records that the table in use has room for. */
  readonly size: number;
  /** What it may grow to. */
  readonly maximum: number;
  /** The growth under way: room before and after it. */
  readonly growing: { readonly from: number; readonly to: number } | null;
  readonly growths: number;
  readonly lastGrowthMs: number;
}

export interface DeviceReport {
  readonly name: string;
  readonly ifindex: number;
  readonly mtu: number;
  /** Masquerade addresses, "" if there is none. */
  readonly ipv4: string;
  readonly ipv6: string;
  /** Why there is no masquerade address, of the families that are on and lack one. */
  readonly lacks: readonly string[];
  readonly attached: boolean;
}

export interface IpamReport {
  readonly cidrs: readonly string[];
  /** Addresses in use, and how many pods can have; counts over 2^53 are text. */
  readonly ipv4: { readonly inUse: number; readonly usable: string };
  readonly ipv6: { readonly inUse: number; readonly usable: string };
}

export interface MasqueradeReport {
  /** The line that Cilium prints after `Masquerading:`. */
  readonly line: string;
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  /** The mode in force. */
  readonly mode: "BPF" | "IPTables" | "Disabled";
  readonly ipMasqAgent: {
    readonly enabled: boolean;
    /** The document in force: a ConfigMap, a file, or the defaults. */
    readonly origin: string;
    readonly ranges: number;
    /** Grows with every change of what is in force. */
    readonly generation: number;
    /** A newer document is there and cannot be used; `faults` say why. */
    readonly refused: boolean;
  };
  readonly nativeRoutingCidrs: readonly string[];
}

/** A remote endpoint towards which flows found no port. */
export interface ExhaustionReport {
  readonly proto: string;
  /** The node's address that it sees. */
  readonly source: string;
  readonly remote: string;
  readonly refused: number;
  readonly secondsAgo: number;
}

/** Answer of GET /v1/status. */
export interface StatusReport {
  readonly version: string;
  readonly nodeName: string;
  readonly pid: number;
  readonly uptimeSeconds: number;
  /** The whole in one word and sentence; `failure` makes `hookline status` end with 1. */
  readonly overall: Condition;
  readonly kubernetes: Condition & { readonly server: string; readonly watches: readonly WatchHealth[] };
  /** Cilium's words: `Native`, `BPF` or `Legacy`. */
  readonly routing: { readonly network: string; readonly host: string; readonly routes: number };
  readonly attachMode: string;
  readonly deviceMode: string;
  readonly kubeProxyReplacement: string;
  readonly masquerading: MasqueradeReport;
  readonly devices: readonly DeviceReport[];
  readonly ipam: IpamReport;
  readonly endpoints: { readonly total: number; readonly ready: number };
  readonly nodes: number;
  readonly reconcilers: readonly ReconcilerStatus[];
  readonly maps: readonly MapFill[];
  readonly monitor: { readonly clients: number; readonly events: number; readonly lost: number };
  /** null before the data plane is loaded. */
  readonly flowTable: FlowTableReport | null;
  readonly flowOwners: readonly FlowOwnerReport[];
  readonly sweep: {
    readonly runs: number;
    readonly lastMs: number;
    readonly intervalMs: number;
    readonly removed: number;
  };
  /** Remote endpoints that were out of ports in the last ten minutes, the most refused first. */
  readonly exhausted: readonly ExhaustionReport[];
  readonly clockSource: string;
  readonly config: {
    readonly generation: number;
    readonly unknownKeys: readonly string[];
    readonly fromState: boolean;
  };
  /** Everything refused, missing or not done, each with the path of the document or object. */
  readonly faults: readonly string[];
}

/** One row of GET /v1/endpoints. */
export interface EndpointReport {
  readonly id: number;
  readonly state: "ready" | "wiring" | "gone";
  readonly namespace: string;
  readonly pod: string;
  readonly containerId: string;
  readonly ifName: string;
  readonly device: string;
  readonly ifindex: number;
  readonly mac: string;
  readonly hostMac: string;
  readonly netns: string;
  readonly mtu: number;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly identity: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly createdAt: string;
}

/** One row of GET /v1/nodes. */
export interface NodeReport {
  readonly name: string;
  /** This agent's own node. */
  readonly local: boolean;
  readonly addresses: readonly string[];
  readonly podCidrs: readonly string[];
  /** How pods of it are reached: `via 172.20.0.12 dev eth0`, `local`, or why not. */
  readonly route: string;
}

/** One row of GET /v1/exclusions: destinations that pods reach under their own address. */
export interface ExclusionReport {
  readonly prefix: string;
  /** Number of enum masquerade_rule: 5 native-routing, 7 ip-masq-agent. */
  readonly rule: number;
  /** The input that asks for it: `/etc/config/ip-masq-agent line 3`. */
  readonly source: string;
}

/** One row of GET /v1/config. */
export interface OptionReport {
  readonly name: string;
  readonly value: string;
  readonly default: string;
  /** Path of the value in force: `ConfigMap kube-system/cilium-config data.devices`; "default". */
  readonly origin: string;
  readonly when: "start" | "load" | "live";
  readonly text: string;
}

/** Answer of GET /v1/config. */
export interface ConfigReport {
  readonly generation: number;
  readonly options: readonly OptionReport[];
  readonly faults: readonly string[];
  readonly unknownKeys: readonly string[];
}

/** agent.json in the run directory: what tools need to find the agent, or its maps when it is dead. */
export interface AgentFile {
  readonly nodeName: string;
  readonly pid: number;
  readonly bpfRoot: string;
  readonly runDir: string;
  readonly stateDir: string;
  readonly cgroupRoot: string;
  readonly apiServer: string;
  readonly version: string;
}
