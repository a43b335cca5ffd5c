/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which flow is this ICMP error about? From the packet that it quotes, for from_net, from_pod and to_net. The error takes the
 * flow's translation, outside and in the quote, so that path MTU discovery and traceroute work through it. It never opens,
 * refreshes or closes a flow: anybody can send one.
 *
 *   in   router > node:  "node:41005 > remote:443 does not fit"   becomes   router > pod:  "pod:41000 > remote:443 ..."
 *   out  pod > remote:   "remote:53 > pod:41000: no such port"    becomes   node > remote: "remote:53 > node:41005 ..."
 */
#pragma once

/* An error from outside about what left under an address of the node. Sets what flow_reply sets. */
static __always_inline bool related_in(struct pkt *p, struct quote *q)
{
	struct flow_key tuple, opener;
	struct reply *r;
	struct flow *f;

	key_reverse(&tuple, &q->key);
	r = reply_get(&tuple);
	f = r ? flow_behind(r, &tuple, &opener) : NULL;
	if (!f || !flow_alive(f, p->now))
		return false;
	p->endpoint = endpoint_at(p, &opener.saddr);
	if (p->endpoint != f->endpoint)
		return false;
	p->direction = DIRECTION_REPLY;
	p->rule = f->rule;
	p->state = f->state;
	p->xdaddr = opener.saddr;
	q->source = 1;
	q->xaddr = opener.saddr;
	q->xport = opener.sport;
	return true;
}

/* An error of a pod, or of this node, about what came for a pod. Sets direction, rule and state; false if there is nothing to
 * translate. */
static __always_inline bool related_out(struct pkt *p, struct quote *q)
{
	struct flow_key key;
	struct flow *f;

	key_reverse(&key, &q->key);
	f = flow_get(&key);
	if (f && flow_alive(f, p->now) && f->endpoint == endpoint_id(&key.saddr)) {
		p->direction = DIRECTION_FORWARD;
		p->rule = f->rule;
		p->state = f->state;
		if (!(f->state & FLOW_XSOURCE))
			return false;
		if (addr_equal(&p->key.saddr, &key.saddr))
			p->xsaddr = f->xsaddr;
		q->xaddr = f->xsaddr;
		q->xport = f->xsport;
		return true;
	}
	key = q->key;
	f = flow_get(&key);
	if (f && flow_alive(f, p->now) && f->endpoint == endpoint_id(&key.daddr)) {
		p->direction = DIRECTION_REPLY;
		p->rule = MASQ_REPLY;
		p->state = f->state;
	}
	return false;
}

/* Finds the flow of an ICMP error whose tuple is kept so far, and translates the quote; the outer header is left to rewrite.
 * Sets direction, DIRECTION_NONE if there is no live flow. Gives -1 with a reason if the packet must be dropped. */
__noinline int related(struct __sk_buff *skb, struct pkt *p)
{
	struct quote q = {};

	/* An error goes to whom the quoted packet came from. */
	if (!p || quote_parse(skb, p, &q) || !addr_equal(&q.key.saddr, &p->key.daddr))
		return 0;
	if (p->hook == HOOK_FROM_NET ? related_in(p, &q) : related_out(p, &q))
		return quote_rewrite(skb, p, &q);
	return 0;
}
