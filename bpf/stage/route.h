/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where does the packet go? From its destination, for from_pod: to a local pod, out of a device by the kernel's routing
 * table, or to the node's stack, which also answers for everything that must not be forwarded (ICMP errors).
 */
#pragma once

/* Flags of bpf_fib_lookup: since 6.3 and 6.7. A kernel that does not know one says EINVAL before it does anything; then the
 * lookup runs without: it finds the same route, also without a neighbour, but no preferred source. */
#define FIB_SKIP_NEIGH (1U << 2)
#define FIB_SOURCE (1U << 4)

enum route {
	ROUTE_POD,    /* a local pod: out_ifindex, dmac, smac */
	ROUTE_DEVICE, /* out of a device: out_ifindex, next_hop, route_source */
	ROUTE_NODE,   /* the node itself, or nowhere: no unicast route */
	ROUTE_STACK,  /* the kernel must answer: TTL used up, larger than the route's MTU, forwarding off, prohibited */
};

static __always_inline void fib_from(struct bpf_fib_lookup *fib, struct __sk_buff *skb, const struct pkt *p)
{
	/* With a length the lookup also minds path MTU exceptions and locked MTUs of routes, and gives the MTU back. */
	fib->tot_len = segment_bytes(skb, p);
	fib->l4_protocol = p->key.proto;
	fib->sport = p->key.sport;
	fib->dport = p->key.dport;
	fib->ifindex = skb->ifindex;
	if (p->v6) {
		fib->family = AF_INET6;
		__builtin_memcpy(fib->ipv6_src, &p->key.saddr, sizeof(struct addr));
		__builtin_memcpy(fib->ipv6_dst, &p->xdaddr, sizeof(struct addr));
	} else {
		fib->family = AF_INET;
		fib->ipv4_src = p->key.saddr.w[3];
		fib->ipv4_dst = p->xdaddr.w[3];
	}
}

static __always_inline void take_route(struct pkt *p, const struct bpf_fib_lookup *fib, bool source)
{
	p->out_ifindex = fib->ifindex;
	p->mtu = fib->mtu_result;
	p->next_hop.nh_family = fib->family;
	__builtin_memcpy(p->next_hop.ipv6_nh, fib->ipv6_dst, sizeof(p->next_hop.ipv6_nh));
	if (!source)
		return;
	if (p->v6)
		__builtin_memcpy(&p->route_source, fib->ipv6_src, sizeof(struct addr));
	else
		addr_from_v4(&p->route_source, fib->ipv4_src);
}

/* Finds the way of the packet with destination xdaddr. Sets what enum route says. */
__noinline int route_find(struct __sk_buff *skb, struct pkt *p)
{
	struct bpf_fib_lookup fib = {};
	bool source = CONFIG.masquerade_to_route_source;
	struct addr to;
	int found;

	if (!p)
		return ROUTE_STACK;
	to = p->xdaddr;
	/* What was masqueraded left the node; asking for local pods again would cost every packet a lookup. */
	if (!(p->state & FLOW_XSOURCE) && endpoint_at(p, &to))
		return p->ttl > TTL_LAST ? ROUTE_POD : ROUTE_STACK;
	if (p->direction == DIRECTION_FORWARD && (p->rule == MASQ_LOCAL || p->rule == MASQ_UNMANAGED))
		return ROUTE_NODE;
	fib_from(&fib, skb, p);
	found = bpf_fib_lookup(skb, &fib, sizeof(fib), FIB_SKIP_NEIGH | (source ? FIB_SOURCE : 0));
	if (found == -EINVAL) {
		source = false;
		found = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	}
	if (found == BPF_FIB_LKUP_RET_NOT_FWDED)
		return ROUTE_NODE;
	if ((found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH) || p->ttl <= TTL_LAST)
		return ROUTE_STACK;
	take_route(p, &fib, source);
	return ROUTE_DEVICE;
}
