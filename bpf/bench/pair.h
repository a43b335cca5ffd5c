/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Shape B: two entries per flow in one LRU hash, one per direction, each with all that a packet of its direction needs.
 * back_both also refreshes the entry of the other direction, which the flow's state needs to be seen from both sides.
 */
#pragma once

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2 * FLOWS_DEFAULT);
	__type(key, struct flow_key);
	__type(value, struct flow);
} b_pairs SEC(".maps");

static __always_inline int pair_touch(const struct flow_key *k, __u32 now)
{
	struct flow *f = bpf_map_lookup_elem(&b_pairs, k);
	if (!f || (__s32)(f->expires - now) <= 0)
		return -1;
	return f->proxy_port;
}

static __always_inline int pair_out(__u32 i, __u32 now)
{
	struct flow_key k = opener_key(i);
	return pair_touch(&k, now);
}

static __always_inline int pair_back(__u32 i, __u32 now)
{
	struct flow_key k = replier_key(i);
	return pair_touch(&k, now);
}

static __always_inline int pair_back_both(__u32 i, __u32 now)
{
	struct flow_key k = replier_key(i);
	struct flow *f = bpf_map_lookup_elem(&b_pairs, &k);
	if (!f || (__s32)(f->expires - now) <= 0)
		return -1;
	struct flow_key o = { .saddr = f->xdaddr, .daddr = k.saddr, .sport = f->xdport, .dport = k.sport, .proto = k.proto };
	return pair_touch(&o, now);
}

static __always_inline int pair_new(__u32 i, __u32 now)
{
	struct flow_key k = opener_key(i), back = replier_key(i);
	if (bpf_map_lookup_elem(&b_pairs, &k))
		return -1;
	struct flow f = { .xsaddr = k.daddr, .xdaddr = k.saddr, .xsport = k.dport, .xdport = k.sport, .expires = now + 4096,
			  .created = now, .endpoint = 1, .state = FLOW_XDEST, .rule = MASQ_POD, .identity = 256 };
	if (bpf_map_update_elem(&b_pairs, &back, &f, BPF_NOEXIST))
		return -1;
	mapped(&f.xsaddr, NODE_ADDRESS);
	f.xdaddr = k.daddr;
	f.xsport = k.sport;
	f.xdport = k.dport;
	f.state = FLOW_XSOURCE;
	if (!bpf_map_update_elem(&b_pairs, &k, &f, BPF_NOEXIST))
		return 0;
	bpf_map_delete_elem(&b_pairs, &back);
	return -1;
}

static __always_inline int pair_remove(__u32 i, __u32 now)
{
	struct flow_key k = opener_key(i), back = replier_key(i);
	int gone = bpf_map_delete_elem(&b_pairs, &back);
	return bpf_map_delete_elem(&b_pairs, &k) | gone;
}
