/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Only the first fragment of a datagram has ports: which did it have? From the datagram's identification, for from_pod, from_net
 * and to_net. A later fragment that comes before the first has none: where it would have to be translated, it is dropped, else
 * it is left as it is. The receiver, who reassembles, asks for the whole datagram again. A full table forgets the datagram that was
 * asked for longest ago. If the configuration says so nothing is remembered, and first fragments are as later ones.
 */
#pragma once

static __always_inline void datagram_key(struct datagram_key *key, const struct pkt *p)
{
	key->saddr = p->key.saddr;
	key->daddr = p->key.daddr;
	key->id = p->fragment_id;
	/* An IPv6 fragment does not always tell the transport protocol: there addresses and identification are enough (RFC 8200 4.5). */
	key->proto = p->v6 ? 0 : p->key.proto;
}

/* Keeps the ports of a first fragment; gives a later one its datagram's, and from then on it is a packet of that flow. Does
 * nothing to packets that are whole. */
__noinline int datagram_find(struct pkt *p)
{
	struct datagram_key key = {};
	struct datagram first = {};
	struct datagram *found;

	if (!p || p->fragment == FRAGMENT_NONE || !fragments_tracked(p))
		return 0;
	datagram_key(&key, p);
	if (p->fragment == FRAGMENT_FIRST) {
		/* Of other protocols each fragment of IPv4 tells the tuple. */
		if (p->shape != SHAPE_FLOW && !(p->shape == SHAPE_SESSION && p->v6))
			return 0;
		first.sport = p->key.sport;
		first.dport = p->key.dport;
		first.proto = p->key.proto;
		first.opens = p->key.proto == IPPROTO_TCP ? OPENS_NOT : p->opens;
		bpf_map_update_elem(&frag_datagrams, &key, &first, BPF_ANY);
		return 0;
	}
	found = p->shape == SHAPE_FRAGMENT ? bpf_map_lookup_elem(&frag_datagrams, &key) : NULL;
	if (!found)
		return 0;
	p->key.sport = found->sport;
	p->key.dport = found->dport;
	p->key.proto = found->proto;
	p->opens = found->opens;
	p->shape = found->opens == OPENS_EITHER && found->proto != IPPROTO_UDP ? SHAPE_SESSION : SHAPE_FLOW;
	return 0;
}
