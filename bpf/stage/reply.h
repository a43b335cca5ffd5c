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

static __always_inline struct reply *reply_in(__u32 slot, const struct flow_key *tuple)
{
	void *table = bpf_map_lookup_elem(&replies, &slot);

	return table ? bpf_map_lookup_elem(table, tuple) : NULL;
}

static __noinline struct reply *reply_get(const struct flow_key *tuple)
{
	struct reply *r = reply_in(0, tuple);

	return r ? r : reply_in(1, tuple);
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
	key = p->key;
	r = reply_get(&key);
	if (!r)
		return DIRECTION_NONE;
	f = flow_behind(r, &p->key, &key);
	if (!f)
		return DIRECTION_NONE;
	p->endpoint = endpoint_at(p, &key.saddr);
	if (p->endpoint != f->endpoint)
		return DIRECTION_NONE;
	p->direction = DIRECTION_REPLY;
	if (!flow_touch(f, p)) {
		p->direction = DIRECTION_NONE;
		return DIRECTION_NONE;
	}
	p->rule = f->rule;
	p->xsaddr = key.daddr;
	p->xdaddr = key.saddr;
	p->xsport = p->key.sport;
	p->xdport = key.sport;
	return DIRECTION_REPLY;
}

static __always_inline void flow_forget(__u32 slot, const struct flow_key *key)
{
	void *table = bpf_map_lookup_elem(&flows, &slot);

	if (table)
		bpf_map_delete_elem(table, key);
}

/* For the CPU that has taken the record under `key` in a slot: deletes the entry that names it, then the record. `key` must not
 * point into the map. Gives the number of entries deleted. */
static __always_inline int flow_remove(__u32 slot, const struct flow *f, const struct flow_key *key, __u32 now)
{
	void *table = bpf_map_lookup_elem(&replies, &slot);
	struct flow_key tuple = {};
	int entries = 0;

	flow_reply_tuple(&tuple, f, key->proto);
	if (table && (f->state & FLOW_XSOURCE))
		entries = bpf_map_delete_elem(table, &tuple) == 0;
	flow_forget(slot, key);
	if (entries)
		crowd_release(&tuple, now);
	return entries;
}
