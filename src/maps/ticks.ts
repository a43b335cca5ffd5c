// SPDX-License-Identifier: Apache-2.0
// The data plane's clock as records hold it: 2^24 ns of CLOCK_MONOTONIC in 32 bits, compared by signed difference
// (bpf/abi/types.h).

export const TICK_NS = 1n << 24n;

/** CLOCK_MONOTONIC now, in ticks; it is what hrtime reads. */
export function nowTicks(): number {
  return Number((process.hrtime.bigint() / TICK_NS) & 0xffff_ffffn);
}
