// SPDX-License-Identifier: Apache-2.0
// How a command's result reaches standard output: a table for people, JSON or YAML for programs, from the same rows.
import { type Column, renderTable } from "./table.ts";

export type Format = "table" | "json" | "yaml";
export const FORMATS: Format[] = ["table", "json", "yaml"];

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
  if (!process.stdout.write(text)) await new Promise((resolve) => process.stdout.once("drain", resolve));
}

/** Prints rows in the format that the user chose. */
export async function printRows<T>(format: Format, columns: Column<T>[], rows: T[]): Promise<void> {
  await write(format === "table" ? renderTable(columns, rows) : await renderData(format, rows));
}

/** Prints one value, as `text` makes it for people. */
export async function printValue<T>(format: Format, value: T, text: (value: T) => string): Promise<void> {
  await write(format === "table" ? text(value) : await renderData(format, value));
}
