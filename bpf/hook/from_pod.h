/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A pod has sent a packet (tc ingress of the pod's device on the node). With host routing everything about it is decided
 * here, and the kernel's stack sees only what is meant for the node or what the kernel must answer.
 */
#pragma once

static __always_inline int from_pod_path(struct __sk_buff *skb, struct pkt *p)
{
	int route, verdict;

	/* 1. ARP, ND, multicast and link-local are the stack's. */
	if (p->shape == SHAPE_NOT_IP || p->shape == SHAPE_LINK)
		return PASS;

	/* 2. A packet like it was decided about a moment ago. */
	verdict = recall(skb, p);
	if (verdict != PASS)
		return rewrite(skb, p) ? DROP : verdict;

	/* 3. Which pod is it? A pod sends under its own address only. */
	if (endpoint_sender(skb, p))
		return DROP;

	/* 4. Without host routing the stack routes the packet; to_net or to_pod continue. */
	if (!CONFIG.host_routing && !CONFIG.netfilter)
		return PASS;

	/* 5. Part of a known flow? Then its translation stands. */
	if (p->fragment)
		datagram_find(skb, p);
	if (has_tuple(p))
		flow_find(p);
	else
		keep_tuple(p);
	if (CONFIG.netfilter && !before_netfilter(p)) {
		skb->mark |= MARK_NETFILTER;
		return PASS;
	}

	/* 6. Where does it go, and if there is no flow yet, must it leave under the node's address (rules 5 to 9)? What the kernel
	 * must answer goes to it as the pod sent it. */
	route = route_find(skb, p);
	if (route == ROUTE_STACK)
		return PASS;

	/* 7. An error about another packet takes the translation of that packet's flow, or without one the pod's own way. */
	if (p->shape == SHAPE_ICMP_ERROR && route == ROUTE_DEVICE) {
		if (related(skb, p))
			return DROP;
		if (p->direction != DIRECTION_NONE && !leaves_as_node(p))
			route = route_find(skb, p);
	}

	/* 8. No flow: choose the source, and open one if this is a first packet. */
	if (p->direction == DIRECTION_NONE) {
		if (route != ROUTE_DEVICE)
			masquerade_no(p, MASQ_LOCAL);
		else if (masquerade(p))
			return p->reason == DROP_CT_CANT_CREATE && p->key.proto == IPPROTO_TCP ? REFUSE : DROP;
		if (p->opens && flow_open(skb, p))
			return DROP;
	}

	/* 9. Translate and send. */
	if (route == ROUTE_NODE || (route == ROUTE_DEVICE && p->rule == MASQ_UNMANAGED))
		return PASS;
	verdict = route == ROUTE_POD ? DELIVER : FORWARD;
	/* It keeps no SYN, and a call costs 7 ns. */
	if (!(p->tcp_flags & TCP_SYN))
		remember(skb, p, verdict);
	return send(skb, p, verdict);
}
