// SPDX-License-Identifier: Apache-2.0
// How large the flow table is to be, and how soon to look again: from how many records it holds and nothing else. Pure.
import type { PairSize } from "../loader/flow-tables.ts";

/** An idle node's table, in records: 4.5 MiB with its index. */
const FIRST = 16_384;
/** With each step the table has so many times the room; fewer steps move fewer records in all. */
const FACTOR = 4;
/** It grows when less than this share is free, or less than a burst needs. */
const FREE_SHARE = 0.3;
/** New flows of 80 ms at 100,000 a second: noticing, making the next table and exchanging it take no longer. */
const BURST = 8_192;

/** What a new table begins with. `max`: the most that the options allow. */
export function firstSize(max: PairSize): PairSize {
  return capped(FIRST, max);
}

function capped(flows: number, max: PairSize): PairSize {
  const records = Math.min(flows, max.flows);
  return { flows: records, replies: Math.min(records, max.replies) };
}

/** The pair to grow to now; undefined to stay. */
export function nextSize(records: number, size: PairSize, max: PairSize): PairSize | undefined {
  if (size.flows >= max.flows) return undefined;
  const enough = Math.max(size.flows * FREE_SHARE, Math.min(BURST, size.flows / 2));
  return size.flows - records >= enough ? undefined : capped(size.flows * FACTOR, max);
}

const SOONEST_MS = 5;
const LATEST_MS = 50;
/** Flows that a node may open in a millisecond at the very most. */
const FASTEST = 500;

/** ms until the next look: before new flows, come as they may, could fill what is free. */
export function lookMs(records: number, size: PairSize): number {
  return Math.min(LATEST_MS, Math.max(SOONEST_MS, (size.flows - records) / FASTEST));
}
