/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which source port does a translated flow get? Its own if nobody has it towards this remote endpoint, else the next free one
 * from a random start, over the whole range: a new flow fails only when no port is left. For stage/open.h.
 *
 * After LINEAR_STEPS refusals the endpoint counts as crowded: then the search goes by chunks of 64 ports, past those of which it
 * is known that they have nothing to give (stage/crowd.h). With one port free of 64,512, or none, that is the difference between
 * a microsecond and 14 ms (docs/adr/0007-port-search.md).
 */
#pragma once

#define ECHO_ID_MAX 65535
#define LINEAR_STEPS 256

/* At the first port of a chunk: whether to look through it. */
static __always_inline bool chunk_begin(struct search *s, struct crowd *c)
{
	__u32 now = s->mine.claim, chunk = s->port >> 6;

	s->word = c->chunk[chunk];
	s->until = now + CROWD_TICKS / 2 + chunk / 2;
	s->closed_here = 0;
	if (s->closed_too)
		return s->word & CROWD_CLOSED;
	if (crowd_due(s->word, now))
		return true;
	s->closed_seen |= (s->word & CROWD_CLOSED) != 0;
	s->until = now + 1 + ((s->word - now - 1) & CROWD_UNTIL);
	if ((__s32)(s->until - s->soonest) < 0)
		s->soonest = s->until;
	return false;
}

/* At the last port of a chunk, when none was to be had. */
static __always_inline void chunk_end(struct search *s, struct crowd *c)
{
	__u32 word = crowd_word(s->word, s->until, s->closed_here);

	if (c)
		__sync_val_compare_and_swap(&c->chunk[s->port >> 6], s->word, word);
	s->closed_seen |= s->closed_here;
	if ((__s32)(s->until - s->soonest) < 0)
		s->soonest = s->until;
}

static __always_inline __u32 chunks_of(const struct search *s)
{
	return (s->highest >> 6) - (s->lowest >> 6) + 1;
}

static __always_inline void next_port(struct search *s, __u32 last)
{
	s->port = last >= s->highest ? s->lowest : last + 1;
}

/* One step of the search by chunks: a port, or a whole chunk passed over; after the last chunk all again, for closed flows' ports. */
static int chunk_try(__u32 step, void *context)
{
	struct walk *w = context;
	struct search *s = w->s;
	struct crowd *c = w->c;

	if (s->port == s->lowest || !(s->port & 63)) {
		if (!s->chunks && (s->closed_too || !s->closed_seen))
			return 1;
		if (!s->chunks) {
			s->chunks = chunks_of(s);
			s->closed_too = 1;
		}
		s->chunks--;
		if (c && !chunk_begin(s, c)) {
			next_port(s, s->port | 63);
			return 0;
		}
	}
	port_take(w, s->port, false);
	if (s->found || s->error)
		return 1;
	s->refused++;
	if (s->port == s->highest || (s->port & 63) == 63)
		chunk_end(s, c);
	next_port(s, s->port);
	return 0;
}

static __always_inline bool in_range(const struct search *s, __be16 port)
{
	return bpf_ntohs(port) >= s->lowest && bpf_ntohs(port) <= s->highest;
}

/* One step of the search port by port: first the kept port, from a dead flow, then a row of others. */
static int linear_try(__u32 step, void *context)
{
	struct walk *w = context;
	struct search *s = w->s;
	__u32 port = bpf_ntohs(s->mine.sport);

	if (step) {
		port = s->port;
		next_port(s, port);
	} else if (!in_range(s, s->mine.sport)) {
		return 0;
	}
	port_take(w, port, false);
	if (s->found || s->error)
		return 1;
	s->refused++;
	return 0;
}

/* Where a search is kept while it goes on. A second one for a processor on which another search was interrupted, which happens
 * with real-time kernels and test runs only. NULL if both are in use. */
static __always_inline struct search *search_begin(void)
{
	__u32 slot = 0;
	struct search *s = bpf_map_lookup_elem(&searches, &slot);

	if (s && !__sync_lock_test_and_set(&s->busy, 1))
		return s;
	slot = 1;
	s = bpf_map_lookup_elem(&searches, &slot);
	return s && !__sync_lock_test_and_set(&s->busy, 1) ? s : NULL;
}

static __always_inline void search_for(struct search *s, const struct pkt *p)
{
	s->tuple.saddr = p->xdaddr;
	s->tuple.daddr = p->xsaddr;
	s->tuple.sport = p->xdport;
	s->tuple.proto = p->key.proto;
	s->mine.saddr = p->key.saddr;
	s->mine.sport = p->key.sport;
	s->mine.claim = p->now;
	s->refused = 0;
	s->tuple.dport = 0;
	s->error = 0;
	s->found = 0;
	s->closed_too = 0;
	s->closed_seen = 0;
	s->v6 = p->v6;
	s->lowest = CONFIG.port_min;
	s->highest = CONFIG.port_max;
	if (p->key.proto != IPPROTO_TCP && p->key.proto != IPPROTO_UDP) {
		s->lowest = 0;
		s->highest = ECHO_ID_MAX;
	}
}

/* The kept port, and a row of others from a random one on; those only if the endpoint is not known to be crowded. */
static __always_inline void try_near(struct walk *w)
{
	struct search *s = w->s;
	__u32 size = s->highest - s->lowest + 1;
	__u32 others = size < LINEAR_STEPS ? size : LINEAR_STEPS;

	w->c = crowd_of(&s->tuple, s->mine.claim);
	s->port = s->lowest + (bpf_get_prandom_u32() & 0xffff) % size;
	bpf_loop(1 + (w->c ? 0 : others), linear_try, w, 0);
}

/* Nearly every new flow: the kept port, in the hope that nobody has it, which saves asking. */
static __always_inline void try_kept(struct walk *w)
{
	if (in_range(w->s, w->s->mine.sport))
		port_take(w, bpf_ntohs(w->s->mine.sport), true);
}

/* All chunks from the likeliest on. Without an entry, for which there was no room, all the same. */
static __always_inline void try_chunks(struct walk *w)
{
	struct search *s = w->s;

	s->chunks = chunks_of(s);
	s->port = w->c ? w->c->hint << 6 : 0;
	if (s->port < s->lowest || s->port > s->highest)
		s->port = s->lowest;
	bpf_loop(2 * (s->highest - s->lowest + 1 + CROWD_CHUNKS), chunk_try, w, 0);
}

/* The search towards a crowded endpoint. */
static __always_inline void try_crowded(struct walk *w)
{
	struct search *s = w->s;
	struct crowd *c = w->c;
	__u32 now = s->mine.claim, seen = c ? c->all : 0;

	if (c && !crowd_due(seen, now)) {
		crowd_refuse(c, now);
		return;
	}
	s->soonest = now + CROWD_TICKS;
	if (c)
		crowd_mark(c, now);
	try_chunks(w);
	if (!c || s->error)
		return;
	if (!s->found) {
		__sync_val_compare_and_swap(&c->all, seen, crowd_word(seen, s->soonest, false));
		crowd_refuse(c, now);
		return;
	}
	c->hint = bpf_ntohs(s->tuple.dport) >> 6;
	if (s->closed_too)
		crowd_clear(&c->chunk[c->hint & (CROWD_CHUNKS - 1)]);
}

/* For `bpf nat retries`. */
static __always_inline void count_refused(const struct search *s)
{
	__u32 slot = s->refused;
	__u64 *flows;

	if (!s->found || slot > RETRY_SLOTS - 1)
		slot = RETRY_SLOTS - 1;
	flows = s->v6 ? bpf_map_lookup_elem(&nat_retries_v6, &slot) : bpf_map_lookup_elem(&nat_retries_v4, &slot);
	if (flows)
		(*flows)++;
}

/* Finds and claims a port for replies to xsaddr. Sets xsport; for an echo request that is its identifier. */
static __always_inline int port_find(struct __sk_buff *skb, struct pkt *p)
{
	struct walk w = { .skb = skb, .s = search_begin() };
	int found;

	if (!p || !w.s)
		return p ? drop(p, DROP_CT_INSERT_FAILED) : -1;
	search_for(w.s, p);
	try_kept(&w);
	if (!w.s->found && !w.s->error) {
		w.s->tuple.dport = 0;
		try_near(&w);
	}
	if (!w.s->found && !w.s->error) {
		w.s->tuple.dport = 0;
		w.c = w.c ? w.c : crowd_make(&w.s->tuple);
		try_crowded(&w);
	}
	count_refused(w.s);
	found = w.s->found;
	p->reason = found ? p->reason : w.s->error ? w.s->error : DROP_NAT_NO_MAPPING;
	p->xsport = w.s->tuple.dport;
	w.s->busy = 0;
	return found ? 0 : -1;
}

/* Sets xsport to the port of the packet's dead record. Gives whether it may be used again, as far as the node is concerned. */
__noinline int port_again(struct __sk_buff *skb, struct pkt *p)
{
	struct flow_key key;
	struct search *s;
	struct flow *f;
	int may;

	if (!p)
		return false;
	key = p->key;
	f = flow_in(0, &key);
	s = f ? search_begin() : NULL;
	if (!s)
		return false;
	p->xsport = f->xsport;
	search_for(s, p);
	s->tuple.dport = p->xsport;
	may = in_range(s, p->xsport) && !port_reserved(p->key.proto, bpf_ntohs(p->xsport)) && !socket_holds(skb, s);
	s->busy = 0;
	return may;
}

/* Gives back a claim that this packet has just made. No part of flow_open, whose frame the search needs (512 bytes in all). */
__noinline int port_release(struct pkt *p)
{
	struct flow_key tuple = {}, opener;

	if (!p)
		return 0;
	opener = p->key;
	tuple.saddr = p->xdaddr;
	tuple.daddr = p->xsaddr;
	tuple.sport = p->xdport;
	tuple.dport = p->xsport;
	tuple.proto = p->key.proto;
	reply_delete(1, &tuple, &opener);
	reply_delete(0, &tuple, &opener);
	crowd_release(&tuple, p->now);
	return 0;
}
