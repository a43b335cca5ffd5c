// SPDX-License-Identifier: Apache-2.0
// Middles and ranges of samples, for those who measure and those who report.

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Of the samples, in any order. NaN if there are none. */
export function spread(samples: readonly number[]): Spread {
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (i: number): number => sorted[i] ?? Number.NaN;
  const half = (sorted.length - 1) / 2;
  const median = (at(Math.floor(half)) + at(Math.ceil(half))) / 2;
  return { median, min: at(0), max: at(sorted.length - 1) };
}

/** The sample below which `share` of them lie. NaN if there are none. */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.floor(share * (sorted.length - 1))] ?? Number.NaN;
}
