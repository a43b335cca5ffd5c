/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The one exit of every hook: carries the verdict out, counts the packet, tells user space of drops and new flows. */
#pragma once

static __always_inline void count(struct __sk_buff *skb, const struct pkt *p)
{
	__u32 index = p->hook * 256 + p->reason;
	struct counter *counter = bpf_map_lookup_elem(&counters, &index);

	if (counter) {
		counter->packets++;
		counter->bytes += skb->len;
	}
}

/* Never wakes the reader: a wake-up for each event costs new connections four fifths of their rate, a timer nothing. */
static __always_inline void tell(struct __sk_buff *skb, const struct pkt *p, enum event_kind kind)
{
	struct flow_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	__u32 zero = 0;
	__u64 *lost;

	if (!event) {
		lost = bpf_map_lookup_elem(&events_lost, &zero);
		if (lost)
			(*lost)++;
		return;
	}
	/* As of the last timer interrupt, 1-10 ms ago: the exact clock costs a new flow 50 ns. */
	event->time = bpf_ktime_get_coarse_ns();
	event->saddr = p->key.saddr;
	event->daddr = p->key.daddr;
	event->sport = p->key.sport;
	event->dport = p->key.dport;
	event->xsaddr = p->xsaddr;
	event->xdaddr = p->xdaddr;
	event->xsport = p->xsport;
	event->xdport = p->xdport;
	event->ifindex = skb->ifindex;
	event->identity = p->identity;
	event->remote_identity = p->remote_identity;
	event->rule_arg = p->rule_arg;
	event->len = skb->len;
	event->endpoint = p->endpoint;
	event->kind = kind;
	event->hook = p->hook;
	event->reason = p->reason;
	event->rule = p->rule;
	event->proto = p->key.proto;
	event->tcp_flags = p->tcp_flags;
	event->pad = 0;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

/* Gives the code that the kernel expects of a tc program: for PASS "next", so that programs after ours see the packet. Inline as
 * it is called once: a call costs every packet 7 ns. */
static __always_inline int finish(struct __sk_buff *skb, struct pkt *p, int verdict)
{
	int code = TC_ACT_UNSPEC;

	if (verdict == DELIVER || verdict == FORWARD) {
		if (rewrite_ttl(skb, p) || (verdict == DELIVER && rewrite_mac(skb, p)))
			verdict = DROP;
	}
	if (verdict == DELIVER) {
		code = bpf_redirect_peer(p->out_ifindex, 0);
	} else if (verdict == FORWARD || verdict == DETOUR) {
		skb->mark |= MARK_DECIDED;
		code = bpf_redirect_neigh(p->out_ifindex, &p->next_hop, sizeof(p->next_hop), 0);
	} else if (verdict == DROP) {
		code = TC_ACT_SHOT;
	}
	count(skb, p);
	if ((p->reason && CONFIG.events >= 1) || (p->fresh && CONFIG.events >= 2))
		tell(skb, p, p->reason ? EVENT_DROP : EVENT_NEW_FLOW);
	return code;
}
