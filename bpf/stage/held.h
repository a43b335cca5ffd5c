/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A later fragment that must be translated and came before the first of its datagram waits for it in map frag_held. When the first
 * has been dealt with, it comes by the same hook once more, and behind it all that have waited: whoever looks at them then sees
 * a datagram in order. For from_pod, from_net and to_net; the sweep ends those whose first does not come.
 *
 * One word decides about a place, held.since: free, busy, or the tick since when a fragment waits there. It changes by
 * compare-and-swap, and whoever has made it busy owns the place. Who holds a fragment looks for its datagram once more
 * afterwards, and the first is recorded before anybody looks for what waits for it: so one of the two sees the other.
 *
 * A sender holds at most as many as there is room for more, like flows (stage/open.h): a pod, and the network as one. What comes
 * from the network for an address of the node may be the node's own, so it is copied, and goes on to the stack.
 */
#pragma once

#define HELD_FREE 0
#define HELD_BUSY 1

static __noinline void count_fate(__u32 fate)
{
	__u64 *count = bpf_map_lookup_elem(&frag_counts, &fate);

	if (count)
		(*count)++;
}

static __always_inline bool held_take(struct held *h, __u32 since)
{
	return __sync_val_compare_and_swap(&h->since, since, HELD_BUSY) == since;
}

static __always_inline void held_give(struct held *h, __u32 since)
{
	__sync_lock_test_and_set(&h->since, since);
}

static __always_inline __u32 held_since(const struct held *h)
{
	return *(const volatile __u32 *)&h->since;
}

static __always_inline bool datagram_equal(const struct datagram_key *a, const struct datagram_key *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	_Static_assert(sizeof(*a) == 5 * sizeof(*x), "all of the key is compared");
	return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]) | (x[4] ^ y[4])) == 0;
}

/* Makes a place busy whose fragment has waited too long. True if the caller owns it now. */
static __always_inline bool held_late(struct held *h, __u32 since, __u32 now)
{
	return since > HELD_BUSY && (__s32)(now - since) > HELD_TICKS && held_take(h, since);
}

/* Counts the fragment of a place that the caller owns as given up. What came from the network the stack has: no drop. */
static __noinline void held_end(const struct held *h)
{
	count_fate(FRAGMENT_ENDED);
	if (h->hook != HOOK_FROM_NET)
		count(h->hook, DROP_FRAG_NOT_FOUND, h->len + ETH_HLEN);
}

struct looking {
	__u32 now;
	__u16 endpoint; /* whose fragments are counted */
	__u16 pad;
	__u32 mine;
	__u32 free;
	__s32 place;    /* taken for the caller; -1 none */
};

/* Looks at a place: counts it, and takes the first that is free. */
static long held_look(void *map, __u32 *place, struct held *h, struct looking *l)
{
	__u32 since = held_since(h);

	/* The sweep ends such before somebody needs the place, and tells it; unless no agent runs. */
	if (held_late(h, since, l->now)) {
		held_end(h);
		since = HELD_FREE;
		held_give(h, since);
	}
	if (since == HELD_FREE) {
		l->free++;
		if (l->place < 0 && held_take(h, since))
			l->place = *place;
	} else if (h->endpoint == l->endpoint) {
		l->mine++;
	}
	return 0;
}

/* Sends the packet through a hook again. `flags`: which side of the device that hook is on. */
static __always_inline int come_again(struct __sk_buff *skb, __u32 flags)
{
	skb->mark |= MARK_AGAIN;
	return bpf_clone_redirect(skb, skb->ifindex, flags);
}

static __always_inline __u32 hook_side(const struct pkt *p)
{
	return p->hook == HOOK_TO_NET ? 0 : BPF_F_INGRESS;
}

/* One less than the bytes of a packet: the verifier learns of no other test that they are not none. */
static __always_inline __u32 last_byte(__u32 len)
{
	__u32 last = len - 1;

	barrier_var(last);
	return last;
}

/* Writes the packet to a place that the caller owns. */
static __always_inline int held_write(struct __sk_buff *skb, const struct pkt *p, struct held *h, __u32 place)
{
	struct held_bytes *copy = bpf_map_lookup_elem(&frag_bytes, &place);
	__u32 last = last_byte(p->l3_len);

	if (!copy || last >= HELD_BYTES || bpf_skb_load_bytes(skb, p->l3, copy->bytes, last + 1))
		return -1;
	h->ifindex = skb->ifindex;
	h->len = last + 1;
	h->endpoint = p->endpoint;
	h->hook = p->hook;
	h->proto = p->key.proto;
	return 0;
}

/* Holds a later fragment that came before its first, if there is room. Gives AGAIN if the packet is done with, else `verdict`. */
__noinline int fragment_hold(struct __sk_buff *skb, struct pkt *p, int verdict)
{
	struct looking l = { .place = -1 };
	struct held *h, *mark, *sender;
	struct datagram_key key = {};
	__u32 place, since;

	if (!p || p->wait != WAIT_FIRST)
		return verdict;
	l.now = p->now;
	l.endpoint = p->endpoint;
	/* Who has just been refused is refused at once: looking at all places costs 4 us. */
	place = l.endpoint % HELD_SLOTS;
	sender = bpf_map_lookup_elem(&frag_held, &place);
	if (!sender || (sender->refused == l.now && sender->refused_to == l.endpoint))
		return verdict;
	bpf_for_each_map_elem(&frag_held, held_look, &l, 0);
	place = l.place;
	h = bpf_map_lookup_elem(&frag_held, &place);
	if (l.mine >= l.free) {
		sender->refused = l.now;
		sender->refused_to = l.endpoint;
	}
	datagram_key(&key, p);
	mark = held_mark(&key);
	if (!h || !mark)
		return verdict;
	if (l.mine >= l.free || held_write(skb, p, h, place)) {
		held_give(h, HELD_FREE);
		return verdict;
	}
	h->key = key;
	mark->marked = l.now;
	/* Never one of the two others. */
	since = l.now | 2;
	held_give(h, since);
	if (datagram_get(&key, l.now) && held_take(h, since)) {
		held_give(h, HELD_FREE);
		if (come_again(skb, hook_side(p)))
			return verdict;
		p->reason = FORWARDED;
		return AGAIN;
	}
	count_fate(FRAGMENT_HELD);
	if (p->hook == HOOK_FROM_NET)
		return verdict;
	p->reason = FORWARDED;
	return AGAIN;
}

struct releasing {
	struct __sk_buff *skb;
	struct datagram_key key;
	__u32 flags;    /* of bpf_clone_redirect */
	__u16 endpoint; /* who sent it, 0 the network */
	bool first;     /* it is on its way */
};

/* Sends the fragment of a place on its way, if it is of this datagram, in the buffer of the first, which has gone before. */
static long held_release(void *map, __u32 *place, struct held *h, struct releasing *r)
{
	__u32 since = held_since(h), number = *place, last = last_byte(h->len);
	struct __sk_buff *skb = r->skb;
	struct held_bytes *copy;

	if (since <= HELD_BUSY || !datagram_equal(&h->key, &r->key) || h->endpoint != r->endpoint)
		return 0;
	if (!r->first && come_again(skb, r->flags))
		return 1;
	r->first = true;
	if (!held_take(h, since))
		return 0;
	copy = bpf_map_lookup_elem(&frag_bytes, &number);
	if (!copy || last >= HELD_BYTES || bpf_skb_change_tail(skb, ETH_HLEN + 1 + last, 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, copy->bytes, last + 1, BPF_F_RECOMPUTE_CSUM) || come_again(skb, r->flags))
		held_end(h);
	else
		count_fate(FRAGMENT_RELEASED);
	held_give(h, HELD_FREE);
	return 0;
}

/* For a first fragment that may go on: true if it comes by again, and behind it what has waited for it. */
__noinline int fragment_release(struct __sk_buff *skb, struct pkt *p)
{
	struct releasing r = { .skb = skb };

	if (!p)
		return false;
	datagram_key(&r.key, p);
	r.flags = hook_side(p);
	r.endpoint = p->hook == HOOK_FROM_NET ? 0 : p->endpoint;
	bpf_for_each_map_elem(&frag_held, held_release, &r, 0);
	if (!r.first)
		skb->mark &= ~MARK_AGAIN;
	return r.first;
}

/* The last step of a hook: makes the packet say what its flow is translated to; unless it is one that others have waited for. */
static __always_inline int send(struct __sk_buff *skb, struct pkt *p, int verdict)
{
	if (p->wait == WAIT_LATER && fragment_release(skb, p))
		return AGAIN;
	return rewrite(skb, p) ? DROP : verdict;
}
