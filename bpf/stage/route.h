/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where does the packet go? From its destination and the address that it will leave under, for from_pod: to a local pod, out of a
 * device by the kernel's routing table, or to the node's stack, which also answers for everything that must not be forwarded
 * (ICMP errors). What will leave under an address of the node is routed as the node's own: a rule "from the pod's address", as
 * clouds write them to send a pod out of a further NIC, is not for it.
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

static __always_inline void fib_from(struct bpf_fib_lookup *fib, struct __sk_buff *skb, const struct pkt *p, bool as_node)
{
	/* With a length the lookup also minds path MTU exceptions and locked MTUs of routes, and gives the MTU back. In to_net the
	 * stack has judged the size; only the device's MTU counts. */
	fib->tot_len = p->hook == HOOK_TO_NET ? 0 : segment_bytes(skb, p);
	fib->l4_protocol = p->key.proto;
	fib->sport = p->key.sport;
	fib->dport = p->key.dport;
	fib->ifindex = skb->ifindex;
	/* A packet of the node's own has no source while its route is looked for. */
	if (p->v6) {
		fib->family = AF_INET6;
		__builtin_memcpy(fib->ipv6_dst, &p->xdaddr, sizeof(struct addr));
		if (!as_node)
			__builtin_memcpy(fib->ipv6_src, &p->key.saddr, sizeof(struct addr));
	} else {
		fib->family = AF_INET;
		fib->ipv4_dst = p->xdaddr.w[3];
		if (!as_node)
			fib->ipv4_src = p->key.saddr.w[3];
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

/* Asks the kernel's routing table: for a packet of the node's own, or of the pod's. Gives no ROUTE_POD. */
__noinline int route_ask(struct __sk_buff *skb, struct pkt *p, bool as_node)
{
	struct bpf_fib_lookup fib = {};
	bool source = CONFIG.masquerade_to_route_source;
	int found;

	if (!p)
		return ROUTE_STACK;
	fib_from(&fib, skb, p, as_node);
	found = bpf_fib_lookup(skb, &fib, sizeof(fib), FIB_SKIP_NEIGH | (source ? FIB_SOURCE : 0));
	if (found == -EINVAL) {
		source = false;
		found = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	}
	if (found == BPF_FIB_LKUP_RET_NOT_FWDED)
		return ROUTE_NODE;
	if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH)
		return ROUTE_STACK;
	take_route(p, &fib, source);
	return ROUTE_DEVICE;
}

/* Whether the packet leaves under an address of the node if it leaves by a native device: its record says so, or for want of one
 * the rule for its destination. */
static __always_inline bool leaves_as_node(const struct pkt *p)
{
	if (p->direction == DIRECTION_NONE)
		return p->rule == MASQ_POD;
	return p->direction == DIRECTION_FORWARD && (p->state & FLOW_XSOURCE);
}

static __always_inline struct device *device_native(__u32 ifindex)
{
	return bpf_map_lookup_elem(&devices, &ifindex);
}

/* Finds the way of the packet with destination xdaddr. Sets what enum route says, and without a flow the rule. */
__noinline int route_find(struct __sk_buff *skb, struct pkt *p)
{
	struct device *device;
	struct flow_key key;
	struct way *way;
	bool as_node;
	struct addr to;
	int route;

	if (!p)
		return ROUTE_STACK;
	way = way_slot(&key, p);
	if (way && way_recall(skb, p, way, &key))
		return ROUTE_DEVICE;
	to = p->xdaddr;
	/* What was masqueraded left the node; asking for local pods again would cost every packet a lookup. */
	if (!(p->state & FLOW_XSOURCE) && endpoint_at(p, &to))
		return p->ttl > TTL_LAST ? ROUTE_POD : ROUTE_STACK;
	if (p->direction == DIRECTION_FORWARD && (p->rule == MASQ_LOCAL || p->rule == MASQ_UNMANAGED))
		return ROUTE_NODE;
	if (p->direction == DIRECTION_NONE)
		masquerade_rule(p);
	as_node = leaves_as_node(p);
	route = route_ask(skb, p, as_node);
	if (as_node && route != ROUTE_STACK) {
		device = route == ROUTE_DEVICE ? device_native(p->out_ifindex) : NULL;
		/* By another device it would leave as it is, and the node may have no way at all: then the pod's own counts. */
		if (!device)
			route = route_ask(skb, p, false);
		else if (way && (device->flags & DEVICE_ONE_WAY))
			way_keep(skb, p, way, &key);
	}
	return route == ROUTE_DEVICE && p->ttl <= TTL_LAST ? ROUTE_STACK : route;
}

/* For a packet that the stack has routed by the pod's address, and that leaves under the node's: its way as the node's own, if it
 * may be another one (the device says so, for that costs a look-up), or the route's source is asked for. Sets out_ifindex and
 * next_hop if that is by another native device, and route_source. Gives -1 with a reason if the node may not send it there.
 */
__noinline int route_again(struct __sk_buff *skb, struct pkt *p, bool by_source)
{
	__u32 chosen = skb->ifindex;
	bool first;
	int route;

	if (!p)
		return 0;
	first = p->direction == DIRECTION_NONE;
	if (!by_source && !(first && CONFIG.masquerade_to_route_source))
		return 0;
	route = route_ask(skb, p, true);
	if (route == ROUTE_DEVICE && device_native(p->out_ifindex))
		return 0;
	p->out_ifindex = chosen;
	return by_source && route == ROUTE_STACK ? drop(p, DROP_NO_FIB) : 0;
}
