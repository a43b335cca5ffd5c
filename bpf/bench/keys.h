/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The generated flows of the shapes benchmark: flow number to tuples, and the walk over the numbers. Flow i belongs to
 * pod i % 256 and goes to a server of that pod's own, so that the kept source port is always free: every shape then
 * does the same work for a new flow, and what differs is the shape.
 * A lookup's result is added to the cursor (it is 0), so that the next lookup cannot start before this one has ended;
 * without that the processor overlaps the cache misses of eight flows, which it cannot do for eight packets.
 */
#pragma once

#define OPS 8
#define CURSORS 64
#define NODE_ADDRESS 0xac14000b

struct cursor {
	__u32 next DOC("operations done so far");
	__u32 base DOC("first flow of the walk");
	__u32 count DOC("number of flows in the walk");
	__u32 stride DOC("step between flows, coprime to count: 1 walks in order of creation");
	__u32 failed DOC("operations that did not find or could not create their flow");
	__u32 now DOC("clock of the benchmark, in ticks");
	__u32 pad[10] DOC("always 0: one cursor per cache line");
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CURSORS);
	__type(key, __u32);
	__type(value, struct cursor);
} cursors SEC(".maps");

/* One program: OPS steps of the walk; step(i, now) answers 0, or below 0 when it failed. */
#define WALK(name, step)                                                       \
	SEC("tc") int name(struct __sk_buff *skb)                              \
	{                                                                      \
		__u32 cpu = bpf_get_smp_processor_id() % CURSORS;              \
		struct cursor *c = bpf_map_lookup_elem(&cursors, &cpu);        \
		if (!c || !c->count)                                           \
			return 0;                                              \
		__u32 next = c->next, failed = 0;                              \
		for (int op = 0; op < OPS; op++) {                             \
			__u64 far = (__u64)next * c->stride;                   \
			int answer = step(c->base + far % c->count, c->now);   \
			if (answer < 0) {                                      \
				failed++;                                      \
				answer = 0;                                    \
			}                                                      \
			next += 1 + answer;                                    \
		}                                                              \
		c->next = next;                                                \
		c->failed += failed;                                           \
		return 0;                                                      \
	}

static __always_inline __u32 pod_of(__u32 i) { return 0x0af40100 + (i & 0xff); }
static __always_inline __u32 server_of(__u32 i) { return 0xc6336400 + (i & 0xff); }
static __always_inline __be16 port_of(__u32 i) { return bpf_htons(32768 + (i >> 8)); }

static __always_inline void mapped(struct addr *a, __u32 v4)
{
	a->w[0] = a->w[1] = 0;
	a->w[2] = bpf_htonl(0xffff);
	a->w[3] = bpf_htonl(v4);
}

static __always_inline void plain(__be32 *a, __u32 v4) { *a = bpf_htonl(v4); }

static __always_inline bool same(const struct addr *a, const struct addr *b)
{
	return !((a->w[0] ^ b->w[0]) | (a->w[1] ^ b->w[1]) | (a->w[2] ^ b->w[2]) | (a->w[3] ^ b->w[3]));
}

static __always_inline bool same_plain(const __be32 *a, const __be32 *b) { return *a == *b; }

static __always_inline struct flow_key opener_key(__u32 i)
{
	struct flow_key k = { .sport = port_of(i), .dport = bpf_htons(443), .proto = 6 };
	mapped(&k.saddr, pod_of(i));
	mapped(&k.daddr, server_of(i));
	return k;
}

static __always_inline struct flow_key replier_key(__u32 i)
{
	struct flow_key k = { .sport = bpf_htons(443), .dport = port_of(i), .proto = 6 };
	mapped(&k.saddr, server_of(i));
	mapped(&k.daddr, NODE_ADDRESS);
	return k;
}
