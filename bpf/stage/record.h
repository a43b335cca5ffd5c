/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The life of a record and of its index entry, for stage/flow.h, stage/port.h, stage/open.h and the sweep. One word decides,
 * flow.expires: ahead of now, alive; behind, dead; FLOW_TAKEN, somebody is ending or reopening it. It changes by
 * compare-and-swap only, from the value by which the record was judged; whoever loses leaves the record alone.
 *
 * Whoever takes a record owns it and the entry that names it. The translation in a record never changes: a flow with
 * another translation gets another record. So no reader ever sees half of one.
 */
#pragma once

#define EEXIST 17
#define FLOW_TAKEN 0
/* 61 ticks are 1.02 s: a record's time is moved no more often, so a busy flow does not write to its cache line. */
#define TICKS_SECOND 61
#define FLOW_CLOSED (FLOW_OPENER_FIN | FLOW_REPLIER_FIN)

/* Read once: another CPU may change it between judging it and swapping it. */
static __always_inline __u32 flow_expires(const struct flow *f)
{
	return *(const volatile __u32 *)&f->expires;
}

static __always_inline bool alive(__u32 expires, __u32 now)
{
	return expires != FLOW_TAKEN && (__s32)(expires - now) > 0;
}

static __always_inline bool flow_alive(const struct flow *f, __u32 now)
{
	return alive(flow_expires(f), now);
}

static __always_inline bool flow_swap(struct flow *f, __u32 seen, __u32 expires)
{
	return __sync_val_compare_and_swap(&f->expires, seen, expires) == seen;
}

/* True for one CPU only, which then owns the record and its entry. */
static __always_inline bool flow_take(struct flow *f, __u32 seen)
{
	return seen != FLOW_TAKEN && flow_swap(f, seen, FLOW_TAKEN);
}

/* Both sides have said that it is over. */
static __always_inline bool flow_closed(__u8 state)
{
	return (state & FLOW_RESET) || (state & FLOW_CLOSED) == FLOW_CLOSED;
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

	return at == FLOW_TAKEN ? 1 : at;
}

/* Lets others see what was written to the record before they see that it is alive. */
static __always_inline void flow_give(struct flow *f, __u32 expires)
{
	__sync_lock_test_and_set(&f->expires, expires);
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

static __always_inline struct reply *reply_in(__u32 slot, const struct flow_key *tuple)
{
	void *table = bpf_map_lookup_elem(&replies, &slot);

	return table ? bpf_map_lookup_elem(table, tuple) : NULL;
}

static __always_inline struct reply *reply_get(const struct flow_key *tuple)
{
	struct reply *r = reply_in(0, tuple);

	return r ? r : reply_in(1, tuple);
}

