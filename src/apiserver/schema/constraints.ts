// SPDX-License-Identifier: Apache-2.0
// The constraints of a CRD's schema (ranges, lengths, patterns, enums, combinations) compiled by ajv. Only known keywords
// are handed over, and patterns run under a time limit: Go's expressions are linear, JavaScript's are not.
import { createContext, Script } from "node:vm";
import { Ajv, type ErrorObject, type ValidateFunction } from "ajv";
import { type FieldError, invalidValue, requiredValue } from "../faults.ts";
import { isObject, type JsonObject, step } from "../json.ts";
import type { Schema } from "./types.ts";

const PATTERN_MS = 100;
const MAX_ERRORS = 20;

const sandbox = createContext(Object.create(null));

/** A pattern that cannot hold up the process: a match that takes longer than 100 ms counts as no match. */
function boundedPattern(source: string): { test: (text: string) => boolean } {
  const script = new Script(
    `new RegExp(${JSON.stringify(source)}, ${JSON.stringify(flags(source))}).test(text)`,
  );
  return {
    test(text) {
      (sandbox as { text?: string }).text = text;
      try {
        return script.runInContext(sandbox, { timeout: PATTERN_MS }) === true;
      } catch {
        return false;
      }
    },
  };
}

function flags(source: string): string {
  try {
    new RegExp(source, "u");
    return "u";
  } catch {
    return "";
  }
}

/** Whether JavaScript can read the pattern; Go's syntax has flags of its own. */
export function patternError(source: string): string | undefined {
  try {
    new RegExp(source, flags(source));
    return undefined;
  } catch (thrown) {
    return (thrown as Error).message;
  }
}

const octets = /^(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}$/;

const FORMATS: Record<string, (text: string) => boolean> = {
  "date-time": (t) =>
    /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$/.test(t) &&
    !Number.isNaN(Date.parse(t)),
  date: (t) => /^\d{4}-\d\d-\d\d$/.test(t) && !Number.isNaN(Date.parse(t)),
  byte: (t) => t.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(t),
  ipv4: (t) => octets.test(t),
};

const ajv = new Ajv({
  strict: false,
  allErrors: true,
  logger: false,
  ownProperties: true,
  formats: FORMATS,
  code: {
    regExp: Object.assign((source: string) => boundedPattern(source), { code: "boundedPattern" }) as never,
  },
});

const COPIED = [
  "minimum",
  "maximum",
  "multipleOf",
  "minLength",
  "maxLength",
  "minItems",
  "maxItems",
  "minProperties",
  "maxProperties",
  "enum",
  "required",
] as const;

/** The JSON Schema of a structural schema: what ajv checks, nothing that conform.ts has settled. */
export function jsonSchema(schema: Schema): JsonObject {
  const out: JsonObject = {};
  for (const key of COPIED) if (schema[key] !== undefined) out[key] = schema[key];
  if (schema.type) out.type = schema.nullable ? [schema.type, "null"] : schema.type;
  if (schema.enum && schema.nullable) out.enum = [...schema.enum, null];
  if (schema["x-kubernetes-int-or-string"]) out.type = ["integer", "string"];
  // OpenAPI's exclusive bounds are flags, JSON Schema's are numbers.
  if (schema.exclusiveMinimum === true && schema.minimum !== undefined) out.exclusiveMinimum = schema.minimum;
  if (schema.exclusiveMaximum === true && schema.maximum !== undefined) out.exclusiveMaximum = schema.maximum;
  if (schema.pattern !== undefined && patternError(schema.pattern) === undefined)
    out.pattern = schema.pattern;
  if (schema.format && Object.hasOwn(FORMATS, schema.format)) out.format = schema.format;
  if (schema.properties) {
    out.properties = Object.fromEntries(
      Object.entries(schema.properties).map(([k, s]) => [k, jsonSchema(s)]),
    );
  }
  if (isObject(schema.additionalProperties))
    out.additionalProperties = jsonSchema(schema.additionalProperties);
  if (schema.items) out.items = jsonSchema(schema.items);
  if (schema.not) out.not = jsonSchema(schema.not);
  for (const key of ["allOf", "anyOf", "oneOf"] as const) {
    if (schema[key]?.length) out[key] = schema[key].map(jsonSchema);
  }
  return out;
}

/** A compiled schema: the refused fields of a document, empty when it holds. */
export type Constraints = (document: unknown) => FieldError[];

/**
 * Compiles the constraints of one CRD version.
 * @throws Error when ajv cannot compile the schema
 */
export function compileConstraints(schema: Schema): Constraints {
  const validate = ajv.compile(jsonSchema(schema)) as ValidateFunction;
  return (document) => {
    if (validate(document)) return [];
    return (validate.errors ?? []).slice(0, MAX_ERRORS).map((error) => fieldError(error, document));
  };
}

function fieldError(error: ErrorObject, document: unknown): FieldError {
  let field = "";
  let value: unknown = document;
  for (const token of error.instancePath.split("/").slice(1)) {
    const key = token.replaceAll("~1", "/").replaceAll("~0", "~");
    field = Array.isArray(value) ? step(field, Number(key)) : step(field, key);
    value = (value as JsonObject)?.[key];
  }
  if (error.keyword === "required") return requiredValue(step(field, String(error.params.missingProperty)));
  if (error.keyword === "enum") {
    const allowed = (error.params.allowedValues as unknown[]).map((v) => JSON.stringify(v)).join(", ");
    return {
      field,
      reason: "FieldValueNotSupported",
      message: `Unsupported value: ${JSON.stringify(value)}: supported values: ${allowed}`,
    };
  }
  return invalidValue(field, value, error.message ?? error.keyword);
}
