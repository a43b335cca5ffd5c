/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The rules of docs/adr/0002-flow-table.md under fire, for bench/shapes/race.ts: processors open, refresh, close, take
 * over and sweep the same few flows and ports at once, with lifetimes of microseconds. careless is the same without
 * compare-and-swap: it has to break, or the run proves nothing. Ticks are 64 ns here.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../abi/types.h"
#include "../abi/verdict.h"

#define OPENERS 512
#define PORTS 256
#define FIRST_PORT 40000
#define TRIES 8
#define TAKEN 0
#define OPS 32

struct tally {
	__u64 opened DOC("flows opened on a free port");
	__u64 taken DOC("flows opened on the port of a dead flow of another opener");
	__u64 reopened DOC("dead flows opened again by their own opener, in place");
	__u64 refreshed DOC("live flows refreshed");
	__u64 closed DOC("live flows closed");
	__u64 swept DOC("dead flows removed by the sweep");
	__u64 refused DOC("openings that found no port, or another processor at work on their flow");
	__u64 halves DOC("live flows whose reply would not have found them");
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tally);
} tallies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, struct flow_key);
	__type(value, struct flow);
} r_flow SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, struct flow_key);
	__type(value, struct reply);
} r_reply SEC(".maps");

static __always_inline __u32 tick(void)
{
	__u32 now = bpf_ktime_get_boot_ns() >> 6;
	return now == TAKEN ? now + 1 : now;
}

static __always_inline bool alive(__u32 expires, __u32 now) { return expires != TAKEN && (__s32)(expires - now) > 0; }

static __always_inline bool swap(__u32 *at, __u32 from, __u32 to, bool careful)
{
	if (careful)
		return __sync_val_compare_and_swap(at, from, to) == from;
	*(volatile __u32 *)at = to;
	return true;
}

static __always_inline struct flow_key opener(__u32 i)
{
	return (struct flow_key){ .saddr.w[3] = bpf_htonl(0x0af40000 + i), .daddr.w[3] = bpf_htonl(0xc6336401),
				  .sport = bpf_htons(50000), .dport = bpf_htons(443), .proto = 6 };
}

static __always_inline struct flow_key replier(__be16 port)
{
	return (struct flow_key){ .saddr.w[3] = bpf_htonl(0xc6336401), .daddr.w[3] = bpf_htonl(0xac14000b),
				  .sport = bpf_htons(443), .dport = port, .proto = 6 };
}

/* Takes the port of index entry `back` if the flow behind it is dead: whoever ends that flow owns its entry. */
static __always_inline bool take_over(const struct flow_key *back, const struct reply *mine, __u32 now, bool careful)
{
	struct reply *r = bpf_map_lookup_elem(&r_reply, back);
	if (!r)
		return false;
	struct flow_key theirs = opener(0);
	theirs.saddr = r->saddr;
	struct flow *f = bpf_map_lookup_elem(&r_flow, &theirs);
	/* No record: its opener is about to write it, or its end to remove the entry. */
	if (!f || f->xsport != back->dport)
		return false;
	__u32 seen = *(volatile __u32 *)&f->expires;
	if (seen == TAKEN || alive(seen, now) || !swap(&f->expires, seen, TAKEN, careful))
		return false;
	bpf_map_update_elem(&r_reply, back, mine, BPF_EXIST);
	bpf_map_delete_elem(&r_flow, &theirs);
	return true;
}

static __always_inline void open_flow(struct tally *t, const struct flow_key *k, __u32 now, __u32 life, bool careful)
{
	struct reply mine = { .saddr = k->saddr, .sport = k->sport, .claim = now };
	__u32 start = bpf_get_prandom_u32();
	for (__u32 try = 0; try < TRIES; try++) {
		struct flow_key back = replier(bpf_htons(FIRST_PORT + (start + try) % PORTS));
		bool taken = false;
		if (bpf_map_update_elem(&r_reply, &back, &mine, BPF_NOEXIST)) {
			taken = take_over(&back, &mine, now, careful);
			if (!taken)
				continue;
		}
		struct flow f = { .xdaddr = k->daddr, .xsport = back.dport, .xdport = k->dport, .created = now,
				  .expires = now + life, .state = FLOW_XSOURCE };
		if (bpf_map_update_elem(&r_flow, k, &f, BPF_NOEXIST)) {
			bpf_map_delete_elem(&r_reply, &back);
			break;
		}
		t->taken += taken;
		t->opened += !taken;
		return;
	}
	t->refused++;
}

/* What a reply would find; asked again if the flow ended meanwhile. */
static __always_inline void check_back(struct tally *t, const struct flow_key *k, struct flow *f, __u32 seen)
{
	struct flow_key back = replier(f->xsport);
	struct reply *r = bpf_map_lookup_elem(&r_reply, &back);
	bool found = r && r->saddr.w[3] == k->saddr.w[3];
	if (!found && *(volatile __u32 *)&f->expires == seen && alive(seen, tick()))
		t->halves++;
}

static __always_inline void step(struct tally *t, bool careful)
{
	__u32 random = bpf_get_prandom_u32(), now = tick(), life = 16 + (random >> 24);
	struct flow_key k = opener(random % OPENERS);
	struct flow *f = bpf_map_lookup_elem(&r_flow, &k);
	if (!f)
		return open_flow(t, &k, now, life, careful);
	__u32 seen = *(volatile __u32 *)&f->expires;
	if (seen == TAKEN)
		t->refused++;
	else if (alive(seen, now)) {
		check_back(t, &k, f, seen);
		if (random & 0x10000)
			t->refreshed += swap(&f->expires, seen, now + life, careful);
		else if (random & 0x20000)
			t->closed += swap(&f->expires, seen, now - 1, careful);
	} else if (swap(&f->expires, seen, TAKEN, careful)) {
		f->created = now;
		swap(&f->expires, TAKEN, now + life, false);
		t->reopened++;
	} else
		t->refused++;
}

#define RACE(name, careful)                                                    \
	SEC("tc") int name(struct __sk_buff *skb)                              \
	{                                                                      \
		__u32 zero = 0;                                                \
		struct tally *t = bpf_map_lookup_elem(&tallies, &zero);        \
		for (int op = 0; t && op < OPS; op++)                          \
			step(t, careful);                                      \
		return 0;                                                      \
	}

RACE(careful, true)
RACE(careless, false)

struct swept {
	__u64 count DOC("flows removed");
};

static long sweep_one(void *map, struct flow_key *k, struct flow *f, struct swept *s)
{
	__u32 seen = *(volatile __u32 *)&f->expires;
	if (seen == TAKEN || alive(seen, tick()))
		return 0;
	struct flow_key back = replier(f->xsport), key = *k;
	if (!swap(&f->expires, seen, TAKEN, true))
		return 0;
	bpf_map_delete_elem(&r_reply, &back);
	bpf_map_delete_elem(&r_flow, &key);
	s->count++;
	return 0;
}

SEC("tc") int sweep(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct tally *t = bpf_map_lookup_elem(&tallies, &zero);
	struct swept s = {};
	bpf_for_each_map_elem(&r_flow, sweep_one, &s, 0);
	if (t)
		t->swept += s.count;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
