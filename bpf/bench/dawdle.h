/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* For bench/shapes/growth.ts, which puts it between two instructions of the data plane that nothing may come between: now and then
 * it takes its time there, so that something does.
 */
#pragma once

static int dawdle_step(__u32 step, void *context)
{
	return 0;
}

static __always_inline void dawdle(void)
{
	if (bpf_get_prandom_u32() % 256 == 0)
		bpf_loop(bpf_get_prandom_u32() & 0x3ffff, dawdle_step, NULL, 0);
}
