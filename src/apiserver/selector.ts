// SPDX-License-Identifier: Apache-2.0
// Label selectors (`app=web,tier in (a,b),!old`) and field selectors (`spec.nodeName=n1,status.phase!=Failed`) as
// predicates over objects, for list, watch and deletecollection.
import { faults } from "./faults.ts";
import { own } from "./json.ts";
import { labelValue, qualifiedName } from "./names.ts";

export type Predicate = (object: unknown) => boolean;

const REQUIREMENT =
  /^\s*(?:(!)\s*([^\s!=<>(),]+)|([^\s!=<>(),]+)\s*(?:(==|=|!=)\s*([^\s!=<>(),]*)|\s(in|notin)\s*\(([^()]*)\)|(<|>)\s*(-?\d+))?)\s*$/;

/** Splits at commas outside parentheses. */
function clauses(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === "(") depth += 1;
    else if (c === ")") depth -= 1;
    else if (c === "," && depth === 0) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

/**
 * Compiles a label selector; the empty text selects everything.
 * @throws Fault API_BAD_REQUEST naming the clause that cannot be read
 */
export function labelSelector(text: string): Predicate {
  if (text.trim() === "") return () => true;
  const tests = clauses(text).map((clause) => requirement(clause));
  return (object) => {
    const labels = own(own(object, "metadata"), "labels");
    return tests.every((test) => test(labels));
  };
}

function requirement(clause: string): Predicate {
  const bad = (why: string) => faults.API_BAD_REQUEST({ why: `label selector "${clause.trim()}": ${why}` });
  // Runs of blanks would make the expression backtrack quadratically.
  const match = REQUIREMENT.exec(clause.trim().replace(/\s+/g, " "));
  if (!match) throw bad("expected KEY, !KEY, KEY=VALUE, KEY!=VALUE, KEY in (A,B) or KEY notin (A,B)");
  const [, not, absentKey, key, equality, operand, membership, list, order, bound] = match;
  const name = absentKey ?? (key as string);
  const why = qualifiedName(name);
  if (why) throw bad(`key ${why}`);
  const value = (labels: unknown) => own(labels, name) as string | undefined;
  const values =
    membership !== undefined
      ? (list as string).split(",").map((v) => v.trim())
      : equality
        ? [operand ?? ""]
        : [];
  for (const v of values) {
    const wrong = labelValue(v);
    if (wrong) throw bad(`value "${v}" ${wrong}`);
  }
  if (not) return (labels) => value(labels) === undefined;
  if (order) {
    const limit = Number(bound);
    return (labels) => {
      const number = Number(value(labels) ?? Number.NaN);
      return order === "<" ? number < limit : number > limit;
    };
  }
  if (values.length === 0) return (labels) => value(labels) !== undefined;
  const wanted = new Set(values);
  // As in Kubernetes: != and notin also select objects that lack the label.
  const negative = equality === "!=" || membership === "notin";
  return (labels) => {
    const found = value(labels);
    return negative ? found === undefined || !wanted.has(found) : found !== undefined && wanted.has(found);
  };
}

/** Reads a clause of a field selector, where `\,`, `\=` and `\\` are literal. */
function fieldClauses(text: string): string[][] {
  const result: string[][] = [];
  let words = [""];
  const push = (c: string) => {
    words[words.length - 1] += c;
  };
  for (let i = 0; i < text.length; i++) {
    const c = text[i] as string;
    if (c === "\\" && i + 1 < text.length) push(text[++i] as string);
    else if (c === ",") {
      result.push(words);
      words = [""];
    } else if ((c === "=" || (c === "!" && text[i + 1] === "=")) && words.length === 1) {
      const operator = c === "!" ? "!=" : text[i + 1] === "=" ? "==" : "=";
      i += operator.length - 1;
      words.push(operator, "");
    } else push(c);
  }
  result.push(words);
  return result;
}

/**
 * Compiles a field selector against the fields that a kind can be selected by (dotted paths).
 * @throws Fault API_BAD_REQUEST naming the clause or the field that is not supported
 */
export function fieldSelector(text: string, supported: readonly string[]): Predicate {
  if (text.trim() === "") return () => true;
  const tests = fieldClauses(text).map((words) => {
    const [field = "", operator, wanted = ""] = words.map((w) => w.trim());
    if (!operator) {
      throw faults.API_BAD_REQUEST({ why: `field selector "${text}": expected FIELD=VALUE or FIELD!=VALUE` });
    }
    if (!supported.includes(field)) {
      throw faults.API_BAD_REQUEST({
        why: `field selector "${text}": field label not supported: ${field} (supported: ${supported.join(", ")})`,
      });
    }
    const path = field.split(".");
    return (object: unknown) => {
      let value: unknown = object;
      for (const part of path) value = own(value, part);
      // An absent field compares as its zero value: clients select unscheduled pods with spec.nodeName=.
      const found =
        value === undefined || value === null ? (wanted === "false" ? "false" : "") : String(value);
      return operator === "!=" ? found !== wanted : found === wanted;
    };
  });
  return (object) => tests.every((test) => test(object));
}
