/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The flow table: is this packet part of a flow that we know, and in which direction? From the tuple and the owner; for
 * every hook.
 *
 * Keys are copied from pkt to the stack before a lookup: the verifier takes what lies behind an argument only since 6.2.
 */
#pragma once

/* A record that was found and then moved to a larger table is there when one looks again. */
#define LOOKS 2

/* Whether the record's owner is still who it was: the pod at hand, or the opener's address is still that pod's. Else the
 * address has changed hands and the record is dead, whatever its time says. */
static __always_inline bool owner_holds(const struct flow *f, const struct pkt *p, const struct addr *opener)
{
	return f->endpoint == p->endpoint || f->endpoint == endpoint_id(opener);
}

/* Whether the pod of this id, to which a record belongs, is gone. For walks over the table: 8 KiB of bits stay in the processor's
 * cache, where the lookup of the pod by its address costs as much as the walk. */
static __always_inline bool owner_gone(__u32 id)
{
	__u32 word = id >> 6;
	__u64 *bits;

	if (!id)
		return false;
	bits = bpf_map_lookup_elem(&endpoint_ids, &word);
	return bits && !(*bits >> (id & 63) & 1);
}

/* No translation: the packet leaves with the tuple that it came with. */
static __always_inline void keep_tuple(struct pkt *p)
{
	p->xsaddr = p->key.saddr;
	p->xdaddr = p->key.daddr;
	p->xsport = p->key.sport;
	p->xdport = p->key.dport;
}

static __always_inline void take_translation(struct pkt *p, const struct flow *f)
{
	p->xsaddr = f->xsaddr;
	p->xdaddr = f->xdaddr;
	p->xsport = f->xsport;
	p->xdport = f->xdport;
	p->rule = f->rule;
}

/* The record of which the packet is part, as the opener's or as the other side's. Sets direction, stale, and translation and
 * rule: those of the record for the opener's packets, none for the other side's. NULL if there is no live one.
 */
static __always_inline struct flow *flow_of(struct pkt *p)
{
	bool echo = p->key.proto != IPPROTO_TCP && p->key.proto != IPPROTO_UDP;
	struct flow_key key = p->key;
	struct flow *f;

	/* With identifier 0 an echo request and an echo reply have the same tuple: a reply opens nothing, a request answers none. */
	if (!echo || p->opens) {
		f = flow_get(&key);
		if (f && flow_alive(f, p->now) && owner_holds(f, p, &key.saddr)) {
			p->direction = DIRECTION_FORWARD;
			take_translation(p, f);
			return f;
		}
		p->stale = f != NULL;
	}
	keep_tuple(p);
	/* A SYN answers nothing, whatever flow the other side once opened between these ports. */
	if (p->opens == OPENS_ONLY)
		return NULL;
	key_reverse(&key, &p->key);
	f = flow_get(&key);
	if (!f || !flow_alive(f, p->now) || !owner_holds(f, p, &key.saddr))
		return NULL;
	/* What answers a translated flow comes to the node's address (flow_reply), not straight to the pod's. */
	if (p->hook == HOOK_FROM_NET && (f->state & FLOW_XSOURCE))
		return NULL;
	p->direction = DIRECTION_REPLY;
	p->rule = CONFIG.netfilter && f->rule == MASQ_NETFILTER ? MASQ_NETFILTER : MASQ_REPLY;
	return f;
}

/* Whether the flow is older than the mode in which netfilter masquerades: such a one stays with the programs to its end. In the
 * stack its next packet would be taken for the first of a flow that the pod opens, and be given another source. */
static __always_inline bool before_netfilter(const struct pkt *p)
{
	return p->direction != DIRECTION_NONE && p->rule != MASQ_NETFILTER;
}

/* Finds the packet's flow (flow_of), refreshes its record, and takes over its state. Gives the direction. */
__noinline int flow_find(struct pkt *p)
{
	struct flow *f;

	if (!p)
		return DIRECTION_NONE;
#pragma clang loop unroll(disable)
	for (int look = 0; look < LOOKS; look++) {
		f = flow_of(p);
		if (!f || flow_touch(f, p))
			return p->direction;
		p->direction = DIRECTION_NONE;
		keep_tuple(p);
	}
	return DIRECTION_NONE;
}
