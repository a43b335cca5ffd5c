/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* For test/packet/growth-order.test.ts, which puts it between two instructions of the data plane: whoever comes by with a ticket
 * waits there until user space lets him go on. Without a ticket one passes.
 */
#pragma once

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

static int halt_step(__u32 step, __u32 *ticket)
{
	__u32 zero = 0;
	struct halts *h = bpf_map_lookup_elem(&halts, &zero);

	return !h || (*(volatile __u32 *)&h->open >> (*ticket & 31) & 1);
}

static __always_inline void halt(void)
{
	__u32 zero = 0, ticket = 0;
	struct halts *h = bpf_map_lookup_elem(&halts, &zero);

	if (!h || !*(volatile __u32 *)&h->tickets)
		return;
	ticket = __sync_fetch_and_add(&h->tickets, -1);
	__sync_fetch_and_or(&h->waiting, 1 << (ticket & 31));
	bpf_loop(1 << 23, halt_step, &ticket, 0);
	bpf_loop(1 << 23, halt_step, &ticket, 0);
	bpf_loop(1 << 23, halt_step, &ticket, 0);
	bpf_loop(1 << 23, halt_step, &ticket, 0);
}
