/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is known of the packet in hand, on the hook's stack: each stage reads what earlier stages found and adds its own.
 * A field says who sets it, after which stage it is valid, and who may change it later.
 */
#pragma once

/* Bit of skb->mark: from_pod has decided about this packet, to_net lets it pass. A pod cannot forge it: the kernel clears
 * the mark when a packet leaves a network namespace. kube-proxy uses 0x4000 and 0x8000, Cilium 0x0f00, Calico 0xffff0000.
 */
#define MARK_DECIDED 0x00200000

/* from_pod leaves this packet to netfilter's rules, which look for the bit (src/engine/masquerade/netfilter-plan.ts). */
#define MARK_NETFILTER 0x00400000

/* A fragment that was held, or the first that it waited for: comes by again, to be held no more. Never leaves the hook. */
#define MARK_AGAIN 0x00800000

#define TTL_LAST 1

enum verdict {
	PASS,     /* to the kernel's stack, or to the next program */
	DROP,     /* pkt.reason says why */
	DELIVER,  /* pkt.out_ifindex, smac, dmac: into a local pod */
	FORWARD,  /* pkt.out_ifindex, next_hop: out of a native device */
	DETOUR,   /* the same for what the stack has forwarded already: its TTL stays */
	AGAIN,    /* it is held, or comes by again with what was: counted then */
	REFUSE,   /* DROP, and the pod that sent it is told by a TCP RST */
};

/* What kind of packet it is to the flow table. From SHAPE_FLOW on it has a tuple. */
enum shape {
	SHAPE_NOT_IP,     /* ARP, other protocols, a family that is switched off */
	SHAPE_LINK,       /* ND, MLD, link-local or multicast: never forwarded, never translated */
	SHAPE_FRAGMENT,   /* a later fragment, ports unknown: another shape from datagram_find on, if the first has come by; any
			   * fragment of TCP, UDP or ICMP if they are not tracked */
	SHAPE_ICMP_ERROR, /* about another packet, which it quotes */
	SHAPE_ICMP_OTHER, /* neither echo nor error */
	SHAPE_FLOW,       /* TCP, UDP, ICMP echo: can be translated */
	SHAPE_SESSION,    /* any other protocol, all of it between two addresses is one flow: ports 0, never translated */
};

enum opens {
	OPENS_NOT,
	OPENS_ONLY,   /* TCP SYN without ACK, ICMP echo request: a first packet, that answers nothing */
	OPENS_EITHER, /* UDP, any other protocol: the first of them opens, whoever sends it */
};

enum fragment {
	FRAGMENT_NONE,  /* a whole datagram */
	FRAGMENT_FIRST, /* has the transport header */
	FRAGMENT_LATER, /* has none: l4 is where its payload starts */
};

/* Between the fragments of a datagram (stage/held.h). */
enum wait {
	WAIT_NONE,
	WAIT_FIRST, /* a later fragment whose first has not come by: may be held */
	WAIT_LATER, /* a first one for which others may be held */
};

/* How the packet stands to its flow. */
enum direction {
	DIRECTION_NONE,    /* no live record */
	DIRECTION_FORWARD, /* from the side that opened the flow */
	DIRECTION_REPLY,   /* from the other side */
};

struct pkt {
	/* Set by parse, never changed: the tuple as it arrived; for an echo reply sport is 0 and dport the identifier. */
	struct flow_key key;
	/* Set by flow_find, flow_reply or masquerade, before that equal to key: the tuple as it leaves. */
	struct addr xsaddr;
	struct addr xdaddr;
	__be16 xsport;
	__be16 xdport;

	/* Set by parse. */
	__u8 l3;          /* offset of the IP header, 14 on Ethernet */
	__u8 unsummed;    /* UDP without a checksum */
	__u16 l4;         /* offset of the transport header, valid unless SHAPE_NOT_IP */
	__u16 l3_len;     /* IP packet length as its header says; 0 for a packet over 64 KiB (BIG TCP) */
	__u8 ttl;         /* TTL or hop limit */
	__u8 v6;          /* 1 IPv6, 0 IPv4 */
	__u8 shape;       /* enum shape */
	__u8 tcp_flags;   /* TCP flags byte, 0 if not TCP */
	__u8 l4_len;      /* transport header length, TCP options included */
	__u8 opens;       /* enum opens */

	__be32 fragment_id; /* identification of the datagram, if fragment says that it is a part of one */

	/* Set by the hook. */
	__u8 hook;        /* enum hook */
	__u8 reason;      /* enum drop_reason; set by whoever decides DROP */

	/* Set by owner (stage/flow.h), by flow_reply in from_net. */
	__u16 endpoint;   /* id of the local pod whose flow it is, 0 the node or nobody */
	__u16 endpoint_flags;
	__u8 wait;        /* enum wait; set by datagram_find */
	__u32 identity;   /* security identity of that pod */

	/* Set by parse. */
	__u32 now;        /* tick */
	/* Set by flow_find and flow_reply. */
	__u8 direction;   /* enum direction */
	__u8 state;       /* bits of enum flow_state, of the record found or to be made */
	__u8 stale;       /* a dead record stands under key */
	__u8 fresh;       /* this packet opened the flow: tell it */

	/* Set by flow_find from the record, by masquerade for a new flow. */
	__u8 rule;        /* enum masquerade_rule */
	__u8 fragment;    /* enum fragment; set by parse */
	__u16 mtu;        /* of the way out; set by route_find, 0 no limit */
	__u32 rule_arg;   /* what the rule matched: prefix_rule.source for rules 5 and 7, else 0 */
	__u32 remote_identity; /* set by masquerade, 0 before */

	/* Set by route_find and pod_at. */
	__u32 out_ifindex;
	struct bpf_redir_neigh next_hop;
	struct addr route_source; /* preferred source of the route; :: unless CONFIG.masquerade_to_route_source */
	__u8 dmac[6];
	__u8 smac[6];
};

static __always_inline bool has_tuple(const struct pkt *p)
{
	return p->shape >= SHAPE_FLOW;
}

static __always_inline int drop(struct pkt *p, enum drop_reason reason)
{
	p->reason = reason;
	return -1;
}

/* 1.02 s: a record's time is moved no more often, so a busy flow does not write to its cache line. */
#define TICKS_SECOND 61

/* Ticks of the clock that all records use. Jiffies advance with CLOCK_MONOTONIC, cost nothing (the JIT reads the variable;
 * CLOCK_MONOTONIC_COARSE costs 14 ns) and began at -300 s as 32 bits see it (INITIAL_JIFFIES, include/linux/jiffies.h).
 */
static __always_inline __u32 ticks(void)
{
	__u64 jiffy = MACHINE.jiffy_ns;

	if (!jiffy)
		return bpf_ktime_get_ns() >> 24;
	return (bpf_jiffies64() * jiffy - (jiffy << 32) + 300000000000ULL) >> 24;
}

/* Bytes of the IP packets that leave: a large one is cut into segments of gso_size by the device. */
static __always_inline __u32 segment_bytes(const struct __sk_buff *skb, const struct pkt *p)
{
	return skb->gso_size ? p->l4 - p->l3 + p->l4_len + skb->gso_size : p->l3_len;
}
