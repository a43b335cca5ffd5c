/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Only the first fragment of a datagram has ports: which did it have? From the datagram's identification, for from_pod, from_net
 * and to_net. A later fragment that comes before the first has none yet: it waits (stage/held.h). A full table forgets the
 * datagram that was asked for longest ago. If the configuration says so nothing is remembered, and first fragments are as later
 * ones.
 */
#pragma once

/* 30 s: as long as a receiver waits for the rest of a datagram. Then its identification may be another's. */
#define DATAGRAM_TICKS (30 * TICKS_SECOND)

/* 1.02 s. What a network reorders it delivers within milliseconds; a sender that lost the first asks again after about so long. */
#define HELD_TICKS TICKS_SECOND

static __always_inline void datagram_key(struct datagram_key *key, const struct pkt *p)
{
	key->saddr = p->key.saddr;
	key->daddr = p->key.daddr;
	key->id = p->fragment_id;
	/* An IPv6 fragment does not always tell the transport protocol: there addresses and identification are enough (RFC 8200 4.5). */
	key->proto = p->v6 ? 0 : p->key.proto;
}

static __noinline struct datagram *datagram_get(const struct datagram_key *key, __u32 now)
{
	struct datagram *found = bpf_map_lookup_elem(&frag_datagrams, key);

	return found && (__s32)(now - found->seen) <= DATAGRAM_TICKS ? found : NULL;
}

/* The place of frag_held whose `marked` tells of fragments of this datagram, in whatever places they are. */
static __noinline struct held *held_mark(const struct datagram_key *key)
{
	__u32 place = (key->saddr.w[3] ^ key->daddr.w[3] ^ key->id) * 0x9e3779b1 >> 24;

	_Static_assert(HELD_SLOTS == 1 << (32 - 24), "the upper bits are the place");
	return bpf_map_lookup_elem(&frag_held, &place);
}

/* Whether fragments of this datagram may be held: nearly every first one learns from this that none waits for it. */
static __always_inline bool held_lately(const struct datagram_key *key, __u32 now)
{
	struct held *mark = held_mark(key);

	return mark && (__s32)(now - mark->marked) <= HELD_TICKS;
}

/* Keeps the ports of a first fragment; gives a later one its datagram's, and from then on it is a packet of that flow. Sets wait.
 * Does nothing to packets that are whole. */
__noinline int datagram_find(struct __sk_buff *skb, struct pkt *p)
{
	struct datagram_key key = {};
	struct datagram first = {};
	struct datagram *found;
	bool again;

	if (!p || p->fragment == FRAGMENT_NONE || !fragments_tracked(p))
		return 0;
	again = skb->mark & MARK_AGAIN;
	skb->mark &= ~MARK_AGAIN;
	datagram_key(&key, p);
	if (p->fragment == FRAGMENT_FIRST) {
		/* Of other protocols each fragment of IPv4 tells the tuple. */
		if (p->shape != SHAPE_FLOW && !(p->shape == SHAPE_SESSION && p->v6))
			return 0;
		first.sport = p->key.sport;
		first.dport = p->key.dport;
		first.proto = p->key.proto;
		first.opens = p->key.proto == IPPROTO_TCP ? OPENS_NOT : p->opens;
		first.seen = p->now;
		bpf_map_update_elem(&frag_datagrams, &key, &first, BPF_ANY);
		if (!again && held_lately(&key, p->now))
			p->wait = WAIT_LATER;
		return 0;
	}
	if (p->shape != SHAPE_FRAGMENT)
		return 0;
	found = datagram_get(&key, p->now);
	if (!found) {
		p->wait = again ? WAIT_NONE : WAIT_FIRST;
		return 0;
	}
	p->key.sport = found->sport;
	p->key.dport = found->dport;
	p->key.proto = found->proto;
	p->opens = found->opens;
	p->shape = found->opens == OPENS_EITHER && found->proto != IPPROTO_UDP ? SHAPE_SESSION : SHAPE_FLOW;
	return 0;
}
