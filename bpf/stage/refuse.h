/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A pod's TCP segment is dropped because no record knows its connection, and none ever will: it has expired, was flushed, or ended
 * with the address of the node that the connection was translated to. The pod's socket is told by a RST, as the far side would
 * tell it that knew nothing of the connection (RFC 9293 3.10.7.1), in place of a quarter of an hour of silence. For from_pod.
 *
 * A RST cannot be taken back. So none is sent
 *   1. until the agent has said that tables and exclusions are complete (map `resets`): not while a data plane is being loaded, nor
 *      before it has taken over netfilter's connections;
 *   2. if a second look finds the record;
 *   3. in to_net: before it stands netfilter, which passes on untranslated what it holds for out of window. That is a segment of a
 *      living connection with a tuple that nobody knows.
 */
#pragma once

#define RESET_TTL 64
#define IP_DONT_FRAGMENT 0x4000
/* A header without options, in the word that holds the flags too. */
#define TCP_PLAIN (5U << 28)

enum tcp_word { TCP_PORTS, TCP_SEQUENCE, TCP_ACKNOWLEDGED, TCP_FLAGS, TCP_CHECKSUM, TCP_WORDS };

static __always_inline bool resets_allowed(void)
{
	__u32 index = RESETS_ALLOWED;
	__u64 *allowed = bpf_map_lookup_elem(&resets, &index);

	return allowed && *allowed;
}

static __always_inline void count_reset(bool v6)
{
	__u32 index = v6 ? RESETS_IPV6 : RESETS_IPV4;
	__u64 *sent = bpf_map_lookup_elem(&resets, &index);

	if (sent)
		__sync_fetch_and_add(sent, 1);
}

/* Makes the header of the segment that of its answer, without a checksum. */
static __always_inline void reset_header(__be32 *tcp, const struct pkt *p)
{
	__u32 len = p->l3 + p->l3_len - p->l4 - p->l4_len + !!(p->tcp_flags & TCP_SYN) + !!(p->tcp_flags & TCP_FIN);
	__u32 flags = TCP_RST;

	tcp[TCP_PORTS] = tcp[TCP_PORTS] >> 16 | tcp[TCP_PORTS] << 16;
	if (p->tcp_flags & TCP_ACK) {
		tcp[TCP_SEQUENCE] = tcp[TCP_ACKNOWLEDGED];
		tcp[TCP_ACKNOWLEDGED] = 0;
	} else {
		tcp[TCP_ACKNOWLEDGED] = bpf_htonl(bpf_ntohl(tcp[TCP_SEQUENCE]) + len);
		tcp[TCP_SEQUENCE] = 0;
		flags |= TCP_ACK;
	}
	tcp[TCP_FLAGS] = bpf_htonl(TCP_PLAIN | flags << 16);
	tcp[TCP_CHECKSUM] = 0;
}

/* Writes the headers around it for the way back. */
static __always_inline int reset_envelope(struct __sk_buff *skb, const struct pkt *p)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u16 *mac = data, from;

	if (data + 14 + sizeof(struct iphdr) + 4 * TCP_WORDS > end)
		return -1;
	for (int i = 0; i < 3; i++) {
		from = mac[3 + i];
		mac[3 + i] = mac[i];
		mac[i] = from;
	}
	if (p->v6) {
		struct ipv6hdr *ip6 = data + 14;

		if ((void *)(ip6 + 1) > end)
			return -1;
		*(__be32 *)ip6 = bpf_htonl(6U << 28);
		ip6->payload_len = bpf_htons(4 * TCP_WORDS);
		ip6->nexthdr = IPPROTO_TCP;
		ip6->hop_limit = RESET_TTL;
		__builtin_memcpy(&ip6->saddr, &p->key.daddr, sizeof(struct addr));
		__builtin_memcpy(&ip6->daddr, &p->key.saddr, sizeof(struct addr));
	} else {
		__be32 *ip = data + 14;

		ip[0] = bpf_htonl(0x45000000 | (sizeof(struct iphdr) + 4 * TCP_WORDS));
		ip[1] = bpf_htonl(IP_DONT_FRAGMENT);
		ip[3] = p->key.daddr.w[3];
		ip[4] = p->key.saddr.w[3];
		ip[2] = bpf_htonl(RESET_TTL << 24 | IPPROTO_TCP << 16);
		((struct iphdr *)ip)->check = ~fold16((__u64)ip[0] + ip[1] + ip[2] + ip[3] + ip[4]);
	}
	return 0;
}

/* Turns the segment into its answer and sends it back into the pod, past the hooks. Gives the code for the kernel. */
__noinline int refuse(struct __sk_buff *skb, struct pkt *p)
{
	__u32 at, extra, around, segment;
	__be32 tcp[TCP_WORDS];

	if (!p || (p->tcp_flags & TCP_RST) || p->fragment || !resets_allowed() || flow_find(p) != DIRECTION_NONE ||
	    bpf_skb_load_bytes(skb, p->l4, tcp, sizeof(tcp)))
		return TC_ACT_SHOT;
	reset_header(tcp, p);
	/* Mapped IPv4 addresses have the sum of their last words: ffff is 0. */
	around = bpf_csum_diff(NULL, 0, p->key.saddr.w, 2 * sizeof(struct addr), bpf_htonl(IPPROTO_TCP + sizeof(tcp)));
	segment = bpf_csum_diff(NULL, 0, tcp, sizeof(tcp), 0);
	at = 14 + (p->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	extra = p->l4 - at;
	if (bpf_skb_change_tail(skb, p->l4 + sizeof(tcp), 0) ||
	    (extra && bpf_skb_adjust_room(skb, -(__s32)extra, BPF_ADJ_ROOM_NET, 0)) ||
	    bpf_skb_store_bytes(skb, at, tcp, sizeof(tcp), 0))
		return TC_ACT_SHOT;
	/* Where the device would have summed the segment (CHECKSUM_PARTIAL) the field holds the pseudo-header's sum, and the second
	 * call does nothing; else it holds the whole. */
	at += offsetof(struct tcphdr, check);
	if (bpf_l4_csum_replace(skb, at, 0, around, BPF_F_PSEUDO_HDR) ||
	    bpf_l4_csum_replace(skb, at, 0, segment, 0) || reset_envelope(skb, p))
		return TC_ACT_SHOT;
	count_reset(p->v6);
	return bpf_redirect_peer(skb->ifindex, 0);
}
