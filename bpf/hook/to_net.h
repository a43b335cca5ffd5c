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

	/* 1. Rule 1: link business is never translated. */
	device = bpf_map_lookup_elem(&devices, &ifindex);
	if (p->shape == SHAPE_NOT_IP || p->shape == SHAPE_LINK || !device) {
		p->rule = MASQ_NEVER;
		return PASS;
	}
	datagram_find(skb, p);
	keep_tuple(p);

	/* 2. The node's own traffic: rules 1 and 2. */
	if (addr_equal(&p->key.saddr, p->v6 ? &device->addr6 : &device->addr4) || (!endpoint_at_source(p) && bpf_map_lookup_elem(&node_addrs, &p->key.saddr))) {
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

	/* 3. Whose packet did the stack route? Rule 10: forwarded traffic that is no pod's. */
	if (!p->endpoint) {
		p->rule = MASQ_FORWARDED;
		return PASS;
	}

	/* 4. A known flow keeps its translation; rule 3: a reply has none. One that stayed with the stack until now is decided anew. */
	if (has_tuple(p) && flow_find(p) == DIRECTION_FORWARD)
		flow_strayed(p);
	else if (p->shape == SHAPE_ICMP_ERROR && related(skb, p))
		return DROP;
	if (p->direction == DIRECTION_NONE)
		masquerade_rule(p);

	/* 5. The stack has routed it as the pod's: what leaves under the node's address may have another way, and source. */
	p->out_ifindex = ifindex;
	if (leaves_as_node(p) && route_again(skb, p, device->flags & DEVICE_BY_SOURCE))
		return DROP;

	/* 6. No flow: choose the source, and open one if this is a first packet. */
	if (p->direction == DIRECTION_NONE) {
		if (masquerade(p))
			return DROP;
		if (p->opens && flow_open(skb, p))
			return DROP;
	}

	/* 7. Translate; the stack has routed it and sends it, unless it goes another way. */
	return send(skb, p, p->out_ifindex == ifindex ? PASS : DETOUR);
}
