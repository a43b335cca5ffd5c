/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The node's stack hands a packet to a pod (tc egress of the pod's device): from the node itself, or from anywhere when the
 * stack routes. The pod's answers must be known as answers, so flows are tracked here; nothing is ever dropped.
 */
#pragma once

/* What came in by a native device was recorded there if it was for the pod. If it was for the node, netfilter made it the pod's:
 * it answers what the pod has opened, or not, as nobody here can tell. */
static __always_inline bool from_network(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ingress_ifindex;

	return bpf_map_lookup_elem(&devices, &ifindex) != NULL;
}

static __always_inline int to_pod_path(struct __sk_buff *skb, struct pkt *p)
{
	/* 1. What has no tuple opens nothing. */
	if (!has_tuple(p))
		return PASS;

	/* 2. Which pod is it for? */
	p->endpoint = endpoint_at(p, &p->key.daddr);
	if (!p->endpoint)
		return PASS;

	/* 3. A new flow is opened from outside the pod. If the table is full, the packet goes on without a record. */
	if (flow_find(p) == DIRECTION_NONE && p->opens && !(CONFIG.netfilter && from_network(skb))) {
		p->state = FLOW_INBOUND;
		p->rule = CONFIG.netfilter ? MASQ_NETFILTER : MASQ_LOCAL;
		if (flow_track(p))
			p->reason = FORWARDED;
	}
	return PASS;
}
