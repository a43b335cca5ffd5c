/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Takes over an established flow that netfilter has translated, when the programs masquerade again: it goes on under the same
 * address and port. Run by user space through BPF_PROG_TEST_RUN, once for each flow. Claim and record are made as for a flow of the
 * packet path, so that counts are right and a growing table is no obstacle.
 */
#pragma once

SEC("syscall")
int adopt(struct adoption *a)
{
	struct pkt p = { .now = ticks(), .rule = MASQ_POD };
	struct flow_key tuple = {};
	struct reply mine = {};

	p.key = a->key;
	p.xsaddr = a->xsaddr;
	p.xdaddr = p.key.daddr;
	p.xsport = a->xsport;
	p.xdport = p.key.dport;
	p.endpoint = a->endpoint;
	p.identity = a->identity;
	p.state = a->state;
	tuple.saddr = p.xdaddr;
	tuple.daddr = p.xsaddr;
	tuple.sport = p.xdport;
	tuple.dport = p.xsport;
	tuple.proto = p.key.proto;
	mine.saddr = p.key.saddr;
	mine.sport = p.key.sport;
	mine.claim = p.now;
	a->adopted = 0;
	if (reply_insert(&tuple, &mine))
		return 0;
	if (flow_create(&p))
		port_release(&p);
	else
		a->adopted = 1;
	return 0;
}
