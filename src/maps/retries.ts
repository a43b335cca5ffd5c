// SPDX-License-Identifier: Apache-2.0
// The histogram of ports that were refused before a new flow got one, per family: maps nat_retries_v4 and nat_retries_v6.
import type { Table } from "./table.ts";

/** Names of the maps, by family. */
export const RETRY_MAPS = { ipv4: "nat_retries_v4", ipv6: "nat_retries_v6" } as const;
export type RetryFamily = keyof typeof RETRY_MAPS;
export const RETRY_FAMILIES = ["ipv4", "ipv6"] as const;

/** Flows by the number of ports refused, over all processors; the last slot is for more, and for flows that got none. */
export function readRetries(table: Table<number, bigint>): number[] {
  const slots = new Array<number>(table.maxEntries).fill(0);
  for (const [slot, cpus] of table.entriesPerCpu())
    slots[slot] = Number(cpus.reduce((sum, flows) => sum + flows, 0n));
  return slots;
}

/** Makes all slots 0. */
export function clearRetries(table: Table<number, bigint>): void {
  for (let slot = 0; slot < table.maxEntries; slot++) table.delete(slot);
}
