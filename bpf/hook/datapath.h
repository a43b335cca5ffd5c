/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The hooks, and the one program behind them. What is attached to devices is only an entry that says which hook it is and goes
 * on in the program that stands in map `programs`. So every stage is loaded once and not once per hook, and one write to that
 * map swaps the data plane on all devices in the same instant (docs/adr/0004-one-program.md).
 */
#pragma once

/* An empty slot cannot be while the pins are there. Then nothing leaves a pod untranslated; the node's own traffic goes on. */
static __always_inline int enter(struct __sk_buff *skb, enum hook hook)
{
	skb->cb[0] = hook;
	bpf_tail_call_static(skb, &programs, PROGRAM_SLOT);
	return hook == HOOK_FROM_POD ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	return enter(skb, HOOK_FROM_POD);
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	return enter(skb, HOOK_TO_POD);
}

SEC("tc")
int from_net(struct __sk_buff *skb)
{
	return enter(skb, HOOK_FROM_NET);
}

SEC("tc")
int to_net(struct __sk_buff *skb)
{
	return enter(skb, HOOK_TO_NET);
}

static __always_inline int path(struct __sk_buff *skb, struct pkt *p)
{
	/* Decided in from_pod. */
	if (p->hook == HOOK_TO_NET && (skb->mark & MARK_DECIDED))
		return PASS;

	/* Read the headers. What lies or is cut short is dropped where it enters the node; of what leaves it the kernel has judged. */
	if (parse(skb, p)) {
		if (p->hook == HOOK_FROM_POD || p->hook == HOOK_FROM_NET)
			return DROP;
		p->reason = FORWARDED;
		return PASS;
	}
	switch (p->hook) {
	case HOOK_FROM_POD:
		return from_pod_path(skb, p);
	case HOOK_TO_POD:
		return to_pod_path(skb, p);
	case HOOK_FROM_NET:
		return from_net_path(skb, p);
	case HOOK_TO_NET:
		return to_net_path(skb, p);
	}
	return PASS;
}

SEC("tc")
int datapath(struct __sk_buff *skb)
{
	struct pkt p = { .hook = skb->cb[0] };

	return finish(skb, &p, path(skb, &p));
}
