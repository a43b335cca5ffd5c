/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The node's configuration: one struct, read-only once loaded. The verifier folds it, so what is off costs nothing.
 * A change at run time is a new load of the object and an atomic swap of the programs; the maps stay.
 * Each field is filled from one row of src/agent/options.ts; the loader refuses a field without an owner.
 */
#pragma once

struct node_config {
	__u8 enable_ipv4 DOC("handle IPv4; off: IPv4 packets go to the kernel's stack untouched");
	__u8 enable_ipv6 DOC("handle IPv6; off: IPv6 packets go to the kernel's stack untouched");
	__u8 masquerade_ipv4 DOC("give pods' IPv4 packets that leave the cluster the node's address");
	__u8 masquerade_ipv6 DOC("give pods' IPv6 packets that leave the cluster the node's address");
	__u8 masquerade_remote_nodes DOC("masquerade also what pods send to other nodes' addresses");
	__u8 masquerade_to_route_source DOC("take the masquerade address from the route's preferred source");
	__u8 host_routing DOC("forward by redirect between pod and native device, without the host's stack");
	__u8 tunnel DOC("pods of other nodes are reached through a tunnel: node addresses are masqueraded to");
	__u8 netfilter DOC("netfilter masquerades: pods' packets take the host's stack, those of flows that are older than this mode excepted");
	__u8 events DOC("0 none, 1 drops, 2 drops and first packets of flows");
	__u8 track_fragments_ipv4 DOC("remember the ports of fragmented IPv4 datagrams; off: their fragments are not masqueraded but dropped");
	__u8 track_fragments_ipv6 DOC("remember the ports of fragmented IPv6 datagrams; off: their fragments are not masqueraded but dropped");
	__u32 port_min DOC("lowest port that masquerading may choose, host order");
	__u32 port_max DOC("highest port that masquerading may choose, host order");
	__u32 tunnel_port DOC("UDP port of the node's own tunnel, host order, 0 none");
	__u32 timeout_tcp_syn DOC("ticks that an unanswered TCP opening lives");
	__u32 timeout_tcp DOC("ticks that an idle established TCP flow lives");
	__u32 timeout_tcp_fin DOC("ticks that a closed or reset TCP flow lives");
	__u32 timeout_any DOC("ticks that an idle UDP or ICMP flow lives");
};

/* What the loader knows of the machine; nobody sets it. */
struct machine {
	__u32 jiffy_ns DOC("length of a jiffy, ns; 0 unknown: then the clock is asked, which costs 14 ns a packet more");
};
