// SPDX-License-Identifier: Apache-2.0
// What has become of fragments that came before the first of their datagram: map frag_counts.
import { FragmentFate } from "./gen/verdict.ts";
import type { Table } from "./table.ts";

/** Counts since the map was made, over all processors. What was held and is neither released nor ended waits now. */
export interface FragmentFates {
  readonly held: number;
  readonly released: number;
  readonly ended: number;
}

export const NO_FATES: FragmentFates = { held: 0, released: 0, ended: 0 };

export function readFates(table: Table<number, bigint>): FragmentFates {
  const fates = new Map(table.entriesPerCpu());
  const count = (fate: number): number => Number((fates.get(fate) ?? []).reduce((sum, n) => sum + n, 0n));
  return {
    held: count(FragmentFate.FRAGMENT_HELD),
    released: count(FragmentFate.FRAGMENT_RELEASED),
    ended: count(FragmentFate.FRAGMENT_ENDED),
  };
}

/** Fragments that wait now. */
export function waitingFragments({ held, released, ended }: FragmentFates): number {
  return held - released - ended;
}
