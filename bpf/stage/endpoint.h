/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which local pod is at this end of the packet? From the device or the address, for the flow table and for delivery. */
#pragma once

/* Id of the local pod that has an address, 0 if none has. */
static __always_inline __u16 endpoint_id(const struct addr *addr)
{
	struct endpoint *ep = bpf_map_lookup_elem(&endpoint_addrs, addr);

	return ep ? ep->id : 0;
}

/* The pod behind the device that the packet came in by; its source must be the pod's own address. Sets endpoint,
 * endpoint_flags, identity. */
static __always_inline int endpoint_sender(struct __sk_buff *skb, struct pkt *p)
{
	__u32 ifindex = skb->ifindex;
	struct endpoint *ep = bpf_map_lookup_elem(&endpoints, &ifindex);

	if (!ep)
		return drop(p, DROP_INVALID_SOURCE_IP);
	p->endpoint = ep->id;
	p->endpoint_flags = ep->flags;
	p->identity = ep->identity;
	if (!addr_equal(&p->key.saddr, p->v6 ? &ep->addr6 : &ep->addr4))
		return drop(p, DROP_INVALID_SOURCE_IP);
	return 0;
}

/* The pod that sent a packet which came by the node's stack. Sets what endpoint_sender sets; false if no pod did. */
static __always_inline bool endpoint_at_source(struct pkt *p)
{
	struct endpoint *ep = bpf_map_lookup_elem(&endpoint_addrs, &p->key.saddr);

	if (!ep)
		return false;
	p->endpoint = ep->id;
	p->endpoint_flags = ep->flags;
	p->identity = ep->identity;
	return true;
}

/* The local pod that has an address. Sets out_ifindex, dmac, smac for delivery and gives its id, 0 if no pod has it. */
static __always_inline __u16 endpoint_at(struct pkt *p, const struct addr *addr)
{
	struct endpoint *ep = bpf_map_lookup_elem(&endpoint_addrs, addr);

	if (!ep)
		return 0;
	p->out_ifindex = ep->ifindex;
	__builtin_memcpy(p->dmac, ep->mac, sizeof(p->dmac));
	__builtin_memcpy(p->smac, ep->host_mac, sizeof(p->smac));
	return ep->id;
}
