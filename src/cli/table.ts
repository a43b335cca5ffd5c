// SPDX-License-Identifier: Apache-2.0
// Tables as kubectl prints them: upper-case headers, columns padded with spaces, three apart, no lines. Twenty lines of
// our own, because the table libraries looked at all draw borders or pad the last column.

/** One column of a table over rows of type T. */
export interface Column<T> {
  header: string;
  cell: (row: T) => string | number;
  /** Numbers that are compared read better to the right. */
  right?: boolean;
}

const GAP = "   ";

/** The table with its header, a line feed after each line. Rows without a value show `-`. */
export function renderTable<T>(columns: Column<T>[], rows: T[]): string {
  const lines = [
    columns.map((column) => column.header),
    ...rows.map((row) => columns.map((column) => String(column.cell(row)) || "-")),
  ];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  const pad = (cell: string, i: number): string =>
    columns[i]?.right ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0);
  return lines.map((line) => `${line.map(pad).join(GAP).trimEnd()}\n`).join("");
}
