// SPDX-License-Identifier: Apache-2.0
// JSON patch (RFC 6902) through the rfc6902 library, with what a server needs around it: bounds on the number of
// operations and on what `copy` multiplies, and no pointer into an object's prototype.
import { applyPatch, type Operation } from "rfc6902";
import { faults } from "../faults.ts";
import { cloneJson, isObject } from "../json.ts";
import type { Limits } from "../limits.ts";

const OPERATIONS = new Set(["add", "remove", "replace", "move", "copy", "test"]);
const PROTOTYPE = new Set(["__proto__", "constructor", "prototype"]);

/**
 * The patched document; `document` is not changed.
 * @throws Fault API_BAD_REQUEST when the patch cannot be read or an operation fails, with the operation's index
 */
export function applyJsonPatch(
  document: unknown,
  patch: unknown,
  limits: Pick<Limits, "patchOperations" | "objectBytes">,
): unknown {
  if (!Array.isArray(patch)) throw faults.API_BAD_REQUEST({ why: "a JSON patch is a list of operations" });
  if (patch.length > limits.patchOperations) {
    throw faults.API_BAD_REQUEST({
      why: `${patch.length} operations, the limit is ${limits.patchOperations}`,
    });
  }
  const result = cloneJson(document);
  let copied = 0;
  for (const [i, operation] of patch.entries()) {
    const refuse = (why: string) => faults.API_BAD_REQUEST({ why: `JSON patch operation ${i}: ${why}` });
    const why = malformed(operation);
    if (why) throw refuse(why);
    const { op, path } = operation as Operation;
    if (path === "") throw refuse("the whole document cannot be the target");
    const [error] = applyPatch(result, [operation as Operation]);
    if (error) throw refuse(`${op} ${path}: ${error.name === "TestError" ? "test failed" : "no such value"}`);
    // Ten copies of a document into itself make it a thousand times as large.
    if (op === "copy") copied += JSON.stringify(result).length;
    if (copied > 8 * limits.objectBytes) throw refuse("copies more than the limit of an object");
  }
  return result;
}

function malformed(operation: unknown): string | undefined {
  if (!isObject(operation)) return "not an object";
  if (typeof operation.op !== "string" || !OPERATIONS.has(operation.op))
    return `unknown op ${JSON.stringify(operation.op)}`;
  const pointers = ["path", ...(operation.op === "copy" || operation.op === "move" ? ["from"] : [])];
  for (const field of pointers) {
    const pointer = operation[field];
    if (typeof pointer !== "string" || (pointer !== "" && !pointer.startsWith("/"))) {
      return `${field} is not a JSON pointer`;
    }
    if (pointer.split("/").some((token) => PROTOTYPE.has(token))) return `${field} ${pointer} is not allowed`;
  }
  return undefined;
}
