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

/** The table with its header, line by line, a line feed after each. Rows without a value show `-`; they are gone through twice. */
export function* tableLines<T>(columns: Column<T>[], rows: Iterable<T>): Generator<string> {
  const cells = (row: T): string[] => columns.map((column) => String(column.cell(row)) || "-");
  const headers = columns.map((column) => column.header);
  const widths = headers.map((header) => header.length);
  for (const row of rows) {
    for (const [i, cell] of cells(row).entries()) {
      if (cell.length > (widths[i] ?? 0)) widths[i] = cell.length;
    }
  }
  const pad = (cell: string, i: number): string =>
    columns[i]?.right ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0);
  const line = (texts: string[]): string => `${texts.map(pad).join(GAP).trimEnd()}\n`;
  yield line(headers);
  for (const row of rows) yield line(cells(row));
}

/** The whole table as one text. */
export function renderTable<T>(columns: Column<T>[], rows: Iterable<T>): string {
  return [...tableLines(columns, rows)].join("");
}
