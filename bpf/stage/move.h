/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Takes what lies in slot 1 to slot 0 after the tables have grown, while packets use it: each flow has its record in the one or
 * the other, or for a moment in both, and never in none. Run by user space through the sweep until nothing is left.
 *
 *   1. FLOW_MOVING: from here on nobody else ends, reopens or refreshes the record; packets go on using it.
 *   2. The index entry is copied to slot 0, then deleted in slot 1; then the record is copied, under its old time.
 *   3. FLOW_TAKEN: whoever holds the old record sees that it is none any more, and looks again.
 *   4. State bits that were added before that are added to the new record, its time is refreshed if a packet asked for it, and
 *      the old one is deleted.
 *
 * A port claimed before the swap whose record was made after it has its entry in slot 1 and its record in slot 0: entries are
 * gone through after the records, and moved while their record is held in the same way.
 */
#pragma once

struct moving {
	__u32 now;
	__u64 budget; /* what may still be looked at in this run */
	__u64 moved;
	__u64 removed;
	__u64 entries_removed;
	__u64 left;
};

/* Atomic so that the verifier does not follow the number, and every walk of the callback with it. */
static __always_inline void count_one(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}

static __always_inline bool spent(struct moving *m)
{
	if (__sync_fetch_and_add(&m->budget, -1ULL) != 0)
		return false;
	count_one(&m->left);
	return true;
}

static __always_inline bool flow_hold(struct flow *f, __u32 seen)
{
	return seen > FLOW_TOUCHED && flow_swap(f, seen, FLOW_MOVING);
}

/* Lets go of a held record under its old time, or a new one if a packet came meanwhile. */
static __always_inline void flow_let_go(struct flow *f, __u32 seen, __u32 refreshed)
{
	if (!flow_swap(f, FLOW_MOVING, seen))
		flow_give(f, refreshed);
}

/* Copies the entry of a held record to slot 0 and deletes it in slot 1. False if there is no room, or somebody else is in the
 * way, who sees the entry in slot 1 and is about to go. */
static __always_inline bool reply_move(const struct flow_key *tuple, const struct flow_key *opener)
{
	void *to = reply_table(0), *from = reply_table(1);
	struct reply *r, copy;
	int err;

	if (!to || !from)
		return false;
	r = bpf_map_lookup_elem(from, tuple);
	if (!r)
		return true;
	copy = *r;
	err = bpf_map_update_elem(to, tuple, &copy, BPF_NOEXIST);
	if (err == -EEXIST) {
		r = bpf_map_lookup_elem(to, tuple);
		err = !r || r->sport != opener->sport || !addr_equal(&r->saddr, &opener->saddr);
	}
	if (err)
		return false;
	bpf_map_delete_elem(from, tuple);
	return true;
}

static __always_inline bool flow_copy(const struct flow_key *key, struct flow *f, __u32 seen, __u32 now)
{
	void *to = flow_table(0);
	struct flow copy = *f, *moved;
	__u32 refreshed;

	copy.expires = seen;
	if (!to || bpf_map_update_elem(to, key, &copy, BPF_NOEXIST))
		return false;
	refreshed = __sync_lock_test_and_set(&f->expires, FLOW_TAKEN);
	moved = bpf_map_lookup_elem(to, key);
	if (!moved)
		return true;
	if (f->state != copy.state)
		flow_add_state(moved, f->state & ~copy.state);
	if (refreshed == FLOW_TOUCHED)
		flow_swap(moved, seen, expiry(now, flow_timeout(key->proto, moved->state)));
	return true;
}

static long move_flow(void *table, struct flow_key *in_map, struct flow *f, struct moving *m)
{
	struct flow_key key = *in_map, tuple = {};
	__u32 seen = flow_expires(f);
	int entries;

	if (spent(m))
		return 1;
	if (!alive(seen, m->now) || owner_gone(f->endpoint)) {
		entries = flow_bury(table, &key, f, seen, m->now);
		if (entries > 0)
			count_one(&m->entries_removed);
		count_one(entries < 0 ? &m->left : &m->removed);
		return 0;
	}
	if (!flow_hold(f, seen)) {
		count_one(&m->left);
		return 0;
	}
	flow_reply_tuple(&tuple, f, key.proto);
	if (((f->state & FLOW_XSOURCE) && !reply_move(&tuple, &key)) || !flow_copy(&key, f, seen, m->now)) {
		flow_let_go(f, seen, expiry(m->now, flow_timeout(key.proto, f->state)));
		count_one(&m->left);
		return 0;
	}
	bpf_map_delete_elem(table, &key);
	count_one(&m->moved);
	return 0;
}

static long move_reply(void *table, struct flow_key *in_map, struct reply *r, struct moving *m)
{
	struct flow_key tuple = *in_map, opener;
	struct flow *f;
	__u32 seen;

	if (spent(m))
		return 1;
	f = flow_behind(r, &tuple, &opener);
	if (!f) {
		/* Whoever claimed a port in this table has long made his record, or failed. */
		if (bpf_map_delete_elem(table, &tuple) == 0)
			count_one(&m->entries_removed);
		return 0;
	}
	seen = flow_expires(f);
	if (!alive(seen, m->now) && flow_take(f, seen)) {
		if (flow_unindex(f, &opener, m->now))
			count_one(&m->entries_removed);
		flow_forget(f, &opener);
		count_one(&m->removed);
		return 0;
	}
	if (!alive(seen, m->now) || !flow_hold(f, seen)) {
		count_one(&m->left);
		return 0;
	}
	if (reply_move(&tuple, &opener))
		count_one(&m->moved);
	else
		count_one(&m->left);
	flow_let_go(f, seen, expiry(m->now, flow_timeout(opener.proto, f->state)));
	return 0;
}

/* One step: result->left is 0 when slot 1 holds nothing any more. */
static __always_inline void move_all(struct sweep_result *result, __u32 now)
{
	struct moving m = { .now = now, .budget = result->budget };
	void *table = flow_table(1);

	if (table)
		bpf_for_each_map_elem(table, move_flow, &m, 0);
	table = reply_table(1);
	if (table && !m.left)
		bpf_for_each_map_elem(table, move_reply, &m, 0);
	result->moved = m.moved;
	result->removed = m.removed;
	result->replies_removed = m.entries_removed;
	result->left = m.left;
}
