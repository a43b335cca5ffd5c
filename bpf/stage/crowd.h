/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where to look for a port towards a remote endpoint that holds nearly all of them, and where not: map crowded has a word for
 * each chunk of 64 ports, which says until when none of them can be had. From what the search found there; for stage/search.h.
 *
 * The word is a hint: whoever does not find it looks, and only the entry in the index gives a port. It must not hide a port:
 *   1. it ends with the first record of the chunk to expire, and after CROWD_TICKS at the latest;
 *   2. whoever closes, ends or gives back a flow clears it (crowd_release), as the first thing after that;
 *   3. it is written only if it was not cleared while the chunk was looked through: bits 25-31 count that.
 * Bit 24: a closed flow holds one of the ports, which is used when no other is left.
 */
#pragma once

#define CROWD_TICKS 1024
#define CROWD_UNTIL 0x00ffffff
#define CROWD_CLOSED 0x01000000
#define CROWD_CLEARED 0x02000000

/* Whether a port may be had: its time has come, or was never known. Beyond CROWD_TICKS the clock's 24 bits have gone round. */
static __always_inline bool crowd_due(__u32 word, __u32 now)
{
	return !(word & CROWD_UNTIL) || ((word - now - 1) & CROWD_UNTIL) >= CROWD_TICKS;
}

static __always_inline __u32 crowd_word(__u32 seen, __u32 until, bool closed)
{
	return (seen & ~(CROWD_UNTIL | CROWD_CLOSED)) | (until & CROWD_UNTIL) | (closed ? CROWD_CLOSED : 0);
}

static __always_inline void crowd_clear(__u32 *word)
{
	__sync_fetch_and_add(word, CROWD_CLEARED);
	__sync_fetch_and_and(word, ~(CROWD_UNTIL | CROWD_CLOSED));
}

static __always_inline struct crowd *crowd_blank_entry(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&crowd_blank, &zero);
}

/* Whether words may be in force: somewhere, or of this endpoint. Another processor may be a tick ahead of `now`. */
static __always_inline bool crowd_recent(const struct crowd *c, __u32 now)
{
	return c && (__s32)(now - c->marked) <= CROWD_TICKS;
}

/* The entry of a remote endpoint that was crowded lately. `tuple` is a reply's, its port 0. */
static __always_inline struct crowd *crowd_of(const struct flow_key *tuple, __u32 now)
{
	struct crowd *c;

	if (!crowd_recent(crowd_blank_entry(), now))
		return NULL;
	c = bpf_map_lookup_elem(&crowded, tuple);
	return crowd_recent(c, now) ? c : NULL;
}

/* The entry of a remote endpoint, a new one if there is none; NULL if there is no room. */
static __always_inline struct crowd *crowd_make(const struct flow_key *tuple)
{
	struct crowd *c = crowd_blank_entry();

	if (c)
		bpf_map_update_elem(&crowded, tuple, c, BPF_NOEXIST);
	return bpf_map_lookup_elem(&crowded, tuple);
}

static __always_inline void crowd_refuse(struct crowd *c, __u32 now)
{
	__sync_fetch_and_add(&c->refused, 1);
	c->refused_at = now;
}

/* From now on words may be written: whoever gives back a port must look for them. Before the first record is looked at, so that
 * of two CPUs, one closing a flow and one judging it, at least one sees the other. */
static __always_inline void crowd_mark(struct crowd *c, __u32 now)
{
	struct crowd *any = crowd_blank_entry();

	c->marked = now;
	if (any)
		__sync_lock_test_and_set(&any->marked, now);
}

/* A port may be had again, or soon: the flow has closed, or is gone, that the replies of `tuple` answered. Changes tuple. */
static __noinline void crowd_release(struct flow_key *tuple, __u32 now)
{
	struct crowd *c = crowd_blank_entry();
	__u32 chunk = bpf_ntohs(tuple->dport) >> 6;

	if (!crowd_recent(c, now))
		return;
	tuple->dport = 0;
	c = bpf_map_lookup_elem(&crowded, tuple);
	if (!c || chunk >= CROWD_CHUNKS)
		return;
	crowd_clear(&c->chunk[chunk]);
	crowd_clear(&c->all);
	c->hint = chunk;
}
