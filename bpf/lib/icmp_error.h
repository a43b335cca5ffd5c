/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The packet that an ICMP error quotes (RFC 792, RFC 4443 2.4c): reads its tuple and rewrites one of its ends. A quote may stop
 * eight bytes into the transport header, and it may lie outside the linear part of the buffer: it is read and written by
 * helpers, which cost more and are rarely needed. No maps.
 */
#pragma once

#define QUOTE_AT 8
#define QUOTED_L4 8

struct quote {
	struct flow_key key; /* of the quoted packet, as it stands there; for echoes as in pkt.key */
	struct addr xaddr;   /* set by the caller for quote_rewrite: what one end becomes */
	__be16 xport;
	__u16 l3;            /* offset of its IP header */
	__u16 l4;
	__u16 check;         /* offset of its transport checksum, 0 if the quote ends before it */
	__u8 source;         /* set by the caller: the end to rewrite is the source, else the destination */
	__u8 pad[7];
};

/* Ports, or the identifier of an echo; other protocols have none. */
static __always_inline int quote_ports(struct __sk_buff *skb, const struct pkt *p, struct quote *q)
{
	__u32 end = p->l3 + p->l3_len;
	union {
		struct echo echo;
		__be16 ports[4];
	} l4;

	if (q->key.proto != IPPROTO_TCP && q->key.proto != IPPROTO_UDP && q->key.proto != (p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return q->l4 > end ? -1 : 0;
	if (q->l4 + QUOTED_L4 > end || bpf_skb_load_bytes(skb, q->l4, &l4, sizeof(l4)))
		return -1;
	if (q->key.proto == IPPROTO_TCP || q->key.proto == IPPROTO_UDP) {
		q->key.sport = l4.ports[0];
		q->key.dport = l4.ports[1];
		q->check = q->l4 + (q->key.proto == IPPROTO_TCP ? offsetof(struct tcphdr, check) : offsetof(struct udphdr, check));
	} else {
		if (l4.echo.type == (p->v6 ? ICMP6_REQUEST : ICMP4_REQUEST))
			q->key.sport = l4.echo.id;
		else if (l4.echo.type == (p->v6 ? ICMP6_REPLY : ICMP4_REPLY))
			q->key.dport = l4.echo.id;
		else
			return -1;
		q->check = q->l4 + offsetof(struct echo, checksum);
	}
	if (q->check + sizeof(__be16) > end)
		q->check = 0;
	return 0;
}

static __always_inline int quote_v4(struct __sk_buff *skb, struct quote *q)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, q->l3, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return -1;
	if (ip.frag_off & bpf_htons(IP_OFFSET))
		return -1;
	addr_from_v4(&q->key.saddr, ip.saddr);
	addr_from_v4(&q->key.daddr, ip.daddr);
	q->key.proto = ip.protocol;
	q->l4 = q->l3 + ip.ihl * 4;
	return 0;
}

static __always_inline int quote_v6(struct __sk_buff *skb, struct quote *q)
{
	struct ipv6hdr ip6;
	__u32 at = q->l3 + sizeof(ip6);
	__be16 opt[2] = {};
	__u8 next;

	if (bpf_skb_load_bytes(skb, q->l3, &ip6, sizeof(ip6)) || ip6.version != 6)
		return -1;
	__builtin_memcpy(&q->key.saddr, &ip6.saddr, sizeof(struct addr));
	__builtin_memcpy(&q->key.daddr, &ip6.daddr, sizeof(struct addr));
	next = ip6.nexthdr;
#pragma clang loop unroll(disable)
	for (int i = 0; i <= EXTHDR_MAX; i++) {
		const struct ipv6_opt_hdr *head = (const struct ipv6_opt_hdr *)opt;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS && next != IPPROTO_FRAGMENT) {
			q->key.proto = next;
			q->l4 = at;
			return 0;
		}
		if (bpf_skb_load_bytes(skb, at, opt, sizeof(opt)))
			return -1;
		if (next == IPPROTO_FRAGMENT && (opt[1] & bpf_htons(IP6_OFFSET)))
			return -1;
		at += next == IPPROTO_FRAGMENT ? 8 : (head->hdrlen + 1) * 8;
		next = head->nexthdr;
	}
	return -1;
}

/* Reads the quote of an ICMP error into an empty `q`. Gives -1, without a reason, if it is not of a flow, or too short to tell. */
__noinline int quote_parse(struct __sk_buff *skb, struct pkt *p, struct quote *q)
{
	if (!p || !q)
		return -1;
	q->l3 = p->l4 + QUOTE_AT;
	if (p->v6 ? quote_v6(skb, q) : quote_v4(skb, q))
		return -1;
	return quote_ports(skb, p, q);
}

/* Writes a checksum in the quote for what its header gained; adds to `gained` what the ICMP message gains by that. */
static __always_inline int quote_checksum(struct __sk_buff *skb, __u32 at, __u64 header, bool udp, __u64 *gained)
{
	__be16 old, new;

	if (bpf_skb_load_bytes(skb, at, &old, sizeof(old)))
		return -1;
	if (udp && old == 0)
		return 0;
	new = ~fold16((__u16)~old + header);
	if (udp && new == 0)
		new = 0xffff;
	*gained += (__u64)new + (__u16)~old;
	return bpf_skb_store_bytes(skb, at, &new, sizeof(new), 0);
}

/* Writes xaddr and xport over one end of the quoted packet, and rights its checksums and the ICMP message's. Gives -1 with a
 * reason, and then the packet must be dropped. */
__noinline int quote_rewrite(struct __sk_buff *skb, struct pkt *p, struct quote *q)
{
	__u64 addresses, ports, gained;
	__be16 port_from, port_to;
	struct addr to;
	__u32 at;
	bool echo;

	if (!p || !q)
		return -1;
	echo = q->key.proto != IPPROTO_TCP && q->key.proto != IPPROTO_UDP;
	to = q->xaddr;
	port_to = q->xport;
	port_from = echo ? q->key.sport | q->key.dport : q->source ? q->key.sport : q->key.dport;
	addresses = q->source ? addr_diff(&q->key.saddr, &to, p->v6) : addr_diff(&q->key.daddr, &to, p->v6);
	ports = (__u64)port_to + (__u16)~port_from;
	gained = addresses + ports;

	if (p->v6) {
		at = q->l3 + (q->source ? offsetof(struct ipv6hdr, saddr) : offsetof(struct ipv6hdr, daddr));
		if (bpf_skb_store_bytes(skb, at, &to, sizeof(to), 0))
			return drop(p, DROP_WRITE_ERROR);
	} else {
		at = q->l3 + (q->source ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr));
		if (bpf_skb_store_bytes(skb, at, &to.w[3], sizeof(to.w[3]), 0) ||
		    quote_checksum(skb, q->l3 + offsetof(struct iphdr, check), addresses, false, &gained))
			return drop(p, DROP_WRITE_ERROR);
	}
	at = q->l4 + (echo ? offsetof(struct echo, id) : q->source ? 0 : sizeof(__be16));
	if (bpf_skb_store_bytes(skb, at, &port_to, sizeof(port_to), 0))
		return drop(p, DROP_WRITE_ERROR);
	/* The checksum of an IPv4 echo covers no addresses. */
	if (q->check && quote_checksum(skb, q->check, ports + (q->key.proto == IPPROTO_ICMP ? 0 : addresses),
				       q->key.proto == IPPROTO_UDP, &gained))
		return drop(p, DROP_WRITE_ERROR);
	if (bpf_l4_csum_replace(skb, p->l4 + offsetof(struct echo, checksum), 0, fold32(gained), 0))
		return drop(p, DROP_CSUM_L4);
	return 0;
}
