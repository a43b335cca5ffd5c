/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Shape A, and D, which is A with other types: the authoritative record under the opener's tuple and an index from the
 * reply's tuple to it. Included once per set of types: N(name) names the functions, KEY, RECORD and INDEX are the
 * structs, OPENER and REPLIER make the keys, SET and SAME act on addresses. The functions take the tables, so that the
 * same code runs on maps named in the program and on maps found through an array of maps.
 */

static __always_inline int N(out)(void *flows, __u32 i, __u32 now)
{
	KEY k = OPENER(i);
	RECORD *f = bpf_map_lookup_elem(flows, &k);
	if (!f || (__s32)(f->expires - now) <= 0)
		return -1;
	return f->proxy_port;
}

static __always_inline int N(back)(void *flows, void *replies, __u32 i, __u32 now)
{
	KEY k = REPLIER(i);
	INDEX *r = bpf_map_lookup_elem(replies, &k);
	if (!r)
		return -1;
	KEY o = { .saddr = r->saddr, .daddr = k.saddr, .sport = r->sport, .dport = k.sport, .proto = k.proto };
	RECORD *f = bpf_map_lookup_elem(flows, &o);
	if (!f || (__s32)(f->expires - now) <= 0 || f->xsport != k.dport || !SAME(&f->xsaddr, &k.daddr))
		return -1;
	return f->proxy_port;
}

/* The index first, then the record: until the record stands, the index entry means nothing and nobody may take it. */
static __always_inline int N(new)(void *flows, void *replies, __u32 i, __u32 now)
{
	KEY k = OPENER(i), back = REPLIER(i);
	if (bpf_map_lookup_elem(flows, &k))
		return -1;
	INDEX r = { .saddr = k.saddr, .sport = k.sport, .claim = now };
	if (bpf_map_update_elem(replies, &back, &r, BPF_NOEXIST))
		return -1;
	RECORD f = { .xdaddr = k.daddr, .xsport = k.sport, .xdport = k.dport, .expires = now + 4096,
		     .created = now, .endpoint = 1, .state = FLOW_XSOURCE, .rule = MASQ_POD, .identity = 256 };
	SET(&f.xsaddr, NODE_ADDRESS);
	if (!bpf_map_update_elem(flows, &k, &f, BPF_NOEXIST))
		return 0;
	bpf_map_delete_elem(replies, &back);
	return -1;
}

static __always_inline int N(remove)(void *flows, void *replies, __u32 i, __u32 now)
{
	KEY k = OPENER(i), back = REPLIER(i);
	int gone = bpf_map_delete_elem(replies, &back);
	return bpf_map_delete_elem(flows, &k) | gone;
}

#undef N
#undef KEY
#undef RECORD
#undef INDEX
#undef OPENER
#undef REPLIER
#undef SET
#undef SAME
