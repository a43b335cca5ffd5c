/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where is it, and where does it go? The flow table and its index lie in slot 0; while they grow, slot 1 holds the smaller pair
 * that is being drained. For every stage that looks up, makes or removes a record or an entry, and for the counts of them.
 *
 * User space puts the old pair into slot 1 and waits until no program runs that saw the slot empty; only then comes the new pair
 * into slot 0. So a program that finds slot 1 empty meets nobody who inserts elsewhere; any other looks, after it has inserted,
 * into the table of the other side as well: of two that won the same thing on either side of the swap at least one sees the other
 * and gives back. What moves is put into slot 0 before it leaves slot 1, so who missed it in 0 and then in 1 looks into 0 again.
 */
#pragma once

#define EEXIST 17

static __always_inline void *flow_table(__u32 slot)
{
	return bpf_map_lookup_elem(&flows, &slot);
}

static __always_inline void *reply_table(__u32 slot)
{
	return bpf_map_lookup_elem(&replies, &slot);
}

static __always_inline struct flow *flow_in(__u32 slot, const struct flow_key *key)
{
	void *table = flow_table(slot);

	return table ? bpf_map_lookup_elem(table, key) : NULL;
}

/* The record under a tuple, dead or alive, from the table in use or from the one being drained. */
static __always_inline struct flow *flow_get(const struct flow_key *key)
{
	struct flow *f = flow_in(0, key), *moved;
	void *draining;

	if (f)
		return f;
	draining = flow_table(1);
	if (!draining)
		return NULL;
	f = bpf_map_lookup_elem(draining, key);
	if (f && flow_expires(f) != FLOW_TAKEN)
		return f;
	moved = flow_in(0, key);
	return moved ? moved : f;
}

static __always_inline struct reply *reply_in(__u32 slot, const struct flow_key *tuple)
{
	void *table = reply_table(slot);

	return table ? bpf_map_lookup_elem(table, tuple) : NULL;
}

static __noinline struct reply *reply_get(const struct flow_key *tuple)
{
	struct reply *r = reply_in(0, tuple);
	void *draining;

	if (r)
		return r;
	draining = reply_table(1);
	if (!draining)
		return NULL;
	r = bpf_map_lookup_elem(draining, tuple);
	return r ? r : reply_in(0, tuple);
}

/* For the CPU that has made or removed a record. Counted by it alone, so the counts are exact. Orders, as every atomic operation
 * with a result does, what was inserted before what is looked up afterwards. */
static __always_inline void count_flow(__u16 endpoint, __s64 by)
{
	__u32 id = endpoint, records = USE_RECORDS;
	struct owner *owner = bpf_map_lookup_elem(&owners, &id);
	__u64 *use = bpf_map_lookup_elem(&table_use, &records);

	if (owner)
		__sync_fetch_and_add(&owner->flows, by);
	if (use)
		__sync_fetch_and_add(use, by);
}

/* For the CPU that has taken the record: deletes it. `key` must not point into the map. */
static __always_inline void flow_delete(void *table, const struct flow_key *key, __u16 endpoint)
{
	if (bpf_map_delete_elem(table, key) == 0)
		count_flow(endpoint, -1);
}

/* The same, from whichever table it lies in. */
static __always_inline void flow_forget(const struct flow *f, const struct flow_key *key)
{
	__u16 endpoint = f->endpoint;
	void *table = flow_table(1);

	if (!table || bpf_map_lookup_elem(table, key) != f)
		table = flow_table(0);
	if (table)
		flow_delete(table, key, endpoint);
}

/* An entry was met that no record stands behind: made a moment ago, or left by a fault. The next sweep goes through the index,
 * which costs four times a walk over the records and else finds nothing. */
static __always_inline void tell_orphan(void)
{
	__u32 orphan = USE_ORPHAN;
	__u64 *met = bpf_map_lookup_elem(&table_use, &orphan);

	if (met)
		*met = 1;
}

/* Makes an index entry where new ones go. Gives 0, or as the kernel -EEXIST (somebody has it) or another error (no room). */
static __always_inline int reply_insert(const struct flow_key *tuple, const struct reply *mine)
{
	void *table = reply_table(0), *other;
	volatile __u32 barrier = 0;
	int err;

	if (!table)
		return -1;
	err = bpf_map_update_elem(table, tuple, mine, BPF_NOEXIST);
	if (err)
		return err;
	other = reply_table(1);
	if (!other)
		return 0;
	__sync_fetch_and_add(&barrier, 1);
	if (other == table)
		other = reply_table(0);
	if (!other || other == table || !bpf_map_lookup_elem(other, tuple))
		return 0;
	bpf_map_delete_elem(table, tuple);
	return -EEXIST;
}

/* Deletes the entry of this opener; another's, who is about to give it back or has just got it, stays. Gives 1 if it was there. */
static __always_inline int reply_delete(__u32 slot, const struct flow_key *tuple, const struct flow_key *opener)
{
	void *table = reply_table(slot);
	struct reply *r = table ? bpf_map_lookup_elem(table, tuple) : NULL;

	if (!r || r->sport != opener->sport || !addr_equal(&r->saddr, &opener->saddr))
		return 0;
	return bpf_map_delete_elem(table, tuple) == 0;
}

/* For the CPU that has taken a record: deletes the entry that names it. Gives the number of entries deleted. */
static __always_inline int flow_unindex(const struct flow *f, const struct flow_key *key, __u32 now)
{
	struct flow_key tuple = {};
	int entries;

	if (!(f->state & FLOW_XSOURCE))
		return 0;
	flow_reply_tuple(&tuple, f, key->proto);
	entries = reply_delete(1, &tuple, key) + reply_delete(0, &tuple, key);
	if (entries)
		crowd_release(&tuple, now);
	return entries;
}

/* Removes a record from the table that it was found in, and the entry that names it. Gives the number of entries deleted; -1 if
 * somebody else has taken it, or is about to. */
static __always_inline int flow_bury(void *table, const struct flow_key *key, struct flow *f, __u32 seen, __u32 now)
{
	int entries;

	if (!flow_take(f, seen))
		return -1;
	entries = flow_unindex(f, key, now);
	flow_delete(table, key, f->endpoint);
	return entries;
}

/* For the CPU that has taken a record: deletes the entry that names it, then the record. */
static __noinline void flow_remove(const struct flow *f, const struct flow_key *key, __u32 now)
{
	flow_unindex(f, key, now);
	flow_forget(f, key);
}
