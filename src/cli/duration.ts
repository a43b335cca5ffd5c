// SPDX-License-Identifier: Apache-2.0
// Ages and sizes for people, also from the data plane's ticks.
import { TICK_NS } from "../maps/ticks.ts";

const TICK_SECONDS = Number(TICK_NS) / 1e9;

/** Seconds from tick `from` to tick `to`; negative if `to` is earlier. */
export function ticksBetween(from: number, to: number): number {
  return ((to - from) | 0) * TICK_SECONDS;
}

/** 12s, 3m20s, 2h13m, 3d2h: the two largest units. */
export function formatSeconds(total: number): string {
  let rest = Math.max(0, Math.round(total));
  const units: [string, number][] = [
    ["d", 86_400],
    ["h", 3_600],
    ["m", 60],
    ["s", 1],
  ];
  const parts: string[] = [];
  for (const [unit, size] of units) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count}${unit}`);
  }
  return parts.slice(0, 2).join("") || "0s";
}

/** 512 B, 4.0 KiB, 1.2 MiB. */
export function formatBytes(bytes: number): string {
  const units = ["KiB", "MiB", "GiB"];
  if (bytes < 1024) return `${bytes} B`;
  let value = bytes;
  let unit = "";
  for (const next of units) {
    if (value < 1024) break;
    value /= 1024;
    unit = next;
  }
  return `${value.toFixed(1)} ${unit}`;
}
