// SPDX-License-Identifier: Apache-2.0
// Imports: the order of layers (layers.json), what only named files may use, and cycles at run time.
import { dirname, join } from "node:path";
import { type Finding, lineAt, type Module, visitNodes } from "./project.ts";

/** layers.json. */
export interface Layers {
  layers: string[];
  engine: string[];
  only: { what: string; in: string[]; why: string }[];
}

/** One import of one file. */
export interface Import {
  from: string;
  /** Path from the root for files of the project, else the name as written. */
  to: string;
  line: number;
  /** Whether it loads the other file. `import { type X }` does: only `import type` is removed whole. */
  runtime: boolean;
}

function resolve(from: string, name: string): string {
  return name.startsWith(".") ? join(dirname(from), name) : name;
}

/** All imports and re-exports of a module, types included; dynamic ones if their name is a plain string. */
export function importsOf(module: Module): Import[] {
  const make = (name: string, start: number, runtime: boolean): Import => ({
    from: module.path,
    to: resolve(module.path, name),
    line: lineAt(module.text, start),
    runtime,
  });
  const typeOnly = (start: number): boolean =>
    /^(import|export)\s+type\b/.test(module.text.slice(start, start + 40));
  const fixed = module.imports.staticImports.map((one) =>
    make(one.moduleRequest.value, one.start, !typeOnly(one.start)),
  );
  const exports = module.imports.staticExports.flatMap((one) => {
    const name = one.entries.find((entry) => entry.moduleRequest)?.moduleRequest?.value;
    return name === undefined ? [] : [make(name, one.start, !typeOnly(one.start))];
  });
  const dynamic = module.imports.dynamicImports.flatMap((one) => {
    const name = /^(["'`])([^$]*)\1$/.exec(
      module.text.slice(one.moduleRequest.start, one.moduleRequest.end),
    )?.[2];
    return name === undefined ? [] : [make(name, one.start, false)];
  });
  return [...fixed, ...exports, ...dynamic];
}

/** Place of a file in the order: layer, then place inside engine/. Undefined outside of src/. */
function rank(path: string, layers: Layers): [number, number] | undefined {
  const [top, layer = "", sub = ""] = path.split("/");
  if (top !== "src") return undefined;
  return [layers.layers.indexOf(layer), layer === "engine" ? layers.engine.indexOf(sub) : 0];
}

function layerFinding(one: Import, layers: Layers): string | undefined {
  const from = rank(one.from, layers);
  if (!from) return undefined;
  if (from[0] < 0) return `src/${one.from.split("/")[1]} is not in layers.json`;
  if (/^(test|bench|tools|ui)\//.test(one.to)) return `src/ imports ${one.to}`;
  const to = rank(one.to, layers);
  if (!to) return undefined;
  if (to[0] > from[0] || (to[0] === from[0] && to[1] > from[1])) return `imports upwards: ${one.to}`;
  return undefined;
}

/** Imports that go up in the order of layers. */
export function checkLayers(modules: readonly Module[], layers: Layers): Finding[] {
  return modules.flatMap(importsOf).flatMap((one) => {
    const what = layerFinding(one, layers);
    return what === undefined ? [] : [{ where: `${one.from}:${one.line}`, what }];
  });
}

/** Lines of a module that use what a rule of `only` names. */
function uses(module: Module, what: string): number[] {
  const [verb, name] = what.split(" ");
  if (verb === "import") {
    return importsOf(module)
      .filter((one) => one.to === name)
      .map((one) => one.line);
  }
  const [object, property] = what.split(".");
  const lines: number[] = [];
  visitNodes(module.program, (node) => {
    const target = node.object as { name?: string } | undefined;
    const member = node.property as { name?: string; value?: string } | undefined;
    if (node.type !== "MemberExpression" || target?.name !== object) return;
    if ((member?.name ?? member?.value) === property) lines.push(lineAt(module.text, node.start));
  });
  return lines;
}

/** Uses of what only named files (or files whose path begins so) may use. Tests are free, tools and bench too. */
export function checkOnly(modules: readonly Module[], layers: Layers): Finding[] {
  const product = modules.filter(
    (module) => module.path.startsWith("src/") && !module.path.endsWith(".test.ts"),
  );
  return layers.only.flatMap((rule) =>
    product
      .filter((module) => !rule.in.some((allowed) => module.path.startsWith(allowed)))
      .flatMap((module) =>
        uses(module, rule.what).map((line) => ({
          where: `${module.path}:${line}`,
          what: `${rule.what} is only for ${rule.in.join(", ")} (${rule.why})`,
        })),
      ),
  );
}

/** Cycles among imports that load files (Tarjan's strongly connected components). */
export function checkCycles(modules: readonly Module[]): Finding[] {
  const known = new Set(modules.map((module) => module.path));
  const edges = new Map(
    modules.map((module) => {
      const targets = importsOf(module).filter((one) => one.runtime && known.has(one.to));
      return [module.path, [...new Set(targets.map((one) => one.to))]] as const;
    }),
  );
  const index = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const findings: Finding[] = [];
  const visit = (path: string): void => {
    index.set(path, index.size);
    low.set(path, index.get(path) ?? 0);
    stack.push(path);
    for (const next of edges.get(path) ?? []) {
      if (!index.has(next)) visit(next);
      if (stack.includes(next)) low.set(path, Math.min(low.get(path) ?? 0, low.get(next) ?? 0));
    }
    if (low.get(path) !== index.get(path)) return;
    const group = stack.splice(stack.indexOf(path));
    const self = group.length === 1 && (edges.get(path) ?? []).includes(path);
    if (group.length > 1 || self)
      findings.push({ where: path, what: `import cycle: ${group.sort().join(" ")}` });
  };
  for (const path of edges.keys()) if (!index.has(path)) visit(path);
  return findings;
}
