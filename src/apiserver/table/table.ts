// SPDX-License-Identifier: Apache-2.0
// Objects as meta.k8s.io Tables and PartialObjectMetadata: the forms that kubectl and metadata-only clients ask for in
// their Accept header.
import type { KubeObject } from "../json.ts";
import type { Column } from "./columns.ts";

/** How objects leave the server. */
export type Form =
  | { as: "Object" }
  | { as: "Table"; version: "v1" | "v1beta1"; include: "None" | "Metadata" | "Object" }
  | { as: "PartialObjectMetadata"; version: "v1" | "v1beta1" };

/** Only the metadata of an object. */
export function partialMetadata(object: KubeObject, version: string): Record<string, unknown> {
  return {
    kind: "PartialObjectMetadata",
    apiVersion: `meta.k8s.io/${version}`,
    metadata: object.metadata,
  };
}

/** One table of `objects`; `metadata` is that of the list, or of the single object. */
export function table(
  objects: readonly KubeObject[],
  columns: readonly Column[],
  form: Extract<Form, { as: "Table" }>,
  options: { metadata?: Record<string, unknown>; definitions?: boolean } = {},
): Record<string, unknown> {
  const now = Date.now();
  const definitions = columns.map(({ name, type, format, description, priority }) => ({
    name,
    // Dates are sent as the age they have now, which is text.
    type: type === "date" ? "string" : type,
    format: type === "date" ? "" : format,
    description,
    priority,
  }));
  return {
    kind: "Table",
    apiVersion: `meta.k8s.io/${form.version}`,
    metadata: options.metadata ?? {},
    columnDefinitions: options.definitions === false ? [] : definitions,
    rows: objects.map((object) => ({
      cells: columns.map((c) => c.cell(object, now)),
      ...(form.include === "None" ? {} : { object: rowObject(object, form) }),
    })),
  };
}

function rowObject(object: KubeObject, form: Extract<Form, { as: "Table" }>): unknown {
  return form.include === "Object" ? object : partialMetadata(object, form.version);
}
