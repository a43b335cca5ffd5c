// SPDX-License-Identifier: Apache-2.0
// When to sweep the flow table next: from how full it is and nothing else. A dead record's port is free without a sweep,
// so an empty table needs none; a full one needs room for new flows.

/** Sweep at once when fuller than the first number, then after the second, in ms; the last row is for an empty table. */
const STEPS: readonly (readonly [fill: number, intervalMs: number])[] = [
  [0.9, 500],
  [0.75, 1_000],
  [0.5, 3_000],
  [0.25, 10_000],
  [0, 30_000],
];

/** ms until the next sweep, with `records` of at most `size` left after this one. */
export function sweepIntervalMs(records: number, size: number): number {
  const fill = size === 0 ? 1 : records / size;
  return STEPS.find(([from]) => fill >= from)?.[1] ?? 30_000;
}
