/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet leaves the node (tc egress of a native device). from_pod has dealt with most pods' packets; here come those that
 * the node's stack routed, the node's own, and what it forwards for others.
 */
#pragma once

/* Whether it is the tunnel's own packet: rule 1. */
static __always_inline bool tunnel_packet(const struct pkt *p)
{
	return CONFIG.tunnel_port && p->key.proto == IPPROTO_UDP && p->key.dport == bpf_htons(CONFIG.tunnel_port);
}

static __always_inline int to_net_path(struct __sk_buff *skb, struct pkt *p)
{
	__u32 ifindex = skb->ifindex;
	struct device *device;

	/* 1. Decided in from_pod. */
	if (skb->mark & MARK_DECIDED)
		return PASS;

	/* 2. Read the headers; the kernel has judged them already. Rule 1: link business is never translated. */
	if (parse(skb, p)) {
		p->reason = FORWARDED;
		return PASS;
	}
	device = bpf_map_lookup_elem(&devices, &ifindex);
	if (p->shape == SHAPE_NOT_IP || p->shape == SHAPE_LINK || !device) {
		p->rule = MASQ_NEVER;
		return PASS;
	}
	datagram_find(p);
	keep_tuple(p);

	/* 3. The node's own traffic: rules 1 and 2. */
	if (addr_equal(&p->key.saddr, p->v6 ? &device->addr6 : &device->addr4)) {
		p->rule = tunnel_packet(p) ? MASQ_NEVER : MASQ_HOST;
		if (p->shape == SHAPE_ICMP_ERROR)
			return related(skb, p) ? DROP : PASS;
		if (p->shape != SHAPE_FLOW || p->rule == MASQ_NEVER)
			return PASS;
		if (flow_find(p) == DIRECTION_NONE) {
			masquerade_host(p);
			if ((p->state & FLOW_XSOURCE) && flow_open(skb, p))
				return DROP;
		}
		return rewrite(skb, p) ? DROP : PASS;
	}

	/* 4. Whose packet did the stack route? Rule 10: forwarded traffic that is no pod's. */
	if (!endpoint_at_source(p)) {
		p->rule = MASQ_FORWARDED;
		return PASS;
	}

	/* 5. A known flow keeps its translation; rule 3: a reply has none. Else decide, and open it. */
	if (p->shape == SHAPE_FLOW)
		flow_find(p);
	else if (p->shape == SHAPE_ICMP_ERROR && related(skb, p))
		return DROP;
	if (p->direction == DIRECTION_NONE) {
		p->out_ifindex = ifindex;
		if (masquerade(p))
			return DROP;
		if (p->shape == SHAPE_FLOW && p->opens && flow_open(skb, p))
			return DROP;
	}

	/* 6. Translate; the stack has routed it and sends it. */
	return rewrite(skb, p) ? DROP : PASS;
}
