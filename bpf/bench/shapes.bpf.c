/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Shapes of the flow table, side by side, for bench/shapes/shapes.ts and docs/adr/0002-flow-table.md: how long a packet out,
 * a packet back, a new flow and a removal take in each. An object of its own: nothing of it reaches the data plane.
 * a: record and index through arrays of maps; p: the same, maps named in the program; d: a with 32-bit addresses;
 * b: two LRU entries; c: slots. none_* do the walk and the keys alone, and are subtracted.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../abi/types.h"
#include "../abi/verdict.h"

#ifndef TABLE_FLAGS
#define TABLE_FLAGS 0
#endif
#define FLOWS_DEFAULT 65536

#include "keys.h"
#include "narrow.h"
#include "pair.h"
#include "slot.h"

#define N(name) wide_##name
#define KEY struct flow_key
#define RECORD struct flow
#define INDEX struct reply
#define OPENER opener_key
#define REPLIER replier_key
#define SET mapped
#define SAME same
#include "record.h"

#define N(name) narrow_##name
#define KEY struct narrow_key
#define RECORD struct narrow_flow
#define INDEX struct narrow_reply
#define OPENER narrow_opener
#define REPLIER narrow_replier
#define SET plain
#define SAME same_plain
#include "record.h"

#define TABLE(name, key_type, value_type)                                      \
	struct name {                                                          \
		__uint(type, BPF_MAP_TYPE_HASH);                               \
		__uint(map_flags, TABLE_FLAGS);                                \
		__uint(max_entries, FLOWS_DEFAULT);                            \
		__type(key, key_type);                                         \
		__type(value, value_type);                                     \
	}

#define TABLES(name, table, first)                                             \
	struct {                                                               \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                      \
		__uint(max_entries, 2);                                        \
		__type(key, __u32);                                            \
		__array(values, struct table);                                 \
	} name SEC(".maps") = { .values = { [0] = &first } }

TABLE(flow_table, struct flow_key, struct flow) a_flow SEC(".maps"), p_flow SEC(".maps");
TABLE(reply_table, struct flow_key, struct reply) a_reply SEC(".maps"), p_reply SEC(".maps");
TABLE(narrow_flow_table, struct narrow_key, struct narrow_flow) d_flow SEC(".maps");
TABLE(narrow_reply_table, struct narrow_key, struct narrow_reply) d_reply SEC(".maps");
TABLES(a_flows, flow_table, a_flow);
TABLES(a_replies, reply_table, a_reply);
TABLES(d_flows, narrow_flow_table, d_flow);
TABLES(d_replies, narrow_reply_table, d_reply);

static __always_inline int none_key(__u32 i, __u32 now)
{
	struct flow_key k = opener_key(i);
	barrier_var(k.saddr.w[3]);
	return k.pad[0];
}

#define A_STEP(step) ({                                                        \
	__u32 first = 0;                                                       \
	void *flows = bpf_map_lookup_elem(&a_flows, &first);                   \
	void *replies = bpf_map_lookup_elem(&a_replies, &first);               \
	flows && replies ? wide_##step(flows, replies, i, now) : -1; })
#define D_STEP(step) ({                                                        \
	__u32 first = 0;                                                       \
	void *flows = bpf_map_lookup_elem(&d_flows, &first);                   \
	void *replies = bpf_map_lookup_elem(&d_replies, &first);               \
	flows && replies ? narrow_##step(flows, replies, i, now) : -1; })

static __always_inline int a_out_step(__u32 i, __u32 now)
{
	__u32 first = 0;
	void *flows = bpf_map_lookup_elem(&a_flows, &first);
	return flows ? wide_out(flows, i, now) : -1;
}
static __always_inline int d_out_step(__u32 i, __u32 now)
{
	__u32 first = 0;
	void *flows = bpf_map_lookup_elem(&d_flows, &first);
	return flows ? narrow_out(flows, i, now) : -1;
}
static __always_inline int a_back_step(__u32 i, __u32 now) { return A_STEP(back); }
static __always_inline int a_new_step(__u32 i, __u32 now) { return A_STEP(new); }
static __always_inline int a_remove_step(__u32 i, __u32 now) { return A_STEP(remove); }
static __always_inline int d_back_step(__u32 i, __u32 now) { return D_STEP(back); }
static __always_inline int d_new_step(__u32 i, __u32 now) { return D_STEP(new); }
static __always_inline int d_remove_step(__u32 i, __u32 now) { return D_STEP(remove); }
static __always_inline int p_out_step(__u32 i, __u32 now) { return wide_out(&p_flow, i, now); }
static __always_inline int p_back_step(__u32 i, __u32 now) { return wide_back(&p_flow, &p_reply, i, now); }
static __always_inline int p_new_step(__u32 i, __u32 now) { return wide_new(&p_flow, &p_reply, i, now); }
static __always_inline int p_remove_step(__u32 i, __u32 now) { return wide_remove(&p_flow, &p_reply, i, now); }

WALK(none_out, none_key)
WALK(a_out, a_out_step)
WALK(a_back, a_back_step)
WALK(a_new, a_new_step)
WALK(a_remove, a_remove_step)
WALK(p_out, p_out_step)
WALK(p_back, p_back_step)
WALK(p_new, p_new_step)
WALK(p_remove, p_remove_step)
WALK(b_out, pair_out)
WALK(b_back, pair_back)
WALK(b_back_both, pair_back_both)
WALK(b_new, pair_new)
WALK(b_remove, pair_remove)
WALK(c_out, slot_out)
WALK(c_back, slot_back)
WALK(c_new, slot_new)
WALK(c_remove, slot_remove)
WALK(c_fill, slot_fill)
WALK(d_out, d_out_step)
WALK(d_back, d_back_step)
WALK(d_new, d_new_step)
WALK(d_remove, d_remove_step)

struct sweep {
	__u32 now DOC("tick of the sweep");
	__u32 dead DOC("records that have expired");
};

static long sweep_one(void *map, struct flow_key *k, struct flow *f, struct sweep *s)
{
	s->dead += (__s32)(f->expires - s->now) <= 0;
	return 0;
}

SEC("tc") int a_sweep(struct __sk_buff *skb)
{
	__u32 first = 0, cpu = bpf_get_smp_processor_id() % CURSORS;
	struct cursor *c = bpf_map_lookup_elem(&cursors, &cpu);
	void *flows = bpf_map_lookup_elem(&a_flows, &first);
	if (!c || !flows)
		return 0;
	struct sweep s = { .now = c->now };
	bpf_for_each_map_elem(flows, sweep_one, &s, 0);
	c->failed += s.dead;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
