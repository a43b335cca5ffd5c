/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Removes dead records and the index entries that nobody stands behind. Run by user space through BPF_PROG_TEST_RUN, at an
 * interval that follows occupancy only; nothing waits for it, because a dead record's port is free without it. A record goes
 * with its index entry; entries that lost their record otherwise are looked for only when asked, because each costs a lookup in
 * a table that no cache holds (1 Mi records: 560 ms).
 *
 * A packet may refresh, reopen or end a record in the same instant: flow.expires decides (stage/record.h). An index entry
 * without a record is left by a fault only; it goes when it is older than any opening can take.
 */
#pragma once

struct sweeping {
	struct sweep_result *result;
	__u32 now;
	__u32 ended;
	bool again;
	bool addresses;
};

/* Whether the node has lost the address that the flow is translated to: no answer can come back. */
static __always_inline bool address_gone(const struct flow *f)
{
	struct addr source = f->xsaddr;

	return (f->state & FLOW_XSOURCE) && !bpf_map_lookup_elem(&node_addrs, &source);
}

static long sweep_flow(void *table, struct flow_key *in_map, struct flow *f, struct sweeping *s)
{
	struct sweep_result *result = s->result;
	struct flow_key key = *in_map;
	__u32 seen = flow_expires(f);
	int entries;

	if (!s->again)
		result->visited++;
	if (alive(seen, s->now)) {
		if (owner_gone(f->endpoint) || (s->addresses && address_gone(f))) {
			/* A packet may be at work on it: dead from now on, removed by the next walk. */
			if (flow_swap(f, seen, expiry(s->now, 0)))
				__sync_fetch_and_or(&s->ended, 1);
		} else if (!s->again && (f->state & FLOW_XSOURCE)) {
			result->masqueraded++;
		}
		return 0;
	}
	entries = flow_bury(table, &key, f, seen, s->now);
	if (entries >= 0) {
		result->replies_removed += entries;
		result->removed++;
	}
	return 0;
}

static long sweep_reply(void *table, struct flow_key *in_map, struct reply *r, struct sweeping *s)
{
	struct flow_key tuple = *in_map, opener;
	__u32 seen = r->claim;

	if (s->now - seen <= TICKS_SECOND || flow_behind(r, &tuple, &opener))
		return 0;
	/* The element may have become somebody else's entry meanwhile; then it is younger. */
	if (__sync_val_compare_and_swap(&r->claim, seen, s->now) == seen && bpf_map_delete_elem(table, &tuple) == 0)
		s->result->replies_removed++;
	return 0;
}

static __always_inline void sweep_flows(__u32 slot, struct sweeping *s)
{
	void *table = flow_table(slot);

	if (table)
		bpf_for_each_map_elem(table, sweep_flow, s, 0);
}

static __always_inline void sweep_replies(__u32 slot, struct sweeping *s)
{
	void *table = reply_table(slot);

	if (table)
		bpf_for_each_map_elem(table, sweep_reply, s, 0);
}

static void tell_ended(const struct held *h)
{
	struct flow_event *event = CONFIG.events >= 1 && h->hook != HOOK_FROM_NET ? event_reserve() : NULL;

	if (!event)
		return;
	__builtin_memset(event, 0, sizeof(*event));
	event->time = bpf_ktime_get_ns();
	event->saddr = h->key.saddr;
	event->daddr = h->key.daddr;
	event->xsaddr = h->key.saddr;
	event->xdaddr = h->key.daddr;
	event->ifindex = h->ifindex;
	event->len = h->len + ETH_HLEN;
	event->endpoint = h->endpoint;
	event->kind = EVENT_DROP;
	event->hook = h->hook;
	event->reason = DROP_FRAG_NOT_FOUND;
	event->rule = MASQ_POD;
	event->proto = h->proto;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

/* Ends a fragment whose first has not come in time, or whose pod is gone. */
static long sweep_held(void *map, __u32 *place, struct held *h, struct sweeping *s)
{
	__u32 since = held_since(h);

	if (!held_late(h, since, s->now) && !(since > HELD_BUSY && owner_gone(h->endpoint) && held_take(h, since)))
		return 0;
	held_end(h);
	tell_ended(h);
	held_give(h, HELD_FREE);
	return 0;
}

SEC("syscall")
int sweep(struct sweep_result *result)
{
	struct sweeping s = { .result = result, .now = ticks(), .addresses = result->mode & SWEEP_ADDRESSES };

	result->visited = 0;
	result->removed = 0;
	result->replies_removed = 0;
	result->masqueraded = 0;
	result->moved = 0;
	result->left = 0;
	if (result->mode & SWEEP_MOVE) {
		move_all(result, s.now);
		return 0;
	}
	bpf_for_each_map_elem(&frag_held, sweep_held, &s, 0);
	if (result->mode & SWEEP_FRAGMENTS)
		return 0;
	sweep_flows(0, &s);
	sweep_flows(1, &s);
	if (s.ended) {
		s.again = true;
		sweep_flows(0, &s);
		sweep_flows(1, &s);
	}
	if (result->mode & SWEEP_INDEX) {
		sweep_replies(0, &s);
		sweep_replies(1, &s);
	}
	return 0;
}
