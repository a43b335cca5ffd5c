// SPDX-License-Identifier: Apache-2.0
// What a lab consists of: from a name and a few numbers to every namespace, address, folder and control group, without
// touching the machine. The supervisor builds what stands here, `lab down` removes it, tests read it.
import { join } from "node:path";
import type { Address } from "../base/addr.ts";
import { faults } from "./faults.ts";

/** What `hookline lab up` was asked for. */
export interface LabRequest {
  name: string;
  nodes: number;
  podsPerNode: number;
  /** MTU of the underlay, in bytes. */
  mtu: number;
  /** Keys of the ConfigMap kube-system/cilium-config that replace or add to the lab's own. */
  config: Record<string, string>;
  /** Folder of the user's manifests, absolute. */
  manifestsDir?: string;
}

/** One node: a namespace with its own agent, BPF file system, control group and network card. */
export interface NodePlan {
  name: string;
  /** 1, 2, ... */
  index: number;
  /** Name under /run/netns. */
  netns: string;
  ipv4: Address;
  ipv6: Address;
  podCidrs: [ipv4: string, ipv6: string];
  /** Run directory of the node's agent. */
  runDir: string;
  /** Mount point of the node's own BPF file system. */
  bpfRoot: string;
  /** Control group, relative to the cgroup2 mount. */
  cgroup: string;
  log: string;
}

export interface PodPlan {
  name: string;
  node: string;
}

/** Addresses of the machine that plays the internet. */
export interface OutsidePlan {
  netns: string;
  /** On the underlay: the nodes' default gateway. */
  gateway: [ipv4: Address, ipv6: Address];
  /** Destinations that are masqueraded. */
  internet: [ipv4: Address, ipv6: Address];
  /** Destinations that the lab lists in nonMasqueradeCIDRs. */
  exempt: [ipv4: Address, ipv6: Address];
  cgroup: string;
  log: string;
}

export interface LabPlan {
  name: string;
  stateDir: string;
  /** Control group of the whole lab, relative to the cgroup2 mount. */
  cgroup: string;
  apiSocket: string;
  /** URL of the API server for the lab's own processes. */
  apiUrl: string;
  kubeconfig: string;
  /** The lab's own manifests, generated. */
  manifestsDir: string;
  switchNetns: string;
  mtu: number;
  nodes: NodePlan[];
  pods: PodPlan[];
  outside: OutsidePlan;
  config: Record<string, string>;
  /** The user's manifests, "" if there are none. */
  userManifestsDir: string;
}

/** Where labs keep their state; one folder per lab. */
export const LABS_DIR = "/run/hookline/labs";
export const DEFAULT_LAB = "lab";
/** Prefix lengths of the underlay. */
export const UNDERLAY_LENGTH = { 4: 24, 6: 64 } as const;
/** Ports of the servers in every pod and in the outside: HTTP, TCP echo, UDP echo. */
export const SERVER_PORTS = { http: 80, tcp: 7000, udp: 7000 } as const;
export const NON_MASQUERADE_CIDRS = ["203.0.113.0/24", "2001:db8:113::/64"] as const;
export const NATIVE_ROUTING_CIDRS: [string, string] = ["10.244.0.0/16", "fd00:10:244::/48"];

const MAX_NODES = 100;
const MAX_PODS_PER_NODE = 200;
/** IPv6 does not work below (RFC 8200 5). */
const MIN_MTU = 1280;
const MAX_MTU = 65535;

/** Prefix of every namespace of a lab. Lab names hold no dash, so no lab's prefix begins another's. */
export function netnsPrefix(lab: string): string {
  return `hl-${lab}-`;
}

/** Control group of a lab, relative to the cgroup2 mount. */
export function labCgroup(lab: string): string {
  return `hookline-${lab}`;
}

export function labStateDir(lab: string): string {
  return join(LABS_DIR, lab);
}

/** @throws Fault LAB_NAME */
export function checkLabName(name: string): string {
  if (!/^[a-z][a-z0-9]{0,11}$/.test(name)) throw faults.LAB_NAME({ name });
  return name;
}

function checkRange(option: string, value: number, low: number, high: number): void {
  if (!Number.isInteger(value) || value < low || value > high) {
    throw faults.LAB_SIZE({ option, value, why: `must be a whole number from ${low} to ${high}` });
  }
}

/** Name of the namespace of a pod; pods outside the namespace `default` carry theirs. */
export function podNetns(node: NodePlan, namespace: string, pod: string): string {
  return `${node.netns}-${namespace === "default" ? pod : `${namespace}.${pod}`}`;
}

/** Control group of a pod, relative to the cgroup2 mount. */
export function podCgroup(node: NodePlan, namespace: string, pod: string): string {
  return join(node.cgroup, `${namespace}.${pod}`);
}

function planNode(lab: string, index: number): NodePlan {
  const name = `node${index}`;
  const dir = join(labStateDir(lab), "nodes", name);
  return {
    name,
    index,
    netns: `${netnsPrefix(lab)}${name}`,
    ipv4: `172.20.0.${10 + index}`,
    ipv6: `fd00:20::${10 + index}`,
    podCidrs: [`10.244.${index}.0/24`, `fd00:10:244:${index}::/64`],
    runDir: join(dir, "run"),
    bpfRoot: join(dir, "bpf"),
    cgroup: join(labCgroup(lab), name),
    log: join(dir, "agent.log"),
  };
}

function planOutside(lab: string): OutsidePlan {
  return {
    netns: `${netnsPrefix(lab)}outside`,
    gateway: ["172.20.0.254", "fd00:20::fe"],
    internet: ["198.51.100.10", "2001:db8:100::10"],
    exempt: ["203.0.113.10", "2001:db8:113::10"],
    cgroup: join(labCgroup(lab), "outside"),
    log: join(labStateDir(lab), "outside.log"),
  };
}

/** The lab's own ConfigMap keys; the request's win. */
function planConfig(request: LabRequest): Record<string, string> {
  return {
    "enable-ipv4": "true",
    "enable-ipv6": "true",
    "enable-ipv4-masquerade": "true",
    "enable-ipv6-masquerade": "true",
    "enable-bpf-masquerade": "true",
    "enable-ip-masq-agent": "true",
    "ipv4-native-routing-cidr": NATIVE_ROUTING_CIDRS[0],
    "ipv6-native-routing-cidr": NATIVE_ROUTING_CIDRS[1],
    "routing-mode": "native",
    "auto-direct-node-routes": "true",
    ...request.config,
  };
}

/**
 * The whole lab. Pod k of node i is `pod-i-k`.
 * @throws Fault LAB_NAME, LAB_SIZE
 */
export function planLab(request: LabRequest): LabPlan {
  const name = checkLabName(request.name);
  checkRange("--nodes", request.nodes, 1, MAX_NODES);
  checkRange("--pods-per-node", request.podsPerNode, 0, MAX_PODS_PER_NODE);
  checkRange("--mtu", request.mtu, MIN_MTU, MAX_MTU);
  const stateDir = labStateDir(name);
  const nodes = Array.from({ length: request.nodes }, (_, i) => planNode(name, i + 1));
  const pods = nodes.flatMap((node) =>
    Array.from({ length: request.podsPerNode }, (_, k) => ({
      name: `pod-${node.index}-${k + 1}`,
      node: node.name,
    })),
  );
  const apiSocket = join(stateDir, "api.sock");
  return {
    name,
    stateDir,
    cgroup: labCgroup(name),
    apiSocket,
    apiUrl: `unix://${apiSocket}`,
    kubeconfig: join(stateDir, "kubeconfig"),
    manifestsDir: join(stateDir, "manifests"),
    switchNetns: `${netnsPrefix(name)}net`,
    mtu: request.mtu,
    nodes,
    pods,
    outside: planOutside(name),
    config: planConfig(request),
    userManifestsDir: request.manifestsDir ?? "",
  };
}

/**
 * `key=value` texts to an object; the last one of a key wins.
 * @throws Fault LAB_CONFIG
 */
export function parseConfigPairs(texts: string[]): Record<string, string> {
  const config: Record<string, string> = {};
  for (const text of texts) {
    const at = text.indexOf("=");
    if (at <= 0) throw faults.LAB_CONFIG({ text });
    config[text.slice(0, at).trim()] = text.slice(at + 1);
  }
  return config;
}
