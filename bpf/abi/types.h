/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Keys and values of every map. What stands here is the ABI between the packet path and user space:
 * TypeScript codecs are generated from it (npm run gen). No holes, unions, bit-fields or pointers; each field
 * carries one DOC sentence, which becomes the doc comment in TypeScript and the row in docs/reference.
 *
 * Byte order is in the type: __beNN is network order, __uNN host order.
 * Time is in ticks of 2^24 ns (16.8 ms) of CLOCK_MONOTONIC, 32 bits: it wraps after 2.3 years and is compared by
 * signed difference, so neither a wrap nor a step of the wall clock matters.
 */
#pragma once

/* Of 64 ports each, as a word of reserved_ports has. */
#define CROWD_CHUNKS 1024
/* The largest packet of a device with jumbo frames. */
#define HELD_BYTES 9216

#define DOC(text) __attribute__((btf_decl_tag("doc:" text)))

struct addr {
	__be32 w[4] DOC("IPv6 address in network order, or IPv4 mapped into ::ffff:0:0/96");
};

struct prefix {
	__u32 prefixlen DOC("leading bits that count, 0-128; an IPv4 prefix of n bits is 96 + n");
	struct addr addr DOC("network address");
};

struct endpoint {
	struct addr addr4 DOC("the pod's IPv4 address, :: if it has none");
	struct addr addr6 DOC("the pod's IPv6 address, :: if it has none");
	__u32 ifindex DOC("the pod's device on the node");
	__u32 identity DOC("security identity of the pod's labels, 0 unknown");
	__u16 id DOC("endpoint id, 1-65535, never 0; owner of its flows");
	__u16 flags DOC("bits of enum endpoint_flag");
	__u8 mac[6] DOC("MAC address inside the pod");
	__u8 host_mac[6] DOC("MAC address of the pod's device on the node, the pod's next hop");
};

struct device {
	struct addr addr4 DOC("masquerade address for IPv4, :: if there is none");
	struct addr addr6 DOC("masquerade address for IPv6, :: if there is none");
	__u32 mtu DOC("largest packet, in bytes, without the link header");
	__u32 flags DOC("bits of enum device_flag");
};

struct prefix_rule {
	__u32 rule DOC("enum masquerade_rule that a hit means");
	__u32 source DOC("index of the input line that asked for it, in the agent's source table");
};

struct remote {
	__u32 identity DOC("security identity: 1 host, 2 world, 6 remote-node, 7 kube-apiserver, 256 and up pods");
	__u32 flags DOC("bits of enum remote_flag");
	struct addr node DOC("address of the node that holds it, :: if none");
};

/* The key of the flow table: the tuple as the side that opened the flow sent it. */
struct flow_key {
	struct addr saddr DOC("source address of the opener");
	struct addr daddr DOC("destination address as the opener sent it");
	__be16 sport DOC("source port; for ICMP echo the identifier");
	__be16 dport DOC("destination port; 0 for ICMP echo");
	__u8 proto DOC("IP protocol: 6 TCP, 17 UDP, 1 ICMP, 58 ICMPv6");
	__u8 pad[3] DOC("always 0");
} __attribute__((aligned(8)));

/* The authoritative record of one flow: tracking state and translation together, both directions. */
struct flow {
	struct addr xsaddr DOC("source address after translation; equal to the key's if it is kept");
	struct addr xdaddr DOC("destination address after translation (a service's backend); equal to the key's if kept");
	__be16 xsport DOC("source port after translation");
	__be16 xdport DOC("destination port after translation");
	__u32 expires DOC("tick from which the record is dead and its port free; 0 being ended or reopened, 1 and 2 on its way to a larger table");
	__u32 created DOC("tick of the first packet");
	__u16 endpoint DOC("id of the local pod that the flow belongs to, 0 the node itself");
	__u16 proxy_port DOC("host-order port of the proxy that the policy sent the flow to, 0 none");
	__u16 service DOC("index of the service that the opener addressed, 0 none");
	__u8 state DOC("bits of enum flow_state");
	__u8 rule DOC("enum masquerade_rule that decided the translation");
	__u32 identity DOC("security identity of the opener, as the policy verdict saw it");
} __attribute__((aligned(8)));

/* The index from the far side: the tuple of a reply, as it arrives, to what the opener sent. It means nothing
 * unless flows holds a live record under the opening tuple whose translation gives this very reply tuple. */
struct reply {
	struct addr saddr DOC("source address of the opener, before translation");
	__be16 sport DOC("source port of the opener, before translation");
	__u16 service DOC("index of the service that gives the opener's destination; 0: the reply's source is it");
	__u32 claim DOC("tick when the entry was made; the sweep removes one that is older than a second and stands for no flow");
} __attribute__((aligned(8)));

/* A remote endpoint towards which nearly all ports of one of our addresses are held. Words of `chunk` and `all` say from when a
 * port may be had again: bits 0-23 the tick, 0 now (stage/crowd.h). */
struct crowd {
	__u64 refused DOC("flows that got no port");
	__u32 refused_at DOC("tick of the last of them");
	__u32 marked DOC("tick in which a word was last written");
	__u32 all DOC("from when any port may be had");
	__u32 hint DOC("chunk in which a port was last found or given back");
	__u32 chunk[CROWD_CHUNKS] DOC("from when one of 64 ports may be had; ports 64 i to 64 i + 63");
};

struct scratch {
	__u8 bytes[104] DOC("struct search of stage/port.h");
};

/* Which datagram a fragment is of. */
struct datagram_key {
	struct addr saddr DOC("source address, as the fragment arrived");
	struct addr daddr DOC("destination address, as the fragment arrived");
	__be32 id DOC("identification in the IP header or the fragment header; of IPv4 it fills the first two bytes");
	__u8 proto DOC("IP protocol; 0 for IPv6, whose later fragments do not always tell it");
	__u8 pad[3] DOC("always 0");
} __attribute__((aligned(8)));

struct datagram {
	__be16 sport DOC("source port; for an ICMP echo request the identifier");
	__be16 dport DOC("destination port; for an ICMP echo reply the identifier");
	__u8 proto DOC("IP protocol of the datagram");
	__u8 opens DOC("whether it opens a flow: 0 no, 1 an ICMP echo request, 2 any other but TCP");
	__u8 pad[2] DOC("always 0");
	__u32 seen DOC("tick of the first fragment");
};

/* A later fragment that waits for the first of its datagram; its bytes stand under the same number in frag_bytes. */
struct held {
	struct datagram_key key DOC("the datagram that it is of");
	__u32 since DOC("tick in which it came; 0 the place is free, 1 somebody is filling or emptying it");
	__u32 marked DOC("tick in which a fragment was last held, in any place, of a datagram whose key hashes to this number");
	__u32 refused DOC("tick in which a sender was last refused whose id ends with this number");
	__u16 refused_to DOC("id of that sender");
	__u16 endpoint DOC("id of the pod that sent it; 0 it came from the network");
	__u32 ifindex DOC("device of the hook");
	__u16 len DOC("bytes of the IP packet");
	__u8 hook DOC("enum hook");
	__u8 proto DOC("IP protocol, as the fragment tells it");
};

struct held_bytes {
	__u8 bytes[HELD_BYTES] DOC("the IP packet, without link header");
};

struct counter {
	__u64 packets DOC("packets since the map was made");
	__u64 bytes DOC("bytes of those packets, link header included");
};

/* One who has flows: a local pod, or, under id 0, the node. */
struct owner {
	__u32 flows DOC("records of the flow table that belong to it");
	__u32 refused DOC("new flows refused because it holds more than its share of a table that is filling up");
};

/* What a packet of this tuple was last told at this hook, for the rest of one tick. */
struct recent {
	struct flow_key key DOC("the tuple as it arrived");
	struct addr xsaddr DOC("source address as it left");
	struct addr xdaddr DOC("destination address as it left");
	__be16 xsport DOC("source port as it left");
	__be16 xdport DOC("destination port as it left");
	__u32 tick DOC("tick in which this was found out");
	__u32 ifindex DOC("device that it came in by");
	__u32 out_ifindex DOC("device that it went to");
	struct addr next_hop DOC("next hop as struct bpf_redir_neigh holds it; an IPv4 address in the first 4 bytes");
	__u32 next_hop_family DOC("address family of the next hop: 2 IPv4, 10 IPv6");
	__u8 dmac[6] DOC("destination MAC address for a local pod");
	__u8 smac[6] DOC("source MAC address for a local pod");
	__u16 mtu DOC("largest packet that may go that way");
	__u16 endpoint DOC("local endpoint id");
	__u8 hook DOC("enum hook");
	__u8 verdict DOC("what became of it: 2 delivered to a local pod, 3 sent by a device");
	__u8 rule DOC("enum masquerade_rule");
	__u8 pad DOC("always 0");
};

/* What a first packet that leaves under the node's address (rule 9) found out about its destination, for those of other flows of
 * the pod to the same port in the rest of the tick. */
struct way {
	struct flow_key key DOC("the tuple as it arrived, source port 0");
	struct addr next_hop DOC("next hop as struct bpf_redir_neigh holds it; an IPv4 address in the first 4 bytes");
	__u32 next_hop_family DOC("address family of the next hop: 2 IPv4, 10 IPv6");
	__u32 tick DOC("tick in which this was found out");
	__u32 ifindex DOC("device that it came in by");
	__u32 out_ifindex DOC("native device that it leaves by");
	__u32 remote_identity DOC("security identity of the destination, 0 unknown");
	__u32 mtu DOC("largest packet that may go that way");
};

/* A flow that netfilter has translated, for the program adopt. */
struct adoption {
	struct flow_key key DOC("the tuple as the opener, a local pod, sends it");
	struct addr xsaddr DOC("source address after translation");
	__be16 xsport DOC("source port after translation; for an echo the identifier");
	__u16 endpoint DOC("id of the pod");
	__u32 identity DOC("security identity of the pod");
	__u32 state DOC("bits of enum flow_state");
	__u32 adopted DOC("set by the program: 1 if the flow table holds the flow now, 0 if it knows the flow or the port already");
} __attribute__((aligned(8)));

struct sweep_result {
	__u32 mode DOC("set by the caller: bits of enum sweep_mode");
	__u32 budget DOC("set by the caller: records and entries to move at most");
	__u64 visited DOC("records looked at");
	__u64 removed DOC("records removed because they had expired, or their pod or address is gone");
	__u64 replies_removed DOC("index entries removed because no live record stood behind them");
	__u64 masqueraded DOC("live records with a translation");
	__u64 moved DOC("records and entries moved from the table that is being drained");
	__u64 left DOC("not 0: something is left to move, or may be");
};

/* Flows to end, for the program flush. */
struct flush {
	__u64 keys DOC("set by the caller: address of the openers' tuples in its memory, struct flow_key each");
	__u32 count DOC("set by the caller: how many");
	__u32 before DOC("set by the caller: flows opened after this tick stay");
	__u32 now DOC("set by the program: tick of this run");
	__u32 ended DOC("set by the program: records that were alive and are dead now, their ports free");
	__u32 removed DOC("set by the program: dead records removed, with their index entries");
	__u32 pad DOC("always 0");
};
