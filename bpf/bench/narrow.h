/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The types of shape D: the record and its index with 32-bit addresses, as a table for IPv4 alone would have them. */
#pragma once

struct narrow_key {
	__be32 saddr DOC("source address of the opener");
	__be32 daddr DOC("destination address as the opener sent it");
	__be16 sport DOC("source port");
	__be16 dport DOC("destination port");
	__u8 proto DOC("IP protocol");
	__u8 pad[3] DOC("always 0");
};

struct narrow_flow {
	__be32 xsaddr DOC("source address after translation");
	__be32 xdaddr DOC("destination address after translation");
	__be16 xsport DOC("source port after translation");
	__be16 xdport DOC("destination port after translation");
	__u32 expires DOC("tick from which the record is dead");
	__u32 created DOC("tick of the first packet");
	__u16 endpoint DOC("id of the local pod");
	__u16 proxy_port DOC("port of the proxy");
	__u16 service DOC("index of the service");
	__u8 state DOC("bits of enum flow_state");
	__u8 rule DOC("enum masquerade_rule");
	__u32 identity DOC("security identity of the opener");
};

struct narrow_reply {
	__be32 saddr DOC("source address of the opener, before translation");
	__be16 sport DOC("source port of the opener, before translation");
	__u16 service DOC("index of the service");
	__u32 claim DOC("tick of the entry's making");
};

static __always_inline struct narrow_key narrow_opener(__u32 i)
{
	struct narrow_key k = { .sport = port_of(i), .dport = bpf_htons(443), .proto = 6 };
	plain(&k.saddr, pod_of(i));
	plain(&k.daddr, server_of(i));
	return k;
}

static __always_inline struct narrow_key narrow_replier(__u32 i)
{
	struct narrow_key k = { .sport = bpf_htons(443), .dport = port_of(i), .proto = 6 };
	plain(&k.saddr, server_of(i));
	plain(&k.daddr, NODE_ADDRESS);
	return k;
}
