/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The one exit of every hook: carries the verdict out, counts the packet, tells user space of drops and new flows. */
#pragma once

/* Gives the code that the kernel expects of a tc program: for PASS "next", so that programs after ours see the packet. Inline as
 * it is called once: a call costs every packet 7 ns. */
static __always_inline int finish(struct __sk_buff *skb, struct pkt *p, int verdict)
{
	int code = TC_ACT_UNSPEC;

	if (verdict == DELIVER || verdict == FORWARD) {
		if (rewrite_ttl(skb, p) || (verdict == DELIVER && rewrite_mac(skb, p)))
			verdict = DROP;
	}
	if (verdict == DELIVER) {
		code = bpf_redirect_peer(p->out_ifindex, 0);
	} else if (verdict == FORWARD || verdict == DETOUR) {
		skb->mark |= MARK_DECIDED;
		code = bpf_redirect_neigh(p->out_ifindex, &p->next_hop, sizeof(p->next_hop), 0);
	} else if (verdict != PASS) {
		code = TC_ACT_SHOT;
		if (p->reason == DROP_FRAG_NOT_FOUND)
			verdict = fragment_hold(skb, p, DROP);
	}
	if (verdict != AGAIN)
		count(p->hook, p->reason, skb->len);
	if ((p->reason && CONFIG.events >= 1) || (p->fresh && CONFIG.events >= 2))
		tell(skb, p, p->reason ? EVENT_DROP : EVENT_NEW_FLOW);
	return verdict == REFUSE ? refuse(skb, p) : code;
}
