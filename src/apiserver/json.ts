// SPDX-License-Identifier: Apache-2.0
// JSON from strangers: parsing with bounds on nesting and size, refusing `__proto__` as a field name (assignments to it
// would change an object's prototype), and the copying and reading of own fields that all other files build on.
import { faults } from "./faults.ts";
import type { Limits } from "./limits.ts";

export type JsonObject = { [field: string]: unknown };

export interface ObjectMeta {
  name: string;
  namespace?: string;
  generateName?: string;
  uid: string;
  resourceVersion: string;
  generation?: number;
  creationTimestamp: string;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  finalizers?: string[];
  ownerReferences?: { apiVersion: string; kind: string; name: string; uid: string; controller?: boolean }[];
}

/** Any object of the API once it is stored: its metadata is complete. */
export interface KubeObject extends JsonObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An own field, or undefined: `constructor` and friends are no fields of an object that does not set them. */
export function own(value: unknown, field: string): unknown {
  return isObject(value) && Object.hasOwn(value, field) ? value[field] : undefined;
}

/** Walks own fields; undefined where the path leaves the document. */
export function at(value: unknown, ...path: (string | number)[]): unknown {
  let here = value;
  for (const step of path) {
    if (typeof step === "number") here = Array.isArray(here) ? here[step] : undefined;
    else here = own(here, step);
    if (here === undefined) return undefined;
  }
  return here;
}

export function textAt(value: unknown, ...path: (string | number)[]): string {
  const found = at(value, ...path);
  return typeof found === "string" ? found : "";
}

export function listAt(value: unknown, ...path: (string | number)[]): unknown[] {
  const found = at(value, ...path);
  return Array.isArray(found) ? found : [];
}

/** Appends a step to a path as error texts write it: `spec.ports[0]`, `metadata.labels[a.b/c]`. */
export function step(path: string, next: string | number): string {
  if (typeof next === "number") return `${path}[${next}]`;
  if (!/^[\w$-]+$/.test(next)) return `${path}[${next.length > 80 ? `${next.slice(0, 77)}...` : next}]`;
  return path ? `${path}.${next}` : next;
}

/** A JSON document by value; the depth was bounded when it came in. */
export function cloneJson<T>(value: T): T {
  if (Array.isArray(value)) return value.map(cloneJson) as T;
  if (!isObject(value)) return value;
  const copy: JsonObject = {};
  for (const key of Object.keys(value)) copy[key] = cloneJson(value[key]);
  return copy as T;
}

/** What makes a document unacceptable before anybody reads its meaning. */
export interface Unfit {
  path: string;
  why: string;
}

/**
 * Checks nesting, number of values, and field names of a document. Values that occur twice by reference (YAML aliases)
 * count twice, so a document that would explode when written out is refused here.
 */
export function unfit(document: unknown, limits: Pick<Limits, "depth" | "values">): Unfit | undefined {
  let values = 0;
  const walk = (value: unknown, depth: number): Unfit | undefined => {
    values += 1;
    if (values > limits.values) return { path: "", why: `more than ${limits.values} values` };
    if (typeof value === "number" && !Number.isFinite(value)) return { path: "", why: "not a finite number" };
    if (typeof value !== "object" || value === null) return undefined;
    if (depth >= limits.depth) return { path: "", why: `nested deeper than ${limits.depth} levels` };
    const steps = Array.isArray(value) ? value.keys() : Object.keys(value);
    for (const key of steps) {
      if (key === "__proto__") return { path: "", why: `a field must not be named "__proto__"` };
      const found = walk((value as JsonObject)[key as string], depth + 1);
      // Only the outermost steps are spelt: the path of a document nested 100000 deep helps nobody.
      if (found) return depth > 12 ? found : { path: prefix(key, found.path), why: found.why };
    }
    return undefined;
  };
  return walk(document, 0);
}

function prefix(key: string | number, rest: string): string {
  const head = step("", key);
  if (!rest) return head;
  return rest.startsWith("[") ? head + rest : `${head}.${rest}`;
}

/**
 * Parses a request body.
 * @throws Fault API_BAD_REQUEST with the position or path of what is wrong
 */
export function parseJson(text: string, limits: Pick<Limits, "depth" | "values">): unknown {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw faults.API_BAD_REQUEST({ why: `the body is not JSON: ${(cause as Error).message}` }, cause);
  }
  const bad = unfit(document, limits);
  if (bad) throw faults.API_BAD_REQUEST({ why: `${bad.path ? `${bad.path}: ` : ""}${bad.why}` });
  return document;
}
