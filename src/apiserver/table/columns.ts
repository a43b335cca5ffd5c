// SPDX-License-Identifier: Apache-2.0
// What a column of `kubectl get` is, for built-in kinds (written in code) and for custom resources (from the CRD's
// additionalPrinterColumns).
import { isObject, type KubeObject, listAt, own } from "../json.ts";
import { age } from "./duration.ts";
import { compileJsonPath } from "./json-path.ts";

export interface Column {
  name: string;
  type: "string" | "integer" | "number" | "boolean" | "date";
  format: string;
  description: string;
  /** 0 is always shown, 1 only with `-o wide`. */
  priority: number;
  /** The value in one row; `now` in milliseconds since the epoch. */
  cell: (object: KubeObject, now: number) => unknown;
}

/** A text column of a built-in kind. */
export function column(name: string, cell: Column["cell"], more: Partial<Column> = {}): Column {
  return { name, type: "string", format: "", description: "", priority: 0, cell, ...more };
}

export const NAME = column("Name", (o) => o.metadata.name, { format: "name" });
export const AGE = column("Age", (o, now) => age(o.metadata.creationTimestamp, now));

/** Text or `<none>`. */
export function orNone(text: unknown): string {
  return typeof text === "string" && text !== "" ? text : "<none>";
}

const TYPES = new Set(["string", "integer", "number", "boolean", "date"]);

/**
 * The columns of a CRD version: Name, then what its additionalPrinterColumns ask for, else Age.
 * @throws Error naming the path that cannot be read
 */
export function printerColumns(version: unknown): Column[] {
  const declared = listAt(version, "additionalPrinterColumns").filter(isObject);
  if (declared.length === 0) return [NAME, AGE];
  return [NAME, ...declared.map(printerColumn)];
}

function printerColumn(declared: Record<string, unknown>): Column {
  const path = compileJsonPath(String(own(declared, "jsonPath") ?? ""));
  const type = String(own(declared, "type"));
  if (!TYPES.has(type)) throw new Error(`type "${type}" is none of ${[...TYPES].join(", ")}`);
  const text = (field: string) => String(own(declared, field) ?? "");
  return {
    name: text("name"),
    type: type as Column["type"],
    format: text("format"),
    description: text("description"),
    priority: Number(own(declared, "priority") ?? 0),
    cell: (object, now) => printed(path(object), type, now),
  };
}

function printed(values: unknown[], type: string, now: number): unknown {
  const value = values[0];
  if (value === undefined || value === null) return null;
  if (type === "date") return age(value, now);
  if (type === "string") {
    const texts = values.map((v) => (typeof v === "object" ? JSON.stringify(v) : String(v)));
    return texts.join(",");
  }
  if (type === "integer") return Number.isFinite(Number(value)) ? Math.trunc(Number(value)) : null;
  if (type === "number") return Number.isFinite(Number(value)) ? Number(value) : null;
  return typeof value === "boolean" ? value : null;
}
