/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The flow table: is this packet part of a flow that we know, and in which direction? From the tuple and the owner; for
 * every hook. A record is written once per flow, afterwards only when its state or its time changes.
 *
 * A record is alive while `expires` lies ahead. A dead one is revived, or removed by the sweep, by whoever changes
 * `expires` by compare-and-swap; FLOW_REMOVED means that the sweep has won and is about to delete it.
 *
 * Keys are copied from pkt to the stack before a lookup: the verifier takes what lies behind an argument only since 6.2.
 */
#pragma once

#define EEXIST 17
#define E2BIG 7
#define FLOW_REMOVED 0
/* 61 ticks are 1.02 s: a record's time is moved no more often, so a busy flow does not write to its cache line. */
#define TICKS_SECOND 61
#define FLOW_CLOSED (FLOW_OPENER_FIN | FLOW_REPLIER_FIN)

static __always_inline bool flow_alive(const struct flow *f, __u32 now)
{
	return f->expires != FLOW_REMOVED && (__s32)(f->expires - now) > 0;
}

/* Both sides have said that it is over. */
static __always_inline bool flow_closed(__u8 state)
{
	return (state & FLOW_RESET) || (state & FLOW_CLOSED) == FLOW_CLOSED;
}

static __always_inline struct flow *flow_in(__u32 slot, const struct flow_key *key)
{
	void *table = bpf_map_lookup_elem(&flows, &slot);

	return table ? bpf_map_lookup_elem(table, key) : NULL;
}

/* The record under a tuple, dead or alive, from the table in use or from the one being drained. */
static __always_inline struct flow *flow_get(const struct flow_key *key)
{
	struct flow *f = flow_in(0, key);

	return f ? f : flow_in(1, key);
}

static __always_inline __u32 flow_timeout(__u8 proto, __u8 state)
{
	if (proto != IPPROTO_TCP)
		return CONFIG.timeout_any;
	if (flow_closed(state))
		return CONFIG.timeout_tcp_fin;
	return state & FLOW_REPLIED ? CONFIG.timeout_tcp : CONFIG.timeout_tcp_syn;
}

static __always_inline __u32 expiry(__u32 now, __u32 timeout)
{
	__u32 at = now + timeout;

	return at == FLOW_REMOVED ? 1 : at;
}

/* Adds state bits without losing those that the other side's packet adds at the same time on another CPU. */
static __always_inline void flow_add_state(struct flow *f, __u8 bits)
{
	__u32 *word = (__u32 *)((void *)f + (offsetof(struct flow, state) & ~3));

	__sync_fetch_and_or(word, (__u32)bits << 8 * (offsetof(struct flow, state) & 3));
}

/* The state after this packet (RFC 9293 3.3.2, in as many steps as translation needs), and the record's new time. */
static __always_inline void flow_touch(struct flow *f, struct pkt *p)
{
	__u8 add = p->direction == DIRECTION_REPLY ? FLOW_REPLIED : 0;
	__u8 state = f->state;
	__u32 expires;

	if (p->tcp_flags & (TCP_FIN | TCP_RST)) {
		if (p->tcp_flags & TCP_RST)
			add |= FLOW_RESET;
		else
			add |= p->direction == DIRECTION_REPLY ? FLOW_REPLIER_FIN : FLOW_OPENER_FIN;
	}
	if (p->tcp_flags && p->opens && p->direction == DIRECTION_FORWARD && flow_closed(state)) {
		/* The opener uses its port again: a new connection under the same translation. */
		state &= ~(FLOW_CLOSED | FLOW_RESET | FLOW_REPLIED);
		f->state = state;
		f->created = p->now;
		p->fresh = 1;
	}
	if ((state | add) != state) {
		flow_add_state(f, add);
		state |= add;
	}
	p->state = state;
	expires = expiry(p->now, flow_timeout(p->key.proto, state));
	if (expires - f->expires + TICKS_SECOND > 2 * TICKS_SECOND)
		f->expires = expires;
}

/* Whether the record's owner is still who it was: the pod at hand, or the opener's address is still that pod's. Else the
 * address has changed hands and the record is dead, whatever its time says. */
static __always_inline bool owner_holds(const struct flow *f, const struct pkt *p, const struct addr *opener)
{
	return f->endpoint == p->endpoint || f->endpoint == endpoint_id(opener);
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
	if (echo && p->opens)
		return NULL;
	key_reverse(&key, &p->key);
	f = flow_get(&key);
	if (!f || !flow_alive(f, p->now) || !owner_holds(f, p, &key.saddr))
		return NULL;
	/* What answers a translated flow comes to the node's address (flow_reply), not straight to the pod's. */
	if (p->hook == HOOK_FROM_NET && (f->state & FLOW_XSOURCE))
		return NULL;
	p->direction = DIRECTION_REPLY;
	p->rule = MASQ_REPLY;
	return f;
}

/* Finds the packet's flow (flow_of), refreshes its record, and takes over its state. Gives the direction. */
__noinline int flow_find(struct pkt *p)
{
	struct flow *f;

	if (!p)
		return DIRECTION_NONE;
	f = flow_of(p);
	if (f)
		flow_touch(f, p);
	return p->direction;
}

/* Brings a dead record in slot 0 back to life for this packet's flow. False if it is not there or another CPU was faster. */
static __always_inline bool flow_revive(const struct pkt *p, const struct flow_key *key, const struct flow *made)
{
	struct flow *f = flow_in(0, key);
	__u32 seen;

	if (!f)
		return false;
	seen = f->expires;
	if (seen == FLOW_REMOVED || ((__s32)(seen - p->now) > 0 && f->endpoint == p->endpoint))
		return false;
	if (__sync_val_compare_and_swap(&f->expires, seen, made->expires) != seen)
		return false;
	f->xsaddr = made->xsaddr;
	f->xdaddr = made->xdaddr;
	f->xsport = made->xsport;
	f->xdport = made->xdport;
	f->created = made->created;
	f->endpoint = made->endpoint;
	f->proxy_port = 0;
	f->service = 0;
	f->state = made->state;
	f->rule = made->rule;
	f->identity = made->identity;
	return true;
}

/* Writes the record of a new flow from pkt. Gives 0; -EEXIST if another CPU has made it meanwhile; -1 with a reason. */
__noinline int flow_create(struct pkt *p)
{
	struct flow made = {};
	struct flow_key key;
	__u32 slot = 0;
	void *table;
	int err;

	if (!p)
		return -1;
	key = p->key;
	made.xsaddr = p->xsaddr;
	made.xdaddr = p->xdaddr;
	made.xsport = p->xsport;
	made.xdport = p->xdport;
	made.created = p->now;
	made.expires = expiry(p->now, flow_timeout(p->key.proto, p->state));
	made.endpoint = p->endpoint;
	made.state = p->state;
	made.rule = p->rule;
	made.identity = p->identity;
	p->fresh = 1;
	p->direction = DIRECTION_FORWARD;
	if (p->stale && flow_revive(p, &key, &made))
		return 0;
	table = bpf_map_lookup_elem(&flows, &slot);
	if (!table)
		return drop(p, DROP_CT_INSERT_FAILED);
	err = bpf_map_update_elem(table, &key, &made, BPF_NOEXIST);
	if (err == 0)
		return 0;
	p->fresh = 0;
	p->direction = DIRECTION_NONE;
	return err == -EEXIST ? err : drop(p, DROP_CT_INSERT_FAILED);
}

/* Makes the record of a flow without translation. If another CPU opened it at the same time, that is as good. */
static __always_inline int flow_track(struct pkt *p)
{
	int err = flow_create(p);

	if (err == -EEXIST)
		return flow_find(p) == DIRECTION_FORWARD ? 0 : drop(p, DROP_CT_INSERT_FAILED);
	return err;
}
