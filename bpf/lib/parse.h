/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From bytes to struct pkt: IPv4 with options, IPv6 with up to EXTHDR_MAX extension headers, TCP, UDP, ICMP echo, anything else;
 * fragments, ICMP errors and link business are recognised. A length that lies is refused here, because a redirect skips the
 * kernel's own checks (ip_rcv, ip6_rcv_core). Each function reads at the cursor, moves it, and gives 0, or -1 with
 * pkt.reason; fields keep their byte order.
 */
#pragma once

#define EXTHDR_MAX 6
/* Of all extension headers: the transport header must be where a checksum can be corrected and the header be written. */
#define EXTHDR_BYTES 960
#define IP_OFFSET 0x1fff
#define IP_MORE 0x2000
#define IP6_OFFSET 0xfff8
#define IP6_MORE 1
#define VLAN_ID 0x0fff
#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

enum icmp_type { ICMP4_REPLY = 0, ICMP4_UNREACHABLE = 3, ICMP4_QUENCH = 4, ICMP4_REQUEST = 8, ICMP4_EXCEEDED = 11, ICMP4_PARAMETER = 12 };
enum icmp6_type { ICMP6_UNREACHABLE = 1, ICMP6_PARAMETER = 4, ICMP6_REQUEST = 128, ICMP6_REPLY = 129 };
#define ICMP4_ERRORS (1 << ICMP4_UNREACHABLE | 1 << ICMP4_QUENCH | 1 << ICMP4_EXCEEDED | 1 << ICMP4_PARAMETER)

/* ICMP and ICMPv6 echo (RFC 792, RFC 4443 4.1); other types share the first three fields. */
struct echo {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 id;
	__be16 sequence;
};

/* RFC 8200 4.5. */
struct fragment6 {
	__u8 next;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

struct cursor {
	void *pos;
	void *end;
};

/* The next `size` bytes, or NULL if the linear part of the packet ends before. */
static __always_inline void *take(struct cursor *c, __u32 size)
{
	void *at = c->pos;

	if (at + size > c->end)
		return NULL;
	c->pos = at + size;
	return at;
}

static __always_inline void classify_icmp(struct pkt *p, const struct echo *icmp)
{
	__u8 type = icmp->type;

	if (type == (p->v6 ? ICMP6_REQUEST : ICMP4_REQUEST)) {
		p->key.sport = icmp->id;
		p->opens = OPENS_ONLY;
	} else if (type == (p->v6 ? ICMP6_REPLY : ICMP4_REPLY)) {
		p->key.dport = icmp->id;
	} else if (p->v6 ? type >= ICMP6_UNREACHABLE && type <= ICMP6_PARAMETER :
		   type <= ICMP4_PARAMETER && (ICMP4_ERRORS >> type & 1)) {
		p->shape = SHAPE_ICMP_ERROR;
	} else {
		/* Neighbour discovery and MLD have link-scoped addresses; with others they are forwarded, so not exempt. */
		p->shape = SHAPE_ICMP_OTHER;
	}
}

/* Ports that a protocol like SCTP may have are not looked at: its fragments have none, and who may reach a pod's address on one of
 * them may on all. */
static __always_inline void classify_session(struct pkt *p)
{
	p->shape = SHAPE_SESSION;
	p->opens = OPENS_EITHER;
}

/* The transport header; `room` is what the IP header leaves for it. */
static __always_inline int parse_l4(struct cursor *c, struct pkt *p, __u32 room)
{
	if (p->key.proto == IPPROTO_TCP) {
		struct tcphdr *tcp = take(c, sizeof(*tcp));

		if (!tcp || room < tcp->doff * 4 || tcp->doff < 5)
			return drop(p, DROP_CT_INVALID_HDR);
		p->key.sport = tcp->source;
		p->key.dport = tcp->dest;
		p->tcp_flags = ((__u8 *)tcp)[13];
		p->l4_len = tcp->doff * 4;
		p->opens = (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
	} else if (p->key.proto == IPPROTO_UDP) {
		struct udphdr *udp = take(c, sizeof(*udp));
		__u32 len = udp ? bpf_ntohs(udp->len) : 0;

		/* A first fragment has less than its datagram says. */
		if (len < sizeof(*udp) || room < sizeof(*udp) || (len > room && !p->fragment))
			return drop(p, DROP_CT_INVALID_HDR);
		p->key.sport = udp->source;
		p->key.dport = udp->dest;
		p->l4_len = sizeof(*udp);
		p->unsummed = udp->check == 0;
		p->opens = OPENS_EITHER;
	} else if (p->key.proto == (p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) {
		struct echo *icmp = take(c, sizeof(*icmp));

		if (!icmp || room < sizeof(*icmp))
			return drop(p, DROP_CT_INVALID_HDR);
		classify_icmp(p, icmp);
	} else {
		classify_session(p);
	}
	return 0;
}

static __always_inline bool fragments_tracked(const struct pkt *p)
{
	return p->v6 ? CONFIG.track_fragments_ipv6 : CONFIG.track_fragments_ipv4;
}

static __always_inline void classify_fragment(struct pkt *p, bool later, bool more, __be32 id)
{
	if (!later && !more)
		return;
	p->fragment_id = id;
	p->fragment = later ? FRAGMENT_LATER : FRAGMENT_FIRST;
	if (later || !fragments_tracked(p))
		p->shape = SHAPE_FRAGMENT;
}

/* Gives the bytes after the IP header, as it says, or -1. */
static __always_inline int parse_v4(struct __sk_buff *skb, struct cursor *c, struct pkt *p)
{
	struct iphdr *ip = take(c, sizeof(*ip));
	__u32 header, len;

	if (!ip)
		return drop(p, DROP_CT_INVALID_HDR);
	header = ip->ihl * 4;
	len = bpf_ntohs(ip->tot_len);
	if (len == 0 && skb->gso_size)
		len = skb->len - p->l3;
	if (ip->version != 4 || header < sizeof(*ip) || len < header || p->l3 + len > skb->len)
		return drop(p, DROP_INVALID);
	addr_from_v4(&p->key.saddr, ip->saddr);
	addr_from_v4(&p->key.daddr, ip->daddr);
	p->key.proto = ip->protocol;
	p->ttl = ip->ttl;
	p->l3_len = len;
	p->l4 = p->l3 + header;
	if (header > sizeof(*ip) && !take(c, header - sizeof(*ip)))
		return drop(p, DROP_CT_INVALID_HDR);
	if (addr_link_scoped(&p->key.daddr, false))
		p->shape = SHAPE_LINK;
	else
		classify_fragment(p, ip->frag_off & bpf_htons(IP_OFFSET), ip->frag_off & bpf_htons(IP_MORE), ip->id);
	/* What has no ports has its tuple in each fragment. In IPv6 only the first says of which protocol all are (RFC 8200 4.5). */
	if (p->shape == SHAPE_FRAGMENT && ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_ICMP)
		classify_session(p);
	return len - header;
}

/* Walks the extension headers (RFC 8200 4.1) up to the transport header; gives its protocol, or -1. An authentication header is
 * none here, as it is none in IPv4: it covers the addresses, so what it protects cannot be translated (RFC 4302 3.3.3). */
static __always_inline int skip_exthdrs(struct __sk_buff *skb, struct cursor *c, struct pkt *p, __u8 next, __u32 *used)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i <= EXTHDR_MAX; i++) {
		struct ipv6_opt_hdr *opt;
		struct fragment6 part;
		__u32 size;

		switch (next) {
		case IPPROTO_FRAGMENT:
			if (bpf_skb_load_bytes(skb, p->l3 + sizeof(struct ipv6hdr) + *used, &part, sizeof(part)))
				return drop(p, DROP_CT_INVALID_HDR);
			classify_fragment(p, part.offset & bpf_htons(IP6_OFFSET), part.offset & bpf_htons(IP6_MORE), part.id);
			break;
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
			break;
		default:
			return next;
		}
		opt = take(c, sizeof(*opt));
		if (!opt)
			return drop(p, DROP_CT_INVALID_HDR);
		size = next == IPPROTO_FRAGMENT ? 8 : (opt->hdrlen + 1) * 8;
		next = opt->nexthdr;
		if (size > sizeof(*opt) && !take(c, size - sizeof(*opt)))
			return drop(p, DROP_CT_INVALID_HDR);
		*used += size;
		/* What follows in a later fragment is no header. */
		if (p->fragment == FRAGMENT_LATER)
			return next;
	}
	return drop(p, DROP_INVALID_EXTHDR);
}

/* Gives the bytes after the IP header and its extensions, as it says, or -1. */
static __always_inline int parse_v6(struct __sk_buff *skb, struct cursor *c, struct pkt *p)
{
	struct ipv6hdr *ip6 = take(c, sizeof(*ip6));
	__u32 used = 0, len;
	int proto;

	if (!ip6)
		return drop(p, DROP_CT_INVALID_HDR);
	len = bpf_ntohs(ip6->payload_len);
	if (len == 0 && skb->gso_size)
		len = skb->len - p->l3 - sizeof(*ip6);
	if (ip6->version != 6 || p->l3 + sizeof(*ip6) + len > skb->len)
		return drop(p, DROP_INVALID);
	__builtin_memcpy(&p->key.saddr, &ip6->saddr, sizeof(struct addr));
	__builtin_memcpy(&p->key.daddr, &ip6->daddr, sizeof(struct addr));
	/* The tables hold IPv4 so: on the wire nobody may say it (the kernel refuses it too, ip6_rcv_core). */
	if (addr_mapped(&p->key.saddr) || addr_mapped(&p->key.daddr))
		return drop(p, DROP_INVALID);
	p->v6 = 1;
	p->ttl = ip6->hop_limit;
	p->l3_len = sizeof(*ip6) + len;
	proto = skip_exthdrs(skb, c, p, ip6->nexthdr, &used);
	if (proto < 0)
		return -1;
	if (used > len || used > EXTHDR_BYTES)
		return drop(p, DROP_INVALID_EXTHDR);
	p->key.proto = proto;
	p->l4 = p->l3 + sizeof(*ip6) + used;
	if (addr_link_scoped(&p->key.daddr, true) || addr_link_scoped(&p->key.saddr, true))
		p->shape = SHAPE_LINK;
	return len - used;
}

/* Reads what lies in the linear part. */
__noinline int parse_linear(struct __sk_buff *skb, struct pkt *p)
{
	struct cursor c;
	int room = 0;

	if (!p)
		return -1;
	c.pos = (void *)(long)skb->data + 14;
	c.end = (void *)(long)skb->data_end;
	p->shape = SHAPE_FLOW;
	p->fragment = FRAGMENT_NONE;
	/* On a device with VLANs the packet comes by again on the VLAN's own device. */
	if (skb->vlan_present)
		p->shape = SHAPE_NOT_IP;
	else if (skb->protocol == bpf_htons(ETH_P_IP) && CONFIG.enable_ipv4)
		room = parse_v4(skb, &c, p);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6) && CONFIG.enable_ipv6)
		room = parse_v6(skb, &c, p);
	else
		p->shape = SHAPE_NOT_IP;
	if (room < 0)
		return -1;
	return p->shape == SHAPE_FLOW ? parse_l4(&c, p, room) : 0;
}

static __always_inline bool priority_tagged(const struct __sk_buff *skb)
{
	return skb->vlan_present && !(skb->vlan_tci & VLAN_ID);
}

/* The longest headers that are looked at: Ethernet, IPv6, its extensions, TCP without options. */
#define PULL_BYTES (14 + 40 + EXTHDR_BYTES + 20)

/* Sets all fields of pkt that it owns. What the kernel left in fragments of the buffer is pulled in only when it is missed:
 * a locally sent TCP packet has exactly its headers there, and pulling payload costs more than all of this. */
static __always_inline int parse(struct __sk_buff *skb, struct pkt *p)
{
	p->l3 = 14;
	p->now = ticks();
	/* A priority tag is no VLAN: the kernel takes such a frame as untagged, and one in another as well (vlan_do_receive). */
	if ((p->hook == HOOK_FROM_POD || p->hook == HOOK_FROM_NET) && priority_tagged(skb) &&
	    (bpf_skb_vlan_pop(skb) || priority_tagged(skb)))
		return drop(p, DROP_UNSUPPORTED_L3);
	if (parse_linear(skb, p) == 0)
		return 0;
	if (p->reason != DROP_CT_INVALID_HDR || skb->data_end - skb->data >= skb->len)
		return -1;
	if (bpf_skb_pull_data(skb, skb->len < PULL_BYTES ? skb->len : PULL_BYTES))
		return -1;
	p->reason = FORWARDED;
	return parse_linear(skb, p);
}
