/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Makes the packet say what struct pkt says: addresses, ports, checksums, TTL, MAC addresses. The transport checksum goes
 * through bpf_l4_csum_replace, the only way that is right for packets whose checksum the device will fill in
 * (CHECKSUM_PARTIAL) and for those it has summed (CHECKSUM_COMPLETE). UDP without a checksum stays without one.
 */
#pragma once

/* Since 6.16; older kernels say EINVAL. It keeps skb->csum right: an IPv6 header has no checksum to balance the change. */
#ifndef BPF_F_IPV6
#define BPF_F_IPV6 (1ULL << 7)
#endif

#define EINVAL 22
#define L4_MAX_OFFSET 1023

/* What a checksum gains when words of `from` become those of `to`, as the one's complement sum of 32-bit words. */
static __always_inline __u64 addr_diff(const struct addr *from, const struct addr *to, bool v6)
{
	__u64 sum = (__u64)to->w[3] + (__u32)~from->w[3];

	if (v6)
		for (int i = 0; i < 3; i++)
			sum += (__u64)to->w[i] + (__u32)~from->w[i];
	return sum;
}

static __always_inline __u32 fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

static __always_inline __u16 fold16(__u64 sum)
{
	__u32 half = fold32(sum);

	half = (half & 0xffff) + (half >> 16);
	return (half & 0xffff) + (half >> 16);
}

/* Adds to the transport checksum what changed in the addresses and in the ports. */
static __always_inline int rewrite_checksum(struct __sk_buff *skb, struct pkt *p, __u32 diff, __be16 from, __be16 to)
{
	__u8 proto = p->key.proto;
	__u64 flags = 0;
	__u32 at = p->l4;

	if (proto == IPPROTO_TCP) {
		at += offsetof(struct tcphdr, check);
	} else if (proto == IPPROTO_UDP) {
		at += offsetof(struct udphdr, check);
		flags = BPF_F_MARK_MANGLED_0;
	} else {
		at += offsetof(struct echo, checksum);
	}
	if (from != to && bpf_l4_csum_replace(skb, at, from, to, flags | sizeof(to)))
		return drop(p, DROP_CSUM_L4);
	if (diff == 0 || proto == IPPROTO_ICMP)
		return 0;
	flags |= BPF_F_PSEUDO_HDR;
	if (p->v6) {
		int err = bpf_l4_csum_replace(skb, at, 0, diff, flags | BPF_F_IPV6);

		if (err != -EINVAL)
			return err ? drop(p, DROP_CSUM_L4) : 0;
	}
	return bpf_l4_csum_replace(skb, at, 0, diff, flags) ? drop(p, DROP_CSUM_L4) : 0;
}

static __always_inline bool translated(const struct pkt *p)
{
	return p->xsport != p->key.sport || p->xdport != p->key.dport || !addr_equal(&p->xsaddr, &p->key.saddr) ||
	       !addr_equal(&p->xdaddr, &p->key.daddr);
}

/* Writes the tuple of xsaddr, xdaddr, xsport, xdport over that of key, if it is another. Gives -1 with a reason, and then the
 * packet must be dropped: it may be half done. */
__noinline int rewrite(struct __sk_buff *skb, struct pkt *p)
{
	__be16 port_from, port_to;
	__u64 diff, balance;
	void *data, *end;
	__u32 l4;

	if (!p)
		return -1;
	if (!translated(p))
		return 0;
	diff = addr_diff(&p->key.saddr, &p->xsaddr, p->v6) + addr_diff(&p->key.daddr, &p->xdaddr, p->v6);
	/* One sum for both ports: the checksum does not care where a word stands. */
	port_from = fold16((__u64)p->key.sport + p->key.dport);
	port_to = fold16((__u64)p->xsport + p->xdport);
	if (p->fragment == FRAGMENT_LATER || p->unsummed) {
		/* No checksum balances the change in the device's sum of the packet, except IPv4's that of addresses. */
		balance = p->v6 ? diff : 0;
		if (p->unsummed)
			balance += (__u64)port_to + (__u16)~port_from;
		bpf_csum_update(skb, fold32(balance));
	} else if (rewrite_checksum(skb, p, fold32(diff), port_from, port_to)) {
		return -1;
	}

	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (p->v6) {
		struct ipv6hdr *ip6 = data + 14;

		if ((void *)(ip6 + 1) > end)
			return drop(p, DROP_WRITE_ERROR);
		__builtin_memcpy(&ip6->saddr, &p->xsaddr, sizeof(struct addr));
		__builtin_memcpy(&ip6->daddr, &p->xdaddr, sizeof(struct addr));
	} else {
		struct iphdr *ip = data + 14;

		if ((void *)(ip + 1) > end)
			return drop(p, DROP_WRITE_ERROR);
		ip->saddr = p->xsaddr.w[3];
		ip->daddr = p->xdaddr.w[3];
		ip->check = ~fold16((__u16)~ip->check + diff);
	}
	/* An ICMP error has no ports of its own, nor has a later fragment. */
	if (p->shape != SHAPE_FLOW || p->fragment == FRAGMENT_LATER)
		return 0;
	l4 = p->l4;
	if (p->key.proto == IPPROTO_ICMP || p->key.proto == IPPROTO_ICMPV6)
		l4 += offsetof(struct echo, id);
	if (l4 > L4_MAX_OFFSET || data + l4 + 2 * sizeof(__be16) > end)
		return drop(p, DROP_WRITE_ERROR);
	if (p->key.proto == IPPROTO_ICMP || p->key.proto == IPPROTO_ICMPV6) {
		/* One of the two is 0: sport of a reply, dport of a request. */
		*(__be16 *)(data + l4) = p->xsport | p->xdport;
	} else {
		*(__be16 *)(data + l4) = p->xsport;
		*(__be16 *)(data + l4 + 2) = p->xdport;
	}
	return 0;
}

/* One hop further: TTL or hop limit falls by one. The caller has seen that it is above TTL_LAST. */
static __always_inline int rewrite_ttl(struct __sk_buff *skb, struct pkt *p)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;

	if (p->v6) {
		struct ipv6hdr *ip6 = data + 14;

		if ((void *)(ip6 + 1) > end)
			return drop(p, DROP_WRITE_ERROR);
		ip6->hop_limit--;
		/* No checksum in the header balances this in the device's sum of the packet. */
		bpf_csum_update(skb, (__u32)~bpf_htons(1));
	} else {
		struct iphdr *ip = data + 14;

		if ((void *)(ip + 1) > end)
			return drop(p, DROP_WRITE_ERROR);
		ip->ttl--;
		ip->check = ~fold16((__u64)(__u16)~ip->check + (__u16)~bpf_htons(0x0100));
	}
	return 0;
}

static __always_inline int rewrite_mac(struct __sk_buff *skb, struct pkt *p)
{
	void *data = (void *)(long)skb->data;
	struct ethhdr *eth = data;

	if ((void *)(eth + 1) > (void *)(long)skb->data_end)
		return drop(p, DROP_WRITE_ERROR);
	__builtin_memcpy(eth->h_dest, p->dmac, 6);
	__builtin_memcpy(eth->h_source, p->smac, 6);
	return 0;
}
