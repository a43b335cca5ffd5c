/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Ends chosen flows, for `bpf nat flush` and `bpf ct flush`: tells from a list of tuples which records may end now. Run by user
 * space through BPF_PROG_TEST_RUN, beside packets, sweeps and a growth. A run takes each record one step further: one that is
 * alive is dead afterwards, its port free; one that was dead is gone, with its entry. User space lets a grace period pass
 * between the two, so that no packet is still at work on what is removed (docs/adr/0006-sweep.md).
 */
#pragma once

#define EFAULT 14

struct flushing {
	struct flush *flush;
	__u32 now;
	bool failed;
};

static __always_inline void flush_record(__u32 slot, const struct flow_key *key, struct flushing *s)
{
	struct flush *flush = s->flush;
	void *table = flow_table(slot);
	struct flow *f = table ? bpf_map_lookup_elem(table, key) : NULL;
	__u32 seen;

	if (!f)
		return;
	seen = flow_expires(f);
	if (!alive(seen, s->now)) {
		if (flow_bury(table, key, f, seen, s->now) >= 0)
			flush->removed++;
	} else if ((__s32)(f->created - flush->before) <= 0 && seen > FLOW_TOUCHED &&
		   flow_swap(f, seen, expiry(s->now, 0))) {
		flow_close(f, key->proto, s->now);
		flush->ended++;
	}
}

static int flush_one(__u32 index, struct flushing *s)
{
	struct flow_key key;

	if (bpf_copy_from_user(&key, sizeof(key), (const void *)(s->flush->keys + index * sizeof(key)))) {
		s->failed = true;
		return 1;
	}
	/* What moves is in slot 0 before it leaves slot 1. */
	flush_record(1, &key, s);
	flush_record(0, &key, s);
	return 0;
}

SEC("syscall")
int flush(struct flush *flush)
{
	struct flushing s = { .flush = flush, .now = ticks() };

	flush->now = s.now;
	flush->ended = 0;
	flush->removed = 0;
	bpf_loop(flush->count, flush_one, &s, 0);
	return s.failed ? -EFAULT : 0;
}
