/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* May a translated flow have this source port? For stage/search.h.
 *
 * A port is taken by inserting the tuple of its replies into the index, so two CPUs cannot take the same. It is refused if it
 *   1. is reserved (NodePorts, tunnel ports: map reserved_ports),
 *   2. belongs to a live flow,
 *   3. belongs to a flow that both sides have closed, unless every other port is taken: the far end may be in TIME-WAIT,
 *   4. is held by a socket of the node, listening or connected to this remote endpoint.
 * The port of a dead flow belongs to whoever takes the record (stage/record.h). An entry whose record is missing is left alone:
 * the record is under way, or the entry about to go.
 */
#pragma once

/* Lies in map searches: on the stack the verifier would follow every value that it can have. */
struct search {
	struct flow_key tuple; /* of the replies; dport is the port tried */
	struct reply mine;     /* claim is now */
	__u32 refused;         /* ports that were not to be had */
	__u32 word;            /* of the chunk being looked through, before that */
	__u32 until;           /* first tick at which one of its ports may be had */
	__u32 soonest;         /* the same of all chunks */
	__u16 lowest;
	__u16 highest;
	__u16 port;            /* to try next */
	__u16 chunks;          /* still to be looked through */
	__u8 error;
	__u8 v6;
	__u8 found;
	__u8 closed_too;
	__u8 closed_here;      /* in this chunk */
	__u8 closed_seen;      /* in any */
	__u8 pad[2];
	__u32 busy;
};
_Static_assert(sizeof(struct search) == sizeof(struct scratch), "a scratch holds a search");

struct walk {
	struct __sk_buff *skb;
	struct search *s;
	struct crowd *c; /* NULL: port by port */
};

static __always_inline bool port_reserved(__u8 proto, __u32 port)
{
	__u32 word = (proto == IPPROTO_UDP ? 1024 : 0) + (port >> 6);
	__u64 *bits;

	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return false;
	bits = bpf_map_lookup_elem(&reserved_ports, &word);
	return bits && (*bits >> (port & 63) & 1);
}

/* Whether the node would take a reply for its own: it looks for sockets in the same order. */
static __always_inline bool socket_holds(struct __sk_buff *skb, const struct search *s)
{
	struct bpf_sock_tuple to = {};
	__u32 size = sizeof(to.ipv4);
	struct bpf_sock *sk;

	if (s->v6) {
		__builtin_memcpy(to.ipv6.saddr, &s->tuple.saddr, sizeof(struct addr));
		__builtin_memcpy(to.ipv6.daddr, &s->tuple.daddr, sizeof(struct addr));
		to.ipv6.sport = s->tuple.sport;
		to.ipv6.dport = s->tuple.dport;
		size = sizeof(to.ipv6);
	} else {
		to.ipv4.saddr = s->tuple.saddr.w[3];
		to.ipv4.daddr = s->tuple.daddr.w[3];
		to.ipv4.sport = s->tuple.sport;
		to.ipv4.dport = s->tuple.dport;
	}
	if (s->tuple.proto == IPPROTO_TCP)
		sk = bpf_skc_lookup_tcp(skb, &to, size, BPF_F_CURRENT_NETNS, 0);
	else if (s->tuple.proto == IPPROTO_UDP)
		sk = bpf_sk_lookup_udp(skb, &to, size, BPF_F_CURRENT_NETNS, 0);
	else
		return false;
	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

/* No port of this chunk can be had before `tick` because of the one at hand. */
static __always_inline void held_until(struct search *s, __u32 tick)
{
	if ((__s32)(tick - s->until) < 0)
		s->until = tick;
}

static __always_inline bool claim(struct search *s)
{
	int err = reply_insert(&s->tuple, &s->mine);

	if (err)
		held_until(s, s->mine.claim + 1);
	if (err && err != -EEXIST)
		s->error = DROP_CT_INSERT_FAILED;
	return err == 0;
}

/* The dead flow that an entry stands for, with what its record was judged by; NULL if its port is not to be had. */
static __always_inline struct flow *holder_dead(const struct reply *r, struct search *s, struct flow_key *opener, __u32 *seen)
{
	struct flow *f = flow_behind(r, &s->tuple, opener);
	__u32 now = s->mine.claim;

	if (!f) {
		tell_orphan();
		held_until(s, now + TICKS_SECOND);
		return NULL;
	}
	*seen = flow_expires(f);
	if (alive(*seen, now) && f->endpoint == endpoint_id(&opener->saddr)) {
		s->closed_here |= flow_closed(f->state);
		if (!s->closed_too || !flow_closed(f->state)) {
			held_until(s, *seen);
			return NULL;
		}
	}
	return f;
}

/* Ends the flow and claims its port. The entry in use is replaced as a whole: no reader finds half of it, and the port is not
 * free in between. */
static __always_inline bool take_over(struct flow *f, __u32 seen, __u32 slot, struct search *s,
				      const struct flow_key *opener)
{
	void *table = reply_table(0);
	bool won;

	if (!table || !flow_take(f, seen)) {
		held_until(s, s->mine.claim + 1);
		return false;
	}
	if (slot) {
		reply_delete(slot, &s->tuple, opener);
		won = claim(s);
	} else {
		won = bpf_map_update_elem(table, &s->tuple, &s->mine, BPF_EXIST) == 0;
	}
	flow_forget(f, opener);
	if (!won)
		held_until(s, s->mine.claim + 1);
	return won;
}

/* Claims a port if it can be had. `hopeful`: without asking who has it, which saves a lookup if nobody has. */
static __noinline void port_take(struct walk *w, __u32 port, bool hopeful)
{
	struct search *s = w->s;
	__u32 slot = 0, seen = 0;
	struct flow *dead = NULL;
	struct flow_key opener;
	struct reply *r;

	if (port_reserved(s->tuple.proto, port)) {
		held_until(s, s->mine.claim + TICKS_SECOND);
		return;
	}
	s->tuple.dport = bpf_htons(port);
	r = hopeful ? NULL : reply_in(0, &s->tuple);
	if (!r) {
		slot = 1;
		r = reply_in(1, &s->tuple);
	}
	if (r) {
		dead = hopeful ? NULL : holder_dead(r, s, &opener, &seen);
		if (!dead)
			return;
	}
	if (socket_holds(w->skb, s)) {
		held_until(s, s->mine.claim + TICKS_SECOND);
		return;
	}
	s->found = dead ? take_over(dead, seen, slot, s, &opener) : claim(s);
}
