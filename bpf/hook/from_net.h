/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet has arrived at the node (tc ingress of a native device): the answer to a masqueraded flow, something for a local
 * pod by native routing, or the node's own.
 */
#pragma once

/* Answers to what the programs translate skip the stack also where netfilter masquerades: it knows nothing of them. */
static __always_inline bool answers_redirected(const struct pkt *p)
{
	return p->endpoint && (CONFIG.host_routing || CONFIG.netfilter) && p->ttl > TTL_LAST;
}

static __always_inline int from_net_path(struct __sk_buff *skb, struct pkt *p)
{
	bool deliver;
	int verdict;

	/* 1. What has no tuple is the stack's; a fragment whose first may yet tell of a pod is also kept for that. */
	datagram_find(skb, p);
	if (p->wait == WAIT_FIRST && bpf_map_lookup_elem(&node_addrs, &p->key.daddr))
		return fragment_hold(skb, p, PASS);
	if (!has_tuple(p) && p->shape != SHAPE_ICMP_ERROR)
		return PASS;

	/* 2. A packet like it was decided about a moment ago. */
	verdict = recall(skb, p);
	if (verdict != PASS)
		return rewrite(skb, p) ? DROP : verdict;

	/* 3. An error about what a translated flow sent goes to the flow's opener; any other is the stack's. */
	if (p->shape == SHAPE_ICMP_ERROR) {
		keep_tuple(p);
		if (related(skb, p) || rewrite(skb, p))
			return DROP;
		deliver = p->direction == DIRECTION_REPLY && answers_redirected(p);
		return deliver ? DELIVER : PASS;
	}

	/* 4. The answer to a translated flow: undo the translation. Flows of the node itself end in its stack. A used-up TTL is the
	 * stack's to answer, after that. */
	if (flow_reply(p) == DIRECTION_REPLY) {
		if (answers_redirected(p))
			verdict = remember(skb, p, DELIVER);
		return send(skb, p, verdict);
	}

	/* 5. For a local pod, under its own address: track who opened the flow. Else it is not ours. */
	p->endpoint = endpoint_at(p, &p->key.daddr);
	if (!p->endpoint)
		return PASS;
	if (flow_find(p) == DIRECTION_NONE && p->opens) {
		p->state = FLOW_INBOUND;
		p->rule = CONFIG.netfilter ? MASQ_NETFILTER : MASQ_REPLY;
		if (flow_track(p))
			return DROP;
	}

	/* 6. Hand it to the pod. */
	if ((CONFIG.host_routing || (CONFIG.netfilter && before_netfilter(p))) && p->ttl > TTL_LAST)
		verdict = remember(skb, p, DELIVER);
	return verdict;
}
