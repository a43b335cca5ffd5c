/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One address type for both families: 128 bits in network order, IPv4 mapped into ::ffff:0:0/96. Pure functions on
 * addresses and tuples, for every stage.
 */
#pragma once

#define AF_INET 2
#define AF_INET6 10

static __always_inline bool addr_equal(const struct addr *a, const struct addr *b)
{
	return ((a->w[0] ^ b->w[0]) | (a->w[1] ^ b->w[1]) | (a->w[2] ^ b->w[2]) | (a->w[3] ^ b->w[3])) == 0;
}

static __always_inline bool addr_none(const struct addr *a)
{
	return (a->w[0] | a->w[1] | a->w[2] | a->w[3]) == 0;
}

static __always_inline bool addr_mapped(const struct addr *a)
{
	return (a->w[0] | a->w[1] | (a->w[2] ^ bpf_htonl(0xffff))) == 0;
}

static __always_inline void addr_from_v4(struct addr *a, __be32 v4)
{
	a->w[0] = 0;
	a->w[1] = 0;
	a->w[2] = bpf_htonl(0xffff);
	a->w[3] = v4;
}

/* Multicast, broadcast and reserved, unspecified; for IPv6 link-local as well: what no router forwards (RFC 1112, RFC 4291
 * 2.5.2, 2.5.6, 2.7). It is the business of the node's stack and never translated. 169.254.0.0/16 is not among them: clouds
 * serve metadata there and the ip-masq-agent has a switch for it, so nonmasq_cidrs decides.
 */
static __always_inline bool addr_link_scoped(const struct addr *a, bool v6)
{
	__u32 top = bpf_ntohl(v6 ? a->w[0] : a->w[3]);

	if (!v6)
		return top >= 0xe0000000 || top == 0;
	return top >= 0xff000000 || (top >> 22) == (0xfe800000 >> 22) || addr_none(a);
}

/* The tuple of the opposite direction. */
static __always_inline void key_reverse(struct flow_key *to, const struct flow_key *from)
{
	to->saddr = from->daddr;
	to->daddr = from->saddr;
	to->sport = from->dport;
	to->dport = from->sport;
	to->proto = from->proto;
	to->pad[0] = 0;
	to->pad[1] = 0;
	to->pad[2] = 0;
}
