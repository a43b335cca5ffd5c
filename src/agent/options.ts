// SPDX-License-Identifier: Apache-2.0
// Every option of the agent, once. The name is the key of ConfigMap kube-system/cilium-config; flag (--name), environment
// (HOOKLINE_NAME, CILIUM_NAME), the aliases of CiliumNetworkConfig, help and docs/reference are derived from the row.
//
// when: "start" is read once, from flags and environment only; "load" needs the programs to be loaded again, which the
// agent does by itself without losing a packet; "live" changes maps or routes only.
import {
  bool,
  cidr,
  duration,
  integer,
  list,
  listenAddress,
  type OptionType,
  oneOf,
  path,
  portRange,
  text,
} from "./option-types.ts";

export interface Option<T> {
  readonly type: OptionType<T>;
  /** As it would be written. */
  readonly default: string;
  readonly text: string;
  readonly when: "start" | "load" | "live";
  /** Fields of struct node_config that it fills. */
  readonly fields?: readonly string[];
  /** Its path in the values of Cilium's Helm chart, an alias in CiliumNetworkConfig. */
  readonly helm?: string;
  /** Why a value that reads well is refused all the same; undefined if it is not. */
  readonly refuse?: (value: T) => string | undefined;
}

const option = <T>(row: Option<T>): Option<T> => row;
const tableSize = integer(1024, 16_777_216);

export const OPTIONS = {
  "enable-ipv4": option({
    type: bool,
    default: "true",
    text: "Give pods IPv4 addresses and handle IPv4 packets.",
    when: "load",
    fields: ["enableIpv4"],
    helm: "ipv4.enabled",
  }),
  "enable-ipv6": option({
    type: bool,
    default: "true",
    text: "Give pods IPv6 addresses and handle IPv6 packets.",
    when: "load",
    fields: ["enableIpv6"],
    helm: "ipv6.enabled",
  }),
  "enable-ipv4-masquerade": option({
    type: bool,
    default: "true",
    text: "Give pods' IPv4 packets that leave the cluster the node's address.",
    when: "load",
    fields: ["masqueradeIpv4"],
    helm: "enableIPv4Masquerade",
  }),
  "enable-ipv6-masquerade": option({
    type: bool,
    default: "true",
    text: "Give pods' IPv6 packets that leave the cluster the node's address.",
    when: "load",
    fields: ["masqueradeIpv6"],
    helm: "enableIPv6Masquerade",
  }),
  "enable-bpf-masquerade": option({
    type: bool,
    default: "true",
    text: "Masquerade in BPF; false: by iptables, through the node's stack. Cilium's default is false.",
    when: "load",
    fields: ["netfilter"],
    helm: "bpf.masquerade",
  }),
  "egress-masquerade-interfaces": option({
    type: list,
    default: "",
    text: "In iptables mode, masquerade on these devices only, `eth+` for all that begin with eth. Empty: the native devices.",
    when: "live",
    helm: "egressMasqueradeInterfaces",
  }),
  "iptables-random-fully": option({
    type: bool,
    default: "false",
    text: "In iptables mode, choose source ports at random also where the pod's own is free.",
    when: "live",
    helm: "iptablesRandomFully",
  }),
  "enable-remote-node-masquerade": option({
    type: bool,
    default: "false",
    text: "Masquerade also what pods send to the addresses of other nodes; BPF mode only.",
    when: "load",
    fields: ["masqueradeRemoteNodes"],
    helm: "enableRemoteNodeMasquerade",
  }),
  "enable-masquerade-to-route-source": option({
    type: bool,
    default: "false",
    text: "Take the masquerade address from the route's preferred source instead of the device.",
    when: "load",
    fields: ["masqueradeToRouteSource"],
    helm: "enableMasqueradeRouteSource",
  }),
  "ipv4-native-routing-cidr": option({
    type: cidr(4),
    default: "",
    text: "IPv4 destinations that pods reach under their own address. Empty: the pod ranges of all nodes.",
    when: "live",
    helm: "ipv4NativeRoutingCIDR",
  }),
  "ipv6-native-routing-cidr": option({
    type: cidr(6),
    default: "",
    text: "IPv6 destinations that pods reach under their own address. Empty: the pod ranges of all nodes.",
    when: "live",
    helm: "ipv6NativeRoutingCIDR",
  }),
  devices: option({
    type: list,
    default: "",
    text: "Native devices, `eth+` for all that begin with eth. Empty: those with a default route or the node's InternalIP.",
    when: "live",
    helm: "devices",
  }),
  "routing-mode": option({
    type: oneOf("native", "tunnel"),
    default: "native",
    text: "How pods of other nodes are reached. Cilium's default is tunnel; this release routes natively only.",
    when: "load",
    fields: ["tunnel"],
    helm: "routingMode",
    refuse: (value) =>
      value === "native" ? undefined : "tunnels are not in this release; set routing-mode to native",
  }),
  "auto-direct-node-routes": option({
    type: bool,
    default: "true",
    text: "Write routes to other nodes' pods by way of their InternalIP, where they share a subnet with this node.",
    when: "live",
    helm: "autoDirectNodeRoutes",
  }),
  "enable-host-legacy-routing": option({
    type: bool,
    default: "false",
    text: "Send packets between pods and native devices through the host's stack instead of redirecting them in BPF.",
    when: "load",
    fields: ["hostRouting"],
    helm: "bpf.hostLegacyRouting",
  }),
  "enable-ip-masq-agent": option({
    type: bool,
    default: "false",
    text: "Take destinations that keep the pod's address from the ip-masq-agent's file or ConfigMap.",
    when: "live",
    helm: "ipMasqAgent.enabled",
  }),
  "ip-masq-agent-config-path": option({
    type: path,
    default: "/etc/config/ip-masq-agent",
    text: "The ip-masq-agent's file. Where it is missing, ConfigMap kube-system/ip-masq-agent key config is read.",
    when: "live",
  }),
  "bpf-ct-timeout-regular-tcp": option({
    type: duration,
    default: "8000s",
    text: "How long an idle established TCP flow lives.",
    when: "load",
    fields: ["timeoutTcp"],
  }),
  "bpf-ct-timeout-regular-any": option({
    type: duration,
    default: "60s",
    text: "How long an idle UDP or ICMP flow lives.",
    when: "load",
    fields: ["timeoutAny"],
  }),
  "bpf-ct-timeout-regular-tcp-syn": option({
    type: duration,
    default: "60s",
    text: "How long an unanswered TCP opening lives.",
    when: "load",
    fields: ["timeoutTcpSyn"],
  }),
  "bpf-ct-timeout-regular-tcp-fin": option({
    type: duration,
    default: "10s",
    text: "How long a closed or reset TCP flow lives.",
    when: "load",
    fields: ["timeoutTcpFin"],
  }),
  "bpf-ct-global-tcp-max": option({
    type: tableSize,
    default: "524288",
    text: "TCP's share of the flow table, which grows to as many records as this and bpf-ct-global-any-max together.",
    when: "load",
    helm: "bpf.ctTcpMax",
  }),
  "bpf-ct-global-any-max": option({
    type: tableSize,
    default: "262144",
    text: "The share of the flow table that other protocols add to bpf-ct-global-tcp-max. It begins with room for 16384.",
    when: "load",
    helm: "bpf.ctAnyMax",
  }),
  "bpf-nat-global-max": option({
    type: integer(0, 16_777_216),
    default: "0",
    text: "Most entries of the index of translated flows; 0: as many as the flow table has. Never more than that.",
    when: "load",
    helm: "bpf.natMax",
  }),
  "enable-ipv4-fragment-tracking": option({
    type: bool,
    default: "true",
    text: "Remember the ports of fragmented IPv4 datagrams; off: fragments that would be masqueraded are dropped.",
    when: "load",
    fields: ["trackFragmentsIpv4"],
    helm: "fragmentTracking",
  }),
  "enable-ipv6-fragment-tracking": option({
    type: bool,
    default: "true",
    text: "The same for IPv6.",
    when: "load",
    fields: ["trackFragmentsIpv6"],
  }),
  "bpf-fragments-map-max": option({
    type: integer(256, 65_536),
    default: "8192",
    text: "Fragmented datagrams whose ports are remembered at a time; a new size counts from the agent's next start.",
    when: "load",
  }),
  "monitor-aggregation": option({
    type: oneOf("none", "lowest", "low", "medium", "maximum"),
    default: "medium",
    text: "What the packet path reports: up to medium drops and new flows, maximum drops only.",
    when: "load",
    fields: ["events"],
    helm: "bpf.monitorAggregation",
  }),
  "ipv4-range": option({
    type: cidr(4),
    default: "",
    text: "This node's IPv4 pod range, where its Node object has none.",
    when: "live",
  }),
  "ipv6-range": option({
    type: cidr(6),
    default: "",
    text: "This node's IPv6 pod range, where its Node object has none.",
    when: "live",
  }),
  mtu: option({
    type: integer(0, 65535),
    default: "0",
    text: "MTU of pod devices; 0: the smallest of the native devices.",
    when: "live",
    helm: "MTU",
  }),
  "tunnel-port": option({
    type: integer(0, 65535),
    default: "0",
    text: "UDP port of a tunnel on the node, never chosen for masquerading and never translated; 0: none.",
    when: "load",
    fields: ["tunnelPort"],
    helm: "tunnelPort",
  }),
  "node-port-range": option({
    type: portRange,
    default: "30000,32767",
    text: "Ports of NodePort services, never chosen for masquerading.",
    when: "live",
    helm: "nodePort.range",
  }),
  "masquerade-port-range": option({
    type: portRange,
    default: "1024,65535",
    text: "Ports that masquerading may choose, less those that are reserved.",
    when: "load",
    fields: ["portMin", "portMax"],
    refuse: (value) => (value.last - value.first < 1023 ? "fewer than 1024 ports" : undefined),
  }),
  "prometheus-serve-addr": option({
    type: listenAddress,
    default: "",
    text: "Serve metrics over HTTP on address:port; :9962 listens on loopback only, 0.0.0.0:9962 everywhere. Empty: not.",
    when: "live",
  }),
  "log-level": option({
    type: oneOf("trace", "debug", "info", "warn", "error", "fatal", "silent"),
    default: "info",
    text: "How much the agent writes to standard error.",
    when: "live",
  }),
  "node-name": option({
    type: text,
    default: "",
    text: "This node's name. Empty: the host name.",
    when: "start",
  }),
  kubeconfig: option({ type: path, default: "", text: "Kubeconfig file of the API server.", when: "start" }),
  api: option({
    type: text,
    default: "",
    text: "The API server: unix:///path/to/socket, http:// or https://. Empty: kubeconfig, or the pod's service account.",
    when: "start",
  }),
  manifests: option({
    type: path,
    default: "",
    text: "Folder of manifests. With neither api nor kubeconfig, the agent serves the Kubernetes API itself from it.",
    when: "start",
  }),
  "run-dir": option({
    type: path,
    default: "/run/hookline",
    text: "Folder of the socket and the state.",
    when: "start",
  }),
  "state-dir": option({
    type: path,
    default: "",
    text: "Folder of endpoints and last good configuration. Empty: `state` in run-dir.",
    when: "start",
  }),
  "bpf-root": option({
    type: path,
    default: "/sys/fs/bpf/hookline",
    text: "Folder of the pins, on a BPF file system.",
    when: "start",
  }),
  "cgroup-root": option({
    type: path,
    default: "",
    text: "Root of the cgroup2 tree. Empty: found.",
    when: "start",
  }),
  "config-dir": option({
    type: path,
    default: "",
    text: "Folder with one file per option, as a mounted ConfigMap cilium-config; read at start, under the ConfigMap.",
    when: "start",
  }),
  "write-cni-conf-when-ready": option({
    type: path,
    default: "",
    text: "Install the CNI plugin once pods can be added: write its configuration to this file, for example /etc/cni/net.d/05-hookline.conflist. Empty: do not.",
    when: "start",
    refuse: (value) =>
      value === "" || value.endsWith(".conflist")
        ? undefined
        : "container runtimes read a list of plugins only from files whose names end in .conflist",
  }),
  "cni-bin-dir": option({
    type: path,
    default: "/opt/cni/bin",
    text: "Where write-cni-conf-when-ready puts the plugin: a folder in which the container runtime looks for plugins.",
    when: "start",
  }),
  object: option({
    type: path,
    default: "",
    text: "The compiled data plane. Empty: the one of this package.",
    when: "start",
  }),
} as const;

export type OptionName = keyof typeof OPTIONS;

/** Values of all options, by their names. */
export type Config = {
  readonly [K in OptionName]: (typeof OPTIONS)[K] extends Option<infer T> ? T : never;
};

export const OPTION_NAMES = Object.keys(OPTIONS) as OptionName[];

export function isOptionName(name: string): name is OptionName {
  return Object.hasOwn(OPTIONS, name);
}
