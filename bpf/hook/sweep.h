/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Removes dead records and the index entries that nobody stands behind. Run by user space through BPF_PROG_TEST_RUN, at an
 * interval that follows occupancy only; nothing waits for it, because a dead record's port is free without it.
 *
 * A packet may revive a record, or take over an entry, in the same instant: both sides decide by compare-and-swap, on
 * flow.expires (to FLOW_REMOVED) and reply.claim, and the loser leaves it alone.
 */
#pragma once

struct sweeping {
	__u64 removed, visited, replies_removed, masqueraded;
	__u32 now;
};

static __always_inline void remove_entry(void *table, const struct flow_key *tuple, struct reply *r, struct sweeping *s)
{
	__u32 seen = r->claim;

	if (seen == s->now || __sync_val_compare_and_swap(&r->claim, seen, s->now) != seen)
		return;
	if (bpf_map_delete_elem(table, tuple) == 0)
		s->replies_removed++;
}

static long sweep_flow(void *table, struct flow_key *key, struct flow *f, struct sweeping *s)
{
	__u32 seen = f->expires;
	bool gone;

	s->visited++;
	gone = f->endpoint && f->endpoint != endpoint_id(f->state & FLOW_INBOUND ? &key->daddr : &key->saddr);
	if (flow_alive(f, s->now) && !gone) {
		s->masqueraded += (f->state & FLOW_XSOURCE) != 0;
		return 0;
	}
	if (seen == FLOW_REMOVED || __sync_val_compare_and_swap(&f->expires, seen, FLOW_REMOVED) != seen)
		return 0;
	if (bpf_map_delete_elem(table, key) == 0)
		s->removed++;
	return 0;
}

static long sweep_reply(void *table, struct flow_key *tuple, struct reply *r, struct sweeping *s)
{
	struct flow_key opener;
	struct flow *f;

	f = flow_behind(r, tuple, &opener);
	if (!f && s->now - r->claim > TICKS_SECOND)
		remove_entry(table, tuple, r, s);
	return 0;
}

static __always_inline void sweep_slot(__u32 slot, struct sweeping *s)
{
	void *table = bpf_map_lookup_elem(&flows, &slot);

	if (table)
		bpf_for_each_map_elem(table, sweep_flow, s, 0);
	table = bpf_map_lookup_elem(&replies, &slot);
	if (table)
		bpf_for_each_map_elem(table, sweep_reply, s, 0);
}

SEC("syscall")
int sweep(struct sweep_result *result)
{
	struct sweeping s = { .now = ticks() };

	sweep_slot(0, &s);
	sweep_slot(1, &s);
	result->visited = s.visited;
	result->removed = s.removed;
	result->replies_removed = s.replies_removed;
	result->masqueraded = s.masqueraded;
	return 0;
}
