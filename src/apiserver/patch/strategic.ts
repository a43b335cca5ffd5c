// SPDX-License-Identifier: Apache-2.0
// Strategic merge patch, as kubectl sends it for built-in kinds: lists merge by the key their schema declares, and the
// directives $patch, $retainKeys, $deleteFromPrimitiveList and $setElementOrder say the rest (Kubernetes documentation
// "Update API Objects in Place Using kubectl patch" and the strategic merge patch design notes).
import { faults } from "../faults.ts";
import { cloneJson, isObject, type JsonObject, own } from "../json.ts";
import { type Definitions, fieldSchema, resolve, type Schema } from "../schema/types.ts";

const DELETE_PREFIX = "$deleteFromPrimitiveList/";
const ORDER_PREFIX = "$setElementOrder/";

/**
 * The patched document; neither argument is changed.
 * @throws Fault API_BAD_REQUEST when a directive or a list item cannot be read
 */
export function strategicMerge(
  original: unknown,
  patch: unknown,
  schema: Schema | undefined,
  definitions: Definitions,
): unknown {
  if (!isObject(patch)) throw faults.API_BAD_REQUEST({ why: "a strategic merge patch is an object" });
  return new Merger(definitions).map(isObject(original) ? original : {}, patch, schema);
}

class Merger {
  readonly #definitions: Definitions;

  constructor(definitions: Definitions) {
    this.#definitions = definitions;
  }

  map(original: JsonObject, patch: JsonObject, reference: Schema | undefined): JsonObject {
    const schema = resolve(reference, this.#definitions);
    const directive = own(patch, "$patch");
    if (directive === "replace") return this.#plain(patch, schema) as JsonObject;
    if (directive === "delete") return {};
    if (directive !== undefined && directive !== "merge")
      throw bad(`$patch: ${JSON.stringify(directive)} is unknown`);
    const result: JsonObject = { ...original };
    if (Object.hasOwn(patch, "$retainKeys")) {
      const retained = list(patch.$retainKeys, "$retainKeys");
      for (const key of Object.keys(result)) if (!retained.includes(key)) delete result[key];
    }
    for (const [key, value] of Object.entries(patch)) {
      if (key.startsWith(DELETE_PREFIX)) this.#deleteScalars(result, key.slice(DELETE_PREFIX.length), value);
    }
    for (const [key, value] of Object.entries(patch)) {
      if (key.startsWith("$")) continue;
      if (value === null) delete result[key];
      else result[key] = this.#field(own(result, key), value, fieldSchema(schema, key));
    }
    for (const [key, value] of Object.entries(patch)) {
      if (!key.startsWith(ORDER_PREFIX)) continue;
      const field = key.slice(ORDER_PREFIX.length);
      const current = own(result, field);
      if (Array.isArray(current)) {
        const before = own(original, field);
        const mergeKey = fieldSchema(schema, field)?.["x-kubernetes-patch-merge-key"];
        result[field] = reorder(current, list(value, key), Array.isArray(before) ? before : [], mergeKey);
      }
    }
    return result;
  }

  #field(current: unknown, value: unknown, schema: Schema | undefined): unknown {
    if (isObject(value)) return this.map(isObject(current) ? current : {}, value, schema);
    if (!Array.isArray(value)) return value;
    if (schema?.["x-kubernetes-patch-strategy"] !== "merge") return this.#plain(value, schema);
    const mergeKey = schema["x-kubernetes-patch-merge-key"];
    const before = Array.isArray(current) ? current : [];
    if (mergeKey === undefined) return [...new Set([...before, ...value])];
    return this.#list(before, value, mergeKey, schema.items);
  }

  #list(original: unknown[], patch: unknown[], mergeKey: string, items: Schema | undefined): unknown[] {
    const replace = patch.some((item) => own(item, "$patch") === "replace");
    let result = replace ? [] : [...original];
    for (const item of patch) {
      if (!isObject(item)) throw bad(`items of a list merged by "${mergeKey}" are objects`);
      const directive = own(item, "$patch");
      if (directive === "replace" && Object.keys(item).length === 1) continue;
      const identity = own(item, mergeKey);
      if (identity === undefined) throw bad(`a list item lacks its merge key "${mergeKey}"`);
      if (directive === "delete") {
        result = result.filter((other) => own(other, mergeKey) !== identity);
        continue;
      }
      const index = result.findIndex((other) => own(other, mergeKey) === identity);
      if (index < 0) result.push(this.#plain(item, items));
      else result[index] = this.map(result[index] as JsonObject, item, items);
    }
    return result;
  }

  /** A patch value that meets nothing: its directives and nulls have no effect but must not stay. */
  #plain(value: unknown, schema: Schema | undefined): unknown {
    if (Array.isArray(value)) {
      const items = resolve(schema, this.#definitions)?.items;
      return value
        .filter((item) => own(item, "$patch") === undefined || Object.keys(item as JsonObject).length > 1)
        .map((item) => this.#plain(item, items));
    }
    if (!isObject(value)) return value;
    const { $patch: _directive, ...rest } = value;
    return this.map({}, rest, schema);
  }

  #deleteScalars(result: JsonObject, field: string, values: unknown): void {
    const current = own(result, field);
    const gone = list(values, DELETE_PREFIX + field);
    if (Array.isArray(current)) result[field] = current.filter((item) => !gone.includes(item));
  }
}

/**
 * Puts a merged list into the order that the client asked for; items that only the server has keep their place relative
 * to the neighbours they had.
 */
function reorder(
  current: unknown[],
  order: unknown[],
  before: unknown[],
  mergeKey: string | undefined,
): unknown[] {
  const identity = (item: unknown) => (mergeKey === undefined ? item : own(item, mergeKey));
  const rank = new Map(order.map((item, i) => [identity(item), i]));
  const place = new Map(before.map((item, i) => [identity(item), i]));
  const listed = current
    .filter((item) => rank.has(identity(item)))
    .sort((a, b) => (rank.get(identity(a)) as number) - (rank.get(identity(b)) as number));
  const others = current.filter((item) => !rank.has(identity(item)));
  const result: unknown[] = [];
  for (const item of listed) {
    const here = place.get(identity(item));
    while (here !== undefined && others.length > 0 && (place.get(identity(others[0])) ?? Infinity) < here) {
      result.push(others.shift());
    }
    result.push(item);
  }
  return cloneJson([...result, ...others]);
}

function list(value: unknown, directive: string): unknown[] {
  if (!Array.isArray(value)) throw bad(`${directive} is not a list`);
  return value;
}

function bad(why: string) {
  return faults.API_BAD_REQUEST({ why: `strategic merge patch: ${why}` });
}
