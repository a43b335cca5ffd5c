/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Removes dead records and the index entries that nobody stands behind. Run by user space through BPF_PROG_TEST_RUN, at an
 * interval that follows occupancy only; nothing waits for it, because a dead record's port is free without it. A record goes
 * with its index entry; entries that lost their record otherwise (a revived record took another port) are looked for only when
 * asked, because each costs a lookup in a table that no cache holds (1 Mi records: 560 ms).
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

/* The index entry of a record that has just been removed, unless somebody took it over. */
static __always_inline void remove_reply(const struct flow_key *key, const struct flow *f, struct sweeping *s)
{
	struct flow_key tuple = {};
	struct reply *r;
	__u32 slot = 0;
	void *table;

	tuple.saddr = f->xdaddr;
	tuple.daddr = f->xsaddr;
	tuple.sport = f->xdport;
	tuple.dport = f->xsport;
	tuple.proto = key->proto;
	r = reply_in(0, &tuple);
	if (!r) {
		slot = 1;
		r = reply_in(1, &tuple);
	}
	table = bpf_map_lookup_elem(&replies, &slot);
	if (r && table && r->sport == key->sport && addr_equal(&r->saddr, &key->saddr))
		remove_entry(table, &tuple, r, s);
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
	if (f->state & FLOW_XSOURCE)
		remove_reply(key, f, s);
	if (bpf_map_delete_elem(table, key) == 0)
		s->removed++;
	return 0;
}

static long sweep_reply(void *table, struct flow_key *tuple, struct reply *r, struct sweeping *s)
{
	struct flow_key opener;

	if (s->now - r->claim > TICKS_SECOND && !flow_behind(r, tuple, &opener))
		remove_entry(table, tuple, r, s);
	return 0;
}

static __always_inline void sweep_slot(__u32 slot, bool whole, struct sweeping *s)
{
	void *table = bpf_map_lookup_elem(&flows, &slot);

	if (table)
		bpf_for_each_map_elem(table, sweep_flow, s, 0);
	table = whole ? bpf_map_lookup_elem(&replies, &slot) : NULL;
	if (table)
		bpf_for_each_map_elem(table, sweep_reply, s, 0);
}

SEC("syscall")
int sweep(struct sweep_result *result)
{
	struct sweeping s = { .now = ticks() };

	sweep_slot(0, result->whole, &s);
	sweep_slot(1, result->whole, &s);
	result->visited = s.visited;
	result->removed = s.removed;
	result->replies_removed = s.replies_removed;
	result->masqueraded = s.masqueraded;
	return 0;
}
