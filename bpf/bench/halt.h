/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* For test/packet/growth-order.test.ts, which puts it between two instructions of the data plane: whoever comes by with a ticket
 * waits there until user space lets him go on or, so that it need not have a processor meanwhile, until the next one waits; for
 * PATIENCE_NS at most. Without a ticket one passes.
 */
#pragma once

#define PATIENCE_NS 8000000000ULL
/* Calls of bpf_loop, each of at most 8 Mi steps of some 30 ns. */
#define LOOPS 64

struct halts {
	__u32 tickets; /* the next to come by gets the number that stands here, and waits if it is not 0 */
	__u32 waiting; /* bits of the numbers that wait, or have waited */
	__u32 open;    /* bits of the numbers that may go on */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct halts);
} halts SEC(".maps");

struct halted {
	__u64 until;
	__u32 ticket;
};

static int halt_step(__u32 step, struct halted *me)
{
	__u32 zero = 0;
	struct halts *h = bpf_map_lookup_elem(&halts, &zero);

	return !h || (*(volatile __u32 *)&h->open >> (me->ticket & 31) & 1) ||
	       (*(volatile __u32 *)&h->waiting << 1 >> (me->ticket & 31) & 1) || bpf_ktime_get_ns() > me->until;
}

static __always_inline void halt(void)
{
	__u32 zero = 0;
	struct halted me = {};
	struct halts *h = bpf_map_lookup_elem(&halts, &zero);

	if (!h || !*(volatile __u32 *)&h->tickets)
		return;
	me.until = bpf_ktime_get_ns() + PATIENCE_NS;
	me.ticket = __sync_fetch_and_add(&h->tickets, -1);
	__sync_fetch_and_or(&h->waiting, 1 << (me.ticket & 31));
	for (int i = 0; i < LOOPS; i++)
		bpf_loop(1 << 23, halt_step, &me, 0);
}
