/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Shape C: the records in an array, one hash from either side's tuple to the record's place in it, and a queue of free
 * places. The record has to hold its own tuple, because a place is used again by another flow.
 */
#pragma once

struct slot {
	struct flow_key key DOC("tuple of the opener: whose record this is");
	struct flow flow DOC("the record");
};

struct side {
	__u32 slot DOC("place of the record");
	__u32 replier DOC("1 for the tuple of a reply");
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, TABLE_FLAGS);
	__uint(max_entries, 2 * FLOWS_DEFAULT);
	__type(key, struct flow_key);
	__type(value, struct side);
} c_sides SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOWS_DEFAULT);
	__type(key, __u32);
	__type(value, struct slot);
} c_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, FLOWS_DEFAULT);
	__type(value, __u32);
} c_free SEC(".maps");

static __always_inline struct slot *slot_of(const struct flow_key *k, __u32 now)
{
	struct side *side = bpf_map_lookup_elem(&c_sides, k);
	if (!side)
		return 0;
	struct slot *s = bpf_map_lookup_elem(&c_slots, &side->slot);
	return s && (__s32)(s->flow.expires - now) > 0 ? s : 0;
}

static __always_inline int slot_out(__u32 i, __u32 now)
{
	struct flow_key k = opener_key(i);
	struct slot *s = slot_of(&k, now);
	if (!s || s->key.sport != k.sport || !same(&s->key.saddr, &k.saddr))
		return -1;
	return s->flow.proxy_port;
}

static __always_inline int slot_back(__u32 i, __u32 now)
{
	struct flow_key k = replier_key(i);
	struct slot *s = slot_of(&k, now);
	if (!s || s->flow.xsport != k.dport || !same(&s->flow.xsaddr, &k.daddr))
		return -1;
	return s->flow.proxy_port;
}

static __always_inline int slot_new(__u32 i, __u32 now)
{
	struct flow_key k = opener_key(i), back = replier_key(i);
	struct side side = {};
	if (bpf_map_lookup_elem(&c_sides, &k) || bpf_map_pop_elem(&c_free, &side.slot))
		return -1;
	struct slot *s = bpf_map_lookup_elem(&c_slots, &side.slot);
	if (!s)
		return -1;
	struct flow f = { .xdaddr = k.daddr, .xsport = k.sport, .xdport = k.dport, .expires = now + 4096,
			  .created = now, .endpoint = 1, .state = FLOW_XSOURCE, .rule = MASQ_POD, .identity = 256 };
	mapped(&f.xsaddr, NODE_ADDRESS);
	s->key = k;
	s->flow = f;
	if (!bpf_map_update_elem(&c_sides, &k, &side, BPF_NOEXIST)) {
		side.replier = 1;
		if (!bpf_map_update_elem(&c_sides, &back, &side, BPF_NOEXIST))
			return 0;
		bpf_map_delete_elem(&c_sides, &k);
	}
	bpf_map_push_elem(&c_free, &side.slot, 0);
	return -1;
}

static __always_inline int slot_remove(__u32 i, __u32 now)
{
	struct flow_key k = opener_key(i), back = replier_key(i);
	struct side *side = bpf_map_lookup_elem(&c_sides, &k);
	if (!side)
		return -1;
	__u32 slot = side->slot;
	int gone = bpf_map_delete_elem(&c_sides, &k) | bpf_map_delete_elem(&c_sides, &back);
	return bpf_map_push_elem(&c_free, &slot, 0) | gone;
}

static __always_inline int slot_fill(__u32 i, __u32 now) { return bpf_map_push_elem(&c_free, &i, 0); }
