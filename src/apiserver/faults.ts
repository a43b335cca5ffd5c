// SPDX-License-Identifier: Apache-2.0
// Codes of the embedded API server. Those named API_* become Status objects (status.ts holds their HTTP codes and
// reasons); the others are for whoever starts the server or keeps its manifests.
import { defineFaults, type Fault } from "../base/fault.ts";

/** One refused field, as `details.causes` of a Status carries it. */
export interface FieldError {
  /** Path inside the document: `spec.ports[0].port`. */
  field: string;
  /** `FieldValueInvalid`, `FieldValueRequired`, `FieldValueDuplicate`, `FieldValueForbidden`, `FieldValueNotSupported`. */
  reason: string;
  /** For people: `Invalid value: 70000: must be between 1 and 65535`. */
  message: string;
}

export const faults = defineFaults({
  API_BAD_REQUEST: { text: (c) => String(c.why) },
  API_UNAUTHORIZED: { text: () => "Unauthorized: a bearer token is needed on this endpoint" },
  API_FORBIDDEN: { text: (c) => `${c.resource} "${c.name}" is forbidden: ${c.why}` },
  API_NOT_FOUND: { text: (c) => `${qualified(c)} "${c.name}" not found` },
  API_NO_ROUTE: { text: () => "the server could not find the requested resource" },
  API_METHOD: { text: (c) => `${c.method} is not served on ${c.path}` },
  API_NOT_ACCEPTABLE: { text: (c) => `only application/json is served, the client accepts ${c.accept}` },
  API_EXISTS: { text: (c) => `${qualified(c)} "${c.name}" already exists` },
  API_CONFLICT: { text: (c) => `Operation cannot be fulfilled on ${qualified(c)} "${c.name}": ${c.why}` },
  API_GONE: { text: (c) => String(c.why) },
  API_TOO_LARGE: { text: (c) => `${c.what}: ${c.size} bytes, the limit is ${c.limit}` },
  API_URL_TOO_LONG: { text: (c) => `${c.what}: longer than ${c.limit} bytes` },
  API_MEDIA_TYPE: { text: (c) => `the body is ${c.type}, accepted: ${c.accepted}` },
  API_INVALID: {
    text: (c) => `${c.kind}${c.group ? `.${c.group}` : ""} "${c.name}" is invalid: ${causes(c.errors)}`,
  },
  API_TOO_MANY: { text: (c) => String(c.why), retriable: true },
  API_INTERNAL: { text: (c) => `Internal error: ${c.why}` },
  LISTEN: { text: (c) => `cannot listen on ${c.where}: ${c.why}` },
  LISTEN_UNSAFE: { text: (c) => `will not listen on ${c.host}: ${c.why}` },
  MANIFEST: {
    text: (c) =>
      `${c.file}${c.document ? ` document ${c.document}` : ""}${c.object ? ` (${c.object})` : ""}` +
      `${c.path ? ` ${c.path}` : ""}: ${c.why}`,
  },
});

function qualified(c: Record<string, unknown>): string {
  return `${c.resource}${c.group ? `.${c.group}` : ""}`;
}

function causes(errors: unknown): string {
  const list = (errors as FieldError[]).map((e) => (e.field ? `${e.field}: ${e.message}` : e.message));
  return list.length === 1 ? (list[0] as string) : `[${list.join(", ")}]`;
}

/** The field errors of an API_INVALID fault; none of others. */
export function fieldErrors(fault: Fault): FieldError[] {
  return fault.code === "API_INVALID" ? (fault.context.errors as FieldError[]) : [];
}

const shown = (value: unknown) => {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 120 ? `${text.slice(0, 117)}...` : text;
};

export const invalidValue = (field: string, value: unknown, why: string): FieldError => ({
  field,
  reason: "FieldValueInvalid",
  message: `Invalid value: ${shown(value)}: ${why}`,
});

export const requiredValue = (field: string, why = ""): FieldError => ({
  field,
  reason: "FieldValueRequired",
  message: `Required value${why ? `: ${why}` : ""}`,
});

export const duplicateValue = (field: string, value: unknown): FieldError => ({
  field,
  reason: "FieldValueDuplicate",
  message: `Duplicate value: ${shown(value)}`,
});

export const forbiddenValue = (field: string, why: string): FieldError => ({
  field,
  reason: "FieldValueForbidden",
  message: `Forbidden: ${why}`,
});
