// SPDX-License-Identifier: Apache-2.0
// The configuration that is written into the object before it is loaded.
// Generated from the BTF of the data plane by `npm run gen`; the source is bpf/abi.
import { bound, type Codec, u32, u8 } from "../codec.ts";

/** struct node_config, 40 bytes. */
export interface NodeConfig {
  /** Handle IPv4; off: IPv4 packets go to the kernel's stack untouched. */
  enableIpv4: number;
  /** Handle IPv6; off: IPv6 packets go to the kernel's stack untouched. */
  enableIpv6: number;
  /** Give pods' IPv4 packets that leave the cluster the node's address. */
  masqueradeIpv4: number;
  /** Give pods' IPv6 packets that leave the cluster the node's address. */
  masqueradeIpv6: number;
  /** Masquerade also what pods send to other nodes' addresses. */
  masqueradeRemoteNodes: number;
  /** Take the masquerade address from the route's preferred source. */
  masqueradeToRouteSource: number;
  /** Forward by redirect between pod and native device, without the host's stack. */
  hostRouting: number;
  /** Pods of other nodes are reached through a tunnel: node addresses are masqueraded to. */
  tunnel: number;
  /** Netfilter masquerades: pods' packets take the host's stack, those of flows that are older than this mode excepted. */
  netfilter: number;
  /** 0 none, 1 drops, 2 drops and first packets of flows. */
  events: number;
  /** Remember the ports of fragmented IPv4 datagrams; off: their fragments are not masqueraded but dropped. */
  trackFragmentsIpv4: number;
  /** Remember the ports of fragmented IPv6 datagrams; off: their fragments are not masqueraded but dropped. */
  trackFragmentsIpv6: number;
  /** Lowest port that masquerading may choose, host order. */
  portMin: number;
  /** Highest port that masquerading may choose, host order. */
  portMax: number;
  /** UDP port of the node's own tunnel, host order, 0 none. */
  tunnelPort: number;
  /** Ticks that an unanswered TCP opening lives. */
  timeoutTcpSyn: number;
  /** Ticks that an idle established TCP flow lives. */
  timeoutTcp: number;
  /** Ticks that a closed or reset TCP flow lives. */
  timeoutTcpFin: number;
  /** Ticks that an idle UDP or ICMP flow lives. */
  timeoutAny: number;
}

export const NODE_CONFIG_SIZE = 40;

export function readNodeConfig(view: DataView, at: number): NodeConfig {
  return {
    enableIpv4: view.getUint8(at),
    enableIpv6: view.getUint8(at + 1),
    masqueradeIpv4: view.getUint8(at + 2),
    masqueradeIpv6: view.getUint8(at + 3),
    masqueradeRemoteNodes: view.getUint8(at + 4),
    masqueradeToRouteSource: view.getUint8(at + 5),
    hostRouting: view.getUint8(at + 6),
    tunnel: view.getUint8(at + 7),
    netfilter: view.getUint8(at + 8),
    events: view.getUint8(at + 9),
    trackFragmentsIpv4: view.getUint8(at + 10),
    trackFragmentsIpv6: view.getUint8(at + 11),
    portMin: view.getUint32(at + 12, true),
    portMax: view.getUint32(at + 16, true),
    tunnelPort: view.getUint32(at + 20, true),
    timeoutTcpSyn: view.getUint32(at + 24, true),
    timeoutTcp: view.getUint32(at + 28, true),
    timeoutTcpFin: view.getUint32(at + 32, true),
    timeoutAny: view.getUint32(at + 36, true),
  };
}

export function writeNodeConfig(view: DataView, at: number, value: NodeConfig): void {
  bound(view, at, NODE_CONFIG_SIZE);
  view.setUint8(at, u8(value.enableIpv4));
  view.setUint8(at + 1, u8(value.enableIpv6));
  view.setUint8(at + 2, u8(value.masqueradeIpv4));
  view.setUint8(at + 3, u8(value.masqueradeIpv6));
  view.setUint8(at + 4, u8(value.masqueradeRemoteNodes));
  view.setUint8(at + 5, u8(value.masqueradeToRouteSource));
  view.setUint8(at + 6, u8(value.hostRouting));
  view.setUint8(at + 7, u8(value.tunnel));
  view.setUint8(at + 8, u8(value.netfilter));
  view.setUint8(at + 9, u8(value.events));
  view.setUint8(at + 10, u8(value.trackFragmentsIpv4));
  view.setUint8(at + 11, u8(value.trackFragmentsIpv6));
  view.setUint32(at + 12, u32(value.portMin), true);
  view.setUint32(at + 16, u32(value.portMax), true);
  view.setUint32(at + 20, u32(value.tunnelPort), true);
  view.setUint32(at + 24, u32(value.timeoutTcpSyn), true);
  view.setUint32(at + 28, u32(value.timeoutTcp), true);
  view.setUint32(at + 32, u32(value.timeoutTcpFin), true);
  view.setUint32(at + 36, u32(value.timeoutAny), true);
}

export const nodeConfigCodec: Codec<NodeConfig> = { size: NODE_CONFIG_SIZE, read: readNodeConfig, write: writeNodeConfig };

/** Per property: the field in C, its bytes, and the sentence that documents it. */
export const nodeConfigFields: Readonly<
  Record<keyof NodeConfig, { readonly field: string; readonly size: number; readonly doc: string }>
> = {
  enableIpv4: { field: "enable_ipv4", size: 1, doc: "handle IPv4; off: IPv4 packets go to the kernel's stack untouched" },
  enableIpv6: { field: "enable_ipv6", size: 1, doc: "handle IPv6; off: IPv6 packets go to the kernel's stack untouched" },
  masqueradeIpv4: { field: "masquerade_ipv4", size: 1, doc: "give pods' IPv4 packets that leave the cluster the node's address" },
  masqueradeIpv6: { field: "masquerade_ipv6", size: 1, doc: "give pods' IPv6 packets that leave the cluster the node's address" },
  masqueradeRemoteNodes: { field: "masquerade_remote_nodes", size: 1, doc: "masquerade also what pods send to other nodes' addresses" },
  masqueradeToRouteSource: { field: "masquerade_to_route_source", size: 1, doc: "take the masquerade address from the route's preferred source" },
  hostRouting: { field: "host_routing", size: 1, doc: "forward by redirect between pod and native device, without the host's stack" },
  tunnel: { field: "tunnel", size: 1, doc: "pods of other nodes are reached through a tunnel: node addresses are masqueraded to" },
  netfilter: { field: "netfilter", size: 1, doc: "netfilter masquerades: pods' packets take the host's stack, those of flows that are older than this mode excepted" },
  events: { field: "events", size: 1, doc: "0 none, 1 drops, 2 drops and first packets of flows" },
  trackFragmentsIpv4: { field: "track_fragments_ipv4", size: 1, doc: "remember the ports of fragmented IPv4 datagrams; off: their fragments are not masqueraded but dropped" },
  trackFragmentsIpv6: { field: "track_fragments_ipv6", size: 1, doc: "remember the ports of fragmented IPv6 datagrams; off: their fragments are not masqueraded but dropped" },
  portMin: { field: "port_min", size: 4, doc: "lowest port that masquerading may choose, host order" },
  portMax: { field: "port_max", size: 4, doc: "highest port that masquerading may choose, host order" },
  tunnelPort: { field: "tunnel_port", size: 4, doc: "UDP port of the node's own tunnel, host order, 0 none" },
  timeoutTcpSyn: { field: "timeout_tcp_syn", size: 4, doc: "ticks that an unanswered TCP opening lives" },
  timeoutTcp: { field: "timeout_tcp", size: 4, doc: "ticks that an idle established TCP flow lives" },
  timeoutTcpFin: { field: "timeout_tcp_fin", size: 4, doc: "ticks that a closed or reset TCP flow lives" },
  timeoutAny: { field: "timeout_any", size: 4, doc: "ticks that an idle UDP or ICMP flow lives" },
};
