/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What becomes of a packet is counted, and told to user space: drops and new flows. From struct pkt, for the one exit of all
 * hooks, and for what ends without one.
 */
#pragma once

static __always_inline void count(__u32 hook, __u32 reason, __u32 len)
{
	__u32 index = hook * 256 + reason;
	struct counter *counter = bpf_map_lookup_elem(&counters, &index);

	if (counter) {
		counter->packets++;
		counter->bytes += len;
	}
}

/* Room for an event; none if the reader is too slow, which is counted. */
static __always_inline struct flow_event *event_reserve(void)
{
	struct flow_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	__u32 zero = 0;
	__u64 *lost;

	if (event)
		return event;
	lost = bpf_map_lookup_elem(&events_lost, &zero);
	if (lost)
		(*lost)++;
	return NULL;
}

/* Never wakes the reader: a wake-up for each event costs new connections four fifths of their rate, a timer nothing. */
static __always_inline void tell(struct __sk_buff *skb, const struct pkt *p, enum event_kind kind)
{
	struct flow_event *event = event_reserve();

	if (!event)
		return;
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
