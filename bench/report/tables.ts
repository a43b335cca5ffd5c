// SPDX-License-Identifier: Apache-2.0
// Tables in Markdown, and numbers as they stand in them.
import type { Spread } from "../statistics.ts";

export type Cell = string | number;

export const table = (head: readonly string[], rows: readonly (readonly Cell[])[]): string =>
  [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");

/** `8.41 [8.12-9.30]` */
export const range = ({ median, min, max }: Spread, digits: number): string =>
  `${median.toFixed(digits)} [${min.toFixed(digits)}-${max.toFixed(digits)}]`;

/** Bytes as MB of a million. */
export const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);

export const percent = (part: number, whole: number): number => (100 * part) / whole;
