/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which source port does a translated flow get? Its own if nobody has it towards this remote endpoint, else the next free one
 * from a random start, over the whole range: a new flow fails only when no port is left. For stage/masquerade.h.
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

#define EEXIST 17
#define ECHO_ID_MAX 65535
#define KEPT_STEPS 2

struct search {
	struct __sk_buff *skb;
	struct flow_key tuple; /* of the replies; dport is the port tried */
	struct reply mine;
	__u32 kept;
	__u32 lowest;
	__u32 size;
	__u32 start;
	__u32 now;
	__u16 error;
	__u8 v6;
	__u8 found;
	__u8 closed_too;
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
static __always_inline bool socket_holds(const struct search *s)
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
		sk = bpf_skc_lookup_tcp(s->skb, &to, size, BPF_F_CURRENT_NETNS, 0);
	else if (s->tuple.proto == IPPROTO_UDP)
		sk = bpf_sk_lookup_udp(s->skb, &to, size, BPF_F_CURRENT_NETNS, 0);
	else
		return false;
	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

static __always_inline bool claim(struct search *s, __u64 flags)
{
	__u32 slot = 0;
	void *table = bpf_map_lookup_elem(&replies, &slot);
	int err;

	if (!table)
		return false;
	err = bpf_map_update_elem(table, &s->tuple, &s->mine, flags);
	if (err && err != -EEXIST)
		s->error = DROP_CT_INSERT_FAILED;
	return err == 0;
}

/* The dead flow that an entry in a slot stands for, with what its record was judged by; NULL if its port is not to be had. */
static __always_inline struct flow *holder_dead(const struct reply *r, __u32 slot, struct search *s, struct flow_key *opener,
						__u32 *seen)
{
	struct flow *f = flow_behind(r, &s->tuple, opener);

	if (!f || flow_in(slot, opener) != f)
		return NULL;
	*seen = flow_expires(f);
	if (alive(*seen, s->now) && f->endpoint == endpoint_id(&opener->saddr) && !(s->closed_too && flow_closed(f->state)))
		return NULL;
	return f;
}

/* Ends the flow and claims its port. The entry in use is replaced as a whole: no reader finds half of it, and the port is not
 * free in between. */
static __always_inline bool take_over(struct flow *f, __u32 seen, __u32 slot, struct search *s,
				      const struct flow_key *opener)
{
	bool won;

	if (!flow_take(f, seen))
		return false;
	if (slot) {
		flow_remove(slot, f, opener);
		return claim(s, BPF_NOEXIST);
	}
	won = claim(s, BPF_EXIST);
	flow_forget(slot, opener);
	return won;
}

/* One step of the search: 0 the kept port, hoping that it is free, which saves a lookup; 1 the kept port from a dead flow; then
 * all ports, `size` of them; then all again, closed flows' ports as well. */
static int port_try(__u32 step, void *context)
{
	struct search *s = context;
	__u32 port = s->kept;
	__u32 slot = 0, seen = 0;
	struct flow *dead = NULL;
	struct flow_key opener;
	struct reply *r;

	if (step >= KEPT_STEPS) {
		port = s->start + step;
		port = s->lowest + port % s->size;
	} else if (port - s->lowest >= s->size) {
		return 0;
	}
	if (port_reserved(s->tuple.proto, port))
		return 0;
	s->tuple.dport = bpf_htons(port);
	r = step ? reply_in(0, &s->tuple) : NULL;
	if (!r) {
		slot = 1;
		r = reply_in(1, &s->tuple);
	}
	if (r) {
		s->closed_too = step >= s->size + KEPT_STEPS;
		dead = step ? holder_dead(r, slot, s, &opener, &seen) : NULL;
		if (!dead)
			return 0;
	}
	if (socket_holds(s))
		return 0;
	s->found = dead ? take_over(dead, seen, slot, s, &opener) : claim(s, BPF_NOEXIST);
	return s->found || s->error;
}

static __always_inline void search_for(struct search *s, struct __sk_buff *skb, const struct pkt *p)
{
	s->skb = skb;
	s->tuple.saddr = p->xdaddr;
	s->tuple.daddr = p->xsaddr;
	s->tuple.sport = p->xdport;
	s->tuple.proto = p->key.proto;
	s->mine.saddr = p->key.saddr;
	s->mine.sport = p->key.sport;
	s->mine.claim = p->now;
	s->kept = bpf_ntohs(p->key.sport);
	s->now = p->now;
	s->v6 = p->v6;
	s->lowest = CONFIG.port_min;
	s->size = CONFIG.port_max - CONFIG.port_min + 1;
	if (p->key.proto != IPPROTO_TCP && p->key.proto != IPPROTO_UDP) {
		s->lowest = 0;
		s->size = ECHO_ID_MAX + 1;
	}
}

/* Finds and claims a port for replies to xsaddr. Sets xsport; for an echo request that is its identifier. */
__noinline int port_find(struct __sk_buff *skb, struct pkt *p)
{
	struct search s = {};

	if (!p)
		return -1;
	search_for(&s, skb, p);
	s.start = bpf_get_prandom_u32() & 0xffff;
	bpf_loop(2 * s.size + KEPT_STEPS, port_try, &s, 0);
	if (!s.found)
		return drop(p, s.error ? s.error : DROP_NAT_NO_MAPPING);
	p->xsport = s.tuple.dport;
	return 0;
}

/* Sets xsport to the port of the packet's dead record. Gives whether it may be used again, as far as the node is concerned. */
__noinline int port_again(struct __sk_buff *skb, struct pkt *p)
{
	struct search s = {};
	struct flow_key key;
	struct flow *f;

	if (!p)
		return false;
	key = p->key;
	f = flow_in(0, &key);
	if (!f)
		return false;
	p->xsport = f->xsport;
	search_for(&s, skb, p);
	s.tuple.dport = p->xsport;
	return bpf_ntohs(p->xsport) - s.lowest < s.size && !port_reserved(p->key.proto, bpf_ntohs(p->xsport)) &&
	       !socket_holds(&s);
}

/* Gives back a claim that this packet has just made. No part of flow_open, whose frame the search needs (512 bytes in all). */
__noinline int port_release(struct pkt *p)
{
	struct flow_key tuple = {};
	__u32 slot = 0;
	void *table = bpf_map_lookup_elem(&replies, &slot);

	if (!p)
		return 0;
	tuple.saddr = p->xdaddr;
	tuple.daddr = p->xsaddr;
	tuple.sport = p->xdport;
	tuple.dport = p->xsport;
	tuple.proto = p->key.proto;
	if (table)
		bpf_map_delete_elem(table, &tuple);
	return 0;
}
