// SPDX-License-Identifier: Apache-2.0
// Brings a document into the form its schema describes: types checked, nulls and unknown fields dropped (and told),
// defaults filled in, keys of map lists unique. The document is changed in place; constraints are constraints.ts's matter.
import { duplicateValue, type FieldError, invalidValue, requiredValue } from "../faults.ts";
import { cloneJson, isObject, type JsonObject, step } from "../json.ts";
import { type Definitions, fieldSchema, resolve, type Schema } from "./types.ts";

/** What conform found. `unknown` are paths of fields that the schema does not know; they are gone from the document. */
export interface Findings {
  errors: FieldError[];
  unknown: string[];
}

const MAX_FINDINGS = 50;

/** Conforms `value` to `schema` in place; returns the value to keep (scalars may change form). */
export function conform(
  value: unknown,
  schema: Schema | undefined,
  definitions: Definitions,
  path = "",
): Findings & { value: unknown } {
  const walk = new Conformer(definitions);
  const kept = walk.visit(value, schema, path);
  return { value: kept, errors: walk.errors, unknown: walk.unknown };
}

class Conformer {
  readonly errors: FieldError[] = [];
  readonly unknown: string[] = [];
  readonly #definitions: Definitions;

  constructor(definitions: Definitions) {
    this.#definitions = definitions;
  }

  visit(value: unknown, reference: Schema | undefined, path: string): unknown {
    const schema = resolve(reference, this.#definitions);
    if (!schema || this.errors.length > MAX_FINDINGS) return value;
    if (schema["x-kubernetes-int-or-string"]) {
      if (typeof value !== "string" && !Number.isInteger(value))
        this.#mistyped(path, value, "integer or string");
      return value;
    }
    switch (schema.type) {
      case "object":
        return this.#object(value, schema, path);
      case "array":
        return this.#array(value, schema, path);
      case "string":
        if (schema.format === "quantity" && typeof value === "number") return String(value);
        if (typeof value !== "string") this.#mistyped(path, value, "string");
        return value;
      case "boolean":
        if (typeof value !== "boolean") this.#mistyped(path, value, "boolean");
        return value;
      case "integer":
        if (!Number.isInteger(value)) this.#mistyped(path, value, "integer");
        else if (schema.format === "int32" && ((value as number) | 0) !== value) {
          this.errors.push(invalidValue(path, value, "does not fit into 32 bits"));
        }
        return value;
      case "number":
        if (typeof value !== "number") this.#mistyped(path, value, "number");
        return value;
      default:
        // No type: x-kubernetes-preserve-unknown-fields, or a schema that leaves the form open.
        return isObject(value) && schema.properties ? this.#object(value, schema, path) : value;
    }
  }

  #object(value: unknown, schema: Schema, path: string): unknown {
    if (!isObject(value)) {
      this.#mistyped(path, value, "object");
      return value;
    }
    for (const key of Object.keys(value)) this.#field(value, key, schema, path);
    for (const [key, property] of Object.entries(schema.properties ?? {})) {
      if (property.default !== undefined && !Object.hasOwn(value, key))
        value[key] = cloneJson(property.default);
    }
    for (const key of schema.required ?? []) {
      if (!Object.hasOwn(value, key)) this.errors.push(requiredValue(step(path, key)));
    }
    return value;
  }

  #field(object: JsonObject, key: string, schema: Schema, path: string): void {
    const property = fieldSchema(schema, key);
    const here = step(path, key);
    if (!property) {
      const open = schema["x-kubernetes-preserve-unknown-fields"] || schema.additionalProperties === true;
      const embedded = schema["x-kubernetes-embedded-resource"] && /^(apiVersion|kind|metadata)$/.test(key);
      // A map without a schema for its values is open; an object with neither is closed and empty.
      if (open || embedded || (!schema.properties && schema.additionalProperties === undefined)) return;
      if (this.unknown.length < MAX_FINDINGS) this.unknown.push(here);
      delete object[key];
      return;
    }
    const value = object[key];
    if (value === null) {
      // null means "not set", unless the schema gives it a meaning.
      if (resolve(property, this.#definitions)?.nullable) return;
      if (isObject(schema.additionalProperties)) object[key] = this.#zero(property);
      else delete object[key];
      return;
    }
    object[key] = this.visit(value, property, here);
  }

  /** What a null value of a map becomes: the zero value, as the real server decodes it. */
  #zero(reference: Schema): unknown {
    const type = resolve(reference, this.#definitions)?.type;
    if (type === "string") return "";
    if (type === "object") return {};
    if (type === "array") return [];
    return type === "boolean" ? false : 0;
  }

  #array(value: unknown, schema: Schema, path: string): unknown {
    if (!Array.isArray(value)) {
      this.#mistyped(path, value, "array");
      return value;
    }
    const nullable = resolve(schema.items, this.#definitions)?.nullable;
    for (let i = 0; i < value.length; i++) {
      if (value[i] === null && nullable) continue;
      if (value[i] === null) this.#mistyped(`${path}[${i}]`, null, "value");
      else value[i] = this.visit(value[i], schema.items, `${path}[${i}]`);
    }
    this.#unique(value, schema, path);
    return value;
  }

  #unique(list: unknown[], schema: Schema, path: string): void {
    const kind = schema["x-kubernetes-list-type"];
    if (kind !== "map" && kind !== "set") return;
    const keys = schema["x-kubernetes-list-map-keys"] ?? [];
    const seen = new Set<string>();
    for (const [i, item] of list.entries()) {
      const identity = kind === "set" ? item : keys.map((key) => (item as JsonObject)?.[key] ?? null);
      const text = JSON.stringify(identity);
      if (seen.has(text)) this.errors.push(duplicateValue(`${path}[${i}]`, identity));
      seen.add(text);
    }
  }

  #mistyped(path: string, value: unknown, wanted: string): void {
    const found = value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
    this.errors.push(invalidValue(path, value, `must be of type ${wanted}, not ${found}`));
  }
}
