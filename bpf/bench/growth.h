/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The data plane's own flow table under fire while it grows, for bench/shapes/growth.ts, which puts this behind a copy of
 * datapath.bpf.c whose clock runs 262,144 times as fast: a tick is 64 ns. Processors open, refresh, answer, close and take over the
 * same few flows and ports of both families; user space exchanges the tables, moves what is in them and sweeps.
 *
 * Some flows live for ever: each must be found at any time, under the port that it got first. All others die of their own
 * accord within microseconds.
 */
#pragma once

#define FIRE_OPS 8
#define FIRE_OPENERS 40
#define FIRE_LASTING 8
#define FIRE_FIRST_PORT 61000
/* Source ports, each of which so many pods would like to keep. */
#define FIRE_WISHES 8

struct tally {
	__u64 opened DOC("flows opened");
	__u64 refused DOC("openings that found no port, or another processor at work on their flow");
	__u64 found DOC("packets of a known flow");
	__u64 answered DOC("answers that found their flow");
	__u64 reset DOC("flows closed");
	__u64 lost DOC("lasting flows that were not found, or not under their port");
	__u64 halves DOC("live flows whose answer did not find them");
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tally);
} tallies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIRE_OPENERS * 2);
	__type(key, __u32);
	__type(value, __u32);
} first_ports SEC(".maps");

#define FIRE_PODS_FIRST 1
#define FIRE_MANY_PORTS 60000

/* 0 the number of the next flow; 1 those before which have all been opened, written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} fire_next SEC(".maps");

/* The opener's packet and the answer: on the stack there is no room for both. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct pkt);
} fire_packets SEC(".maps");

static __always_inline void fire_address(struct addr *a, bool v6, __u32 v4)
{
	a->w[0] = v6 ? bpf_htonl(0xfd000010) : 0;
	a->w[1] = 0;
	a->w[2] = v6 ? 0 : bpf_htonl(0xffff);
	a->w[3] = bpf_htonl(v4);
}

static __always_inline void fire_packet(struct pkt *p, __u32 n)
{
	__u32 opener = n >> 1;

	__builtin_memset(p, 0, sizeof(*p));
	p->v6 = n & 1;
	fire_address(&p->key.saddr, p->v6, 0x0af40101 + opener / FIRE_WISHES);
	fire_address(&p->key.daddr, p->v6, 0xc633640a);
	p->key.sport = bpf_htons(FIRE_FIRST_PORT + opener % FIRE_WISHES);
	p->key.dport = bpf_htons(443);
	p->key.proto = opener < FIRE_LASTING || opener % 2 ? IPPROTO_TCP : IPPROTO_UDP;
	p->shape = SHAPE_FLOW;
	p->hook = HOOK_FROM_POD;
	p->endpoint = 1;
	p->now = ticks();
}

static __always_inline int fire_open(struct __sk_buff *skb, struct pkt *p)
{
	if (!p)
		return -1;
	fire_address(&p->xsaddr, p->v6, 0xac14000b);
	p->state = FLOW_XSOURCE;
	p->rule = MASQ_POD;
	p->opens = p->key.proto == IPPROTO_TCP ? OPENS_ONLY : OPENS_EITHER;
	p->tcp_flags = p->key.proto == IPPROTO_TCP ? TCP_SYN : 0;
	return flow_open(skb, p);
}

/* Whether an answer finds the flow; `p` is what the opener's packet was told. */
static __noinline bool fire_answer(const struct pkt *p)
{
	__u32 one = 1;
	struct pkt *back = bpf_map_lookup_elem(&fire_packets, &one);

	if (!p || !back)
		return true;
	__builtin_memset(back, 0, sizeof(*back));
	back->key.saddr = p->xdaddr;
	back->key.daddr = p->xsaddr;
	back->key.sport = p->xdport;
	back->key.dport = p->xsport;
	back->key.proto = p->key.proto;
	back->shape = SHAPE_FLOW;
	back->hook = HOOK_FROM_NET;
	back->now = ticks();
	return flow_reply(back) == DIRECTION_REPLY && back->xdport == p->key.sport && addr_equal(&back->xdaddr, &p->key.saddr);
}

/* When the flow was opened; 0 if it is not alive under the port that `p` says. */
static __noinline __u32 fire_since(const struct pkt *p)
{
	struct flow_key key;
	struct flow *f;

	if (!p)
		return 0;
	key = p->key;
	f = flow_get(&key);
	return f && flow_alive(f, ticks()) && f->xsport == p->xsport ? f->created : 0;
}

static __always_inline void fire_step(struct __sk_buff *skb, struct tally *t, struct pkt *p)
{
	__u32 random = bpf_get_prandom_u32(), n = random % (FIRE_OPENERS * 2), since, *first;
	bool lasting = n >> 1 < FIRE_LASTING;

	if (!skb || !t || !p)
		return;
	fire_packet(p, n);
	first = bpf_map_lookup_elem(&first_ports, &n);
	if (flow_find(p) == DIRECTION_FORWARD) {
		t->found++;
		if (lasting && first && *first != p->xsport)
			t->lost++;
	} else {
		if (lasting && first && *first)
			t->lost++;
		if (fire_open(skb, p)) {
			t->refused++;
			return;
		}
		t->opened++;
		if (first)
			*first = p->xsport;
	}
	since = fire_since(p);
	if (since) {
		if (fire_answer(p))
			t->answered++;
		else if (fire_since(p) == since)
			t->halves++;
	}
	if (!lasting && p->key.proto == IPPROTO_TCP && random >> 30 == 0) {
		fire_packet(p, n);
		p->tcp_flags = TCP_RST;
		if (flow_find(p) == DIRECTION_FORWARD)
			t->reset++;
	}
}

/* One packet of the opener whose number is the mark: gives the port under which it leaves, 0 if it may not. */
SEC("tc")
int fire_one(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct pkt *p = bpf_map_lookup_elem(&fire_packets, &zero);

	if (!p)
		return 0;
	fire_packet(p, skb->mark);
	if (flow_find(p) != DIRECTION_FORWARD && fire_open(skb, p))
		return 0;
	return bpf_ntohs(p->xsport);
}

/* Flow `n` of very many, of both families, each with a source port that is free. */
static __always_inline void fire_packet_of_many(struct pkt *p, __u32 n)
{
	fire_packet(p, FIRE_PODS_FIRST * 2 + (n & 1));
	fire_address(&p->key.daddr, p->v6, 0xc6336400 + (n >> 1) / FIRE_MANY_PORTS);
	p->key.sport = bpf_htons(1024 + (n >> 1) % FIRE_MANY_PORTS);
}

/* Opens the next of very many flows, then looks for an earlier one in both directions: it must be there. A refused one is tried
 * again, as an opener would. */
SEC("tc")
int fire_many(struct __sk_buff *skb)
{
	__u32 zero = 0, one = 1, *next = bpf_map_lookup_elem(&fire_next, &zero), n, again;
	__u32 *settled = bpf_map_lookup_elem(&fire_next, &one);
	struct tally *t = bpf_map_lookup_elem(&tallies, &zero);
	struct pkt *p = bpf_map_lookup_elem(&fire_packets, &zero);

	if (!t || !p || !next || !settled)
		return 0;
	n = __sync_fetch_and_add(next, 1);
	for (again = 0; again < 2; again++) {
		fire_packet_of_many(p, n);
		if (flow_find(p) == DIRECTION_NONE && !fire_open(skb, p))
			break;
		t->refused++;
	}
	t->opened += again < 2;
	if (again == 2 || !*settled)
		return 0;
	n = bpf_get_prandom_u32() % *settled;
	fire_packet_of_many(p, n);
	/* Ports that the machine's own sockets hold are not kept. */
	if (flow_find(p) == DIRECTION_FORWARD)
		t->found++;
	else
		t->lost++;
	if (fire_answer(p))
		t->answered++;
	else
		t->halves++;
	return 0;
}

SEC("tc")
int fire(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct tally *t = bpf_map_lookup_elem(&tallies, &zero);
	struct pkt *p = bpf_map_lookup_elem(&fire_packets, &zero);

	if (!t || !p)
		return 0;
	for (int op = 0; op < FIRE_OPS; op++)
		fire_step(skb, t, p);
	return 0;
}
