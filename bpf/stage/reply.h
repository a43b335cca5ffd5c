/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The index of translated flows from their far side: which flow does this tuple answer? An entry by itself means nothing; it
 * counts only while flows holds a live record of the same opener, of the pod that has the opener's address now, whose
 * translation gives this very tuple. For from_net, the choice of ports, and the sweep.
 */
#pragma once

/* The record that an index entry stands for, given the tuple of the reply. Sets `key` to the opener's tuple. NULL unless the
 * record names this very tuple; it may be dead. */
static __noinline struct flow *flow_behind(const struct reply *r, const struct flow_key *tuple, struct flow_key *key)
{
	struct flow *f;

	key->saddr = r->saddr;
	key->daddr = tuple->saddr;
	key->sport = r->sport;
	key->dport = tuple->sport;
	key->proto = tuple->proto;
	key->pad[0] = 0;
	key->pad[1] = 0;
	key->pad[2] = 0;
	f = flow_get(key);
	if (!f || !(f->state & FLOW_XSOURCE) || f->xsport != tuple->dport || !addr_equal(&f->xsaddr, &tuple->daddr))
		return NULL;
	return f;
}

/* A packet from outside to an address of the node: is it the answer to a translated flow? Sets what flow_find sets, the
 * owner, and where to deliver (out_ifindex is 0 for a flow of the node itself). Gives the direction.
 */
__noinline int flow_reply(struct pkt *p)
{
	struct flow_key key;
	struct reply *r;
	struct flow *f;

	if (!p || (p->opens && p->key.proto != IPPROTO_TCP && p->key.proto != IPPROTO_UDP))
		return DIRECTION_NONE;
#pragma clang loop unroll(disable)
	for (int look = 0; look < LOOKS; look++) {
		key = p->key;
		r = reply_get(&key);
		f = r ? flow_behind(r, &p->key, &key) : NULL;
		if (!f)
			return DIRECTION_NONE;
		p->endpoint = endpoint_at(p, &key.saddr);
		if (p->endpoint != f->endpoint)
			return DIRECTION_NONE;
		p->direction = DIRECTION_REPLY;
		if (flow_touch(f, p)) {
			p->rule = f->rule;
			p->xsaddr = key.daddr;
			p->xdaddr = key.saddr;
			p->xsport = p->key.sport;
			p->xdport = key.sport;
			return DIRECTION_REPLY;
		}
		p->direction = DIRECTION_NONE;
	}
	return DIRECTION_NONE;
}
