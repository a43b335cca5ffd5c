// SPDX-License-Identifier: Apache-2.0
// How a command's result reaches standard output: a table for people, JSON or YAML for programs, from the same rows. Rows
// are written as they come, a piece at a time: a list of a million flows must not be held as text.
import { setImmediate as pause } from "node:timers/promises";
import { type Column, tableLines } from "./table.ts";

export type Format = "table" | "json" | "yaml";
export const FORMATS: Format[] = ["table", "json", "yaml"];

/** Characters that are collected before they are written. */
const PIECE = 1 << 16;

/** 64-bit counters become numbers while exact, text beyond 2^53. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value !== "bigint") return value;
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value.toString();
}

/** A value as JSON with two spaces, or as YAML. */
export async function renderData(format: "json" | "yaml", value: unknown): Promise<string> {
  const json = JSON.stringify(value, plain, 2);
  if (format === "json") return `${json}\n`;
  const { renderYaml } = await import("./yaml.ts");
  return renderYaml(JSON.parse(json));
}

/** Writes text to standard output. A reader that has gone away (head, less) ends the command quietly. */
export async function write(text: string): Promise<void> {
  if (!process.stdout.write(text) && process.stdout.errored === null)
    await new Promise((resolve) => process.stdout.once("drain", resolve));
}

/** Writes lines in pieces. After each the event loop runs once, for that is how a reader that has gone away is noticed. */
export async function writeLines(lines: Iterable<string>): Promise<void> {
  let piece = "";
  for (const line of lines) {
    piece += line;
    if (piece.length < PIECE) continue;
    await write(piece);
    await pause();
    piece = "";
  }
  if (piece !== "") await write(piece);
}

/** A list as JSON.stringify would write it with two spaces. */
export function* jsonLines(rows: Iterable<unknown>): Generator<string> {
  let before = "[\n";
  for (const row of rows) {
    yield `${before}  ${JSON.stringify(row, plain, 2).replaceAll("\n", "\n  ")}`;
    before = ",\n";
  }
  yield before === "[\n" ? "[]\n" : "\n]\n";
}

/** A list of plain rows as YAML. */
export function* yamlLines(rows: Iterable<unknown>, render: (value: unknown) => string): Generator<string> {
  let none = true;
  for (const row of rows) {
    yield render([JSON.parse(JSON.stringify(row, plain))]);
    none = false;
  }
  if (none) yield "[]\n";
}

/** Prints rows as JSON or YAML. */
export async function printData(format: "json" | "yaml", rows: Iterable<unknown>): Promise<void> {
  if (format === "json") return writeLines(jsonLines(rows));
  const { renderYaml } = await import("./yaml.ts");
  return writeLines(yamlLines(rows, renderYaml));
}

/** Prints rows in the format that the user chose. A table goes through the rows twice. */
export async function printRows<T>(format: Format, columns: Column<T>[], rows: Iterable<T>): Promise<void> {
  return format === "table" ? writeLines(tableLines(columns, rows)) : printData(format, rows);
}

/** Prints one value, as `text` makes it for people. */
export async function printValue<T>(format: Format, value: T, text: (value: T) => string): Promise<void> {
  await write(format === "table" ? text(value) : await renderData(format, value));
}
