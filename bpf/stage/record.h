/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The life of a record and of its index entry, for stage/flow.h, stage/port.h, stage/open.h and the sweep. One word decides,
 * flow.expires: ahead of now, alive; behind, dead; FLOW_TAKEN, somebody is ending or reopening it, or it has moved to a larger
 * table; FLOW_MOVING, alive and on its way there. It changes by compare-and-swap only, from the value by which the record was
 * judged; whoever loses leaves the record alone.
 *
 * Whoever takes a record owns it and the entry that names it. The translation in a record never changes: a flow with
 * another translation gets another record. So no reader ever sees half of one.
 */
#pragma once

#define FLOW_TAKEN 0
#define FLOW_MOVING 1
/* As FLOW_MOVING, and a packet has come meanwhile: the mover refreshes the record in its place. */
#define FLOW_TOUCHED 2
#define FLOW_CLOSED (FLOW_OPENER_FIN | FLOW_REPLIER_FIN)

/* Read once: another CPU may change it between judging it and swapping it. */
static __always_inline __u32 flow_expires(const struct flow *f)
{
	return *(const volatile __u32 *)&f->expires;
}

static __always_inline bool alive(__u32 expires, __u32 now)
{
	if (expires <= FLOW_TOUCHED)
		return expires != FLOW_TAKEN;
	return (__s32)(expires - now) > 0;
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
	return seen > FLOW_TOUCHED && flow_swap(f, seen, FLOW_TAKEN);
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

	return at <= FLOW_TOUCHED ? FLOW_TOUCHED + 1 : at;
}

/* Lets others see what was written to the record before they see that it is alive. */
static __always_inline void flow_give(struct flow *f, __u32 expires)
{
	__sync_lock_test_and_set(&f->expires, expires);
}

/* Adds state bits without losing those that the other side's packet adds at the same time on another CPU. Gives all bits. */
static __always_inline __u8 flow_add_state(struct flow *f, __u8 bits)
{
	__u32 *word = (__u32 *)((void *)f + (offsetof(struct flow, state) & ~3));
	__u32 shift = 8 * (offsetof(struct flow, state) & 3);

	return __sync_fetch_and_or(word, (__u32)bits << shift) >> shift | bits;
}

/* The opener uses the port of its closed connection again: a new one under the same translation. */
static __always_inline bool flow_restart(struct flow *f, struct pkt *p, __u32 seen)
{
	if (!flow_take(f, seen))
		return seen > FLOW_TOUCHED && flow_alive(f, p->now);
	p->state = f->state & ~(FLOW_CLOSED | FLOW_RESET | FLOW_REPLIED);
	p->fresh = 1;
	f->state = p->state;
	f->created = p->now;
	flow_give(f, expiry(p->now, flow_timeout(p->key.proto, p->state)));
	return true;
}

static __always_inline void flow_reply_tuple(struct flow_key *tuple, const struct flow *f, __u8 proto)
{
	tuple->saddr = f->xdaddr;
	tuple->daddr = f->xsaddr;
	tuple->sport = f->xdport;
	tuple->dport = f->xsport;
	tuple->proto = proto;
}

/* Both sides have closed the flow: who looks for a port where none is left may have its. */
static __noinline void flow_close(const struct flow *f, __u8 proto, __u32 now)
{
	struct flow_key tuple = {};

	if (!(f->state & FLOW_XSOURCE))
		return;
	flow_reply_tuple(&tuple, f, proto);
	crowd_release(&tuple, now);
}

/* Moves the record's time on. False if the record died or went to another table meanwhile. */
static __always_inline bool flow_refresh(struct flow *f, __u32 seen, __u32 expires, __u32 now)
{
	if (seen > FLOW_TOUCHED) {
		if (expires - seen + TICKS_SECOND <= 2 * TICKS_SECOND || flow_swap(f, seen, expires))
			return true;
		/* Another CPU that moved it on was as right as this one; one that took it was faster. */
		seen = flow_expires(f);
		if (seen > FLOW_TOUCHED)
			return alive(seen, now);
	}
	if (seen == FLOW_MOVING && flow_swap(f, seen, FLOW_TOUCHED))
		return true;
	return flow_expires(f) == FLOW_TOUCHED;
}

/* The state after this packet (RFC 9293 3.3.2, in as many steps as translation needs), and the record's new time. False if the
 * record died or moved meanwhile: then whoever found it looks once more. */
static __noinline bool flow_touch(struct flow *f, struct pkt *p)
{
	__u8 add = p->direction == DIRECTION_REPLY ? FLOW_REPLIED : 0;
	__u32 seen = flow_expires(f);
	__u8 state = f->state, before = state;
	bool kept;

	if (!alive(seen, p->now))
		return false;
	if (p->tcp_flags & (TCP_FIN | TCP_RST)) {
		if (p->tcp_flags & TCP_RST)
			add |= FLOW_RESET;
		else
			add |= p->direction == DIRECTION_REPLY ? FLOW_REPLIER_FIN : FLOW_OPENER_FIN;
	}
	if (p->tcp_flags && p->opens && p->direction == DIRECTION_FORWARD && flow_closed(state))
		return flow_restart(f, p, seen);
	if ((state | add) != state) {
		state = flow_add_state(f, add);
		/* What is added after the mover has looked for the last time stays behind. */
		if (flow_expires(f) == FLOW_TAKEN)
			return false;
	}
	p->state = state;
	kept = flow_refresh(f, seen, expiry(p->now, flow_timeout(p->key.proto, state)), p->now);
	if (flow_closed(state) && !flow_closed(before))
		flow_close(f, p->key.proto, p->now);
	return kept;
}
