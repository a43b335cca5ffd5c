// SPDX-License-Identifier: Apache-2.0
// Map `resets`: whether pods are told by a TCP RST that nobody knows their connection (bpf/stage/refuse.h), and how often they
// have been. For the loader and the agent, which permit it, and for metrics.
import type { Table } from "./table.ts";

/** Entries of the map, bpf/abi/maps.h. */
const ALLOWED = 0;
const SENT = { ipv4: 1, ipv6: 2 } as const;

/** RSTs sent since the map was made, by family. */
export type ResetCounts = Readonly<Record<keyof typeof SENT, number>>;

/** Says whether RSTs may be sent. */
export function permitResets(table: Table<number, bigint>, permitted: boolean): void {
  table.set(ALLOWED, permitted ? 1n : 0n);
}

export function readResets(table: Table<number, bigint>): ResetCounts {
  const sent = (index: number): number => Number(table.get(index) ?? 0n);
  return { ipv4: sent(SENT.ipv4), ipv6: sent(SENT.ipv6) };
}
