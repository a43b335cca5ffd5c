// SPDX-License-Identifier: Apache-2.0
// The JSONPath of printer columns: fields, quoted fields, indexes, wildcards and one-comparison filters
// (`.status.conditions[?(@.type=="Ready")].status`). Compiled once per column, evaluated without running any code.
import { isObject, own } from "../json.ts";

type Step = (values: unknown[]) => unknown[];
export type JsonPath = (document: unknown) => unknown[];

/**
 * Compiles a path that begins with "." or "[".
 * @throws Error saying what cannot be read
 */
export function compileJsonPath(text: string): JsonPath {
  const steps: Step[] = [];
  let rest = text
    .trim()
    .replace(/^\$/, "")
    .replace(/^\{(.*)\}$/, "$1");
  while (rest !== "" && rest !== ".") {
    const [step, length] = readStep(rest, text);
    steps.push(step);
    rest = rest.slice(length);
  }
  return (document) => steps.reduce<unknown[]>((values, step) => step(values), [document]);
}

function readStep(rest: string, whole: string): [Step, number] {
  const field = /^\.((?:\\.|[^.[\]\\])+)/.exec(rest);
  if (field) {
    const name = (field[1] as string).replace(/\\(.)/g, "$1");
    return [name === "*" ? wildcard : fieldStep(name), field[0].length];
  }
  const quoted = /^\.?\[(['"])((?:\\.|(?!\1)[^\\])*)\1\]/.exec(rest);
  if (quoted) return [fieldStep((quoted[2] as string).replace(/\\(.)/g, "$1")), quoted[0].length];
  const index = /^\.?\[(-?\d+)\]/.exec(rest);
  if (index) {
    const i = Number(index[1]);
    return [each((v) => (Array.isArray(v) && v.at(i) !== undefined ? [v.at(i)] : [])), index[0].length];
  }
  const star = /^\.?\[\*\]/.exec(rest);
  if (star) return [wildcard, star[0].length];
  const filter =
    /^\.?\[\?\(\s*@((?:[^()=!<>\]]|\[['"][^\]]*\])*?)\s*(?:(==|!=)\s*(?:'([^']*)'|"([^"]*)"|([\w.-]+)))?\s*\)\]/.exec(
      rest,
    );
  if (filter) {
    const [all, path = "", operator, single, double, bare] = filter;
    return [filterStep(compileJsonPath(path), operator, single ?? double ?? bare), all.length];
  }
  throw new Error(`cannot read "${rest.slice(0, 40)}" of JSONPath "${whole.slice(0, 80)}"`);
}

function each(pick: (value: unknown) => unknown[]): Step {
  return (values) => values.flatMap(pick);
}

const wildcard = each((value) =>
  Array.isArray(value) ? value : isObject(value) ? Object.values(value) : [],
);

function fieldStep(name: string): Step {
  return each((value) => {
    const found = own(value, name);
    return found === undefined ? [] : [found];
  });
}

function filterStep(path: JsonPath, operator: string | undefined, wanted: string | undefined): Step {
  const holds = (item: unknown) => {
    const found = path(item);
    if (operator === undefined) return found.length > 0;
    const equal = found.some((value) => String(value) === wanted);
    return operator === "==" ? equal : !equal;
  };
  return each((value) => (Array.isArray(value) ? value.filter(holds) : []));
}
