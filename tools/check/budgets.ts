// SPDX-License-Identifier: Apache-2.0
// Budgets (budget.json): lines of files and functions, parameters, direct runtime dependencies. Prints what is
// measured, so that a limit can be judged, and refuses exceptions that nothing needs.
import {
  type Finding,
  isGenerated,
  lineAt,
  type Module,
  type SourceFile,
  type SyntaxNode,
  visitNodes,
} from "./project.ts";

/** Limits of one language. */
export interface Limits {
  file: number;
  function: number;
  parameters: number;
}

/** budget.json. `name` is empty for a whole file. */
export interface Budget {
  typescript: Limits;
  bpf: Limits;
  runtimeDependencies: number;
  exceptions: { path: string; name?: string; what: keyof Limits; limit: number; reason: string }[];
}

/** One measured thing. */
export interface Measure {
  path: string;
  /** Function; empty for a file. */
  name: string;
  line: number;
  what: keyof Limits;
  value: number;
}

const FUNCTIONS = new Set(["FunctionDeclaration", "FunctionExpression", "ArrowFunctionExpression"]);
const NAMED = new Set(["MethodDefinition", "PropertyDefinition", "Property", "VariableDeclarator"]);
/** Their callbacks hold tests, as a file does; each test in them is measured. */
const SUITES = new Set(["describe", "suite"]);

function nameOf(node: SyntaxNode, parent: SyntaxNode | undefined): string {
  const own = node.id as { name?: string } | null | undefined;
  const key = (parent?.key ?? parent?.id) as { name?: string } | undefined;
  if (own?.name !== undefined) return own.name;
  return parent && NAMED.has(parent.type) && key?.name !== undefined ? key.name : "(anonymous)";
}

function isSuite(parent: SyntaxNode | undefined): boolean {
  const callee = parent?.type === "CallExpression" ? (parent.callee as { name?: string }) : undefined;
  return callee?.name !== undefined && SUITES.has(callee.name);
}

function lines(text: string): number {
  return text.split("\n").length - (text.endsWith("\n") ? 1 : 0);
}

function fileMeasure(file: SourceFile): Measure {
  return { path: file.path, name: "", line: 1, what: "file", value: lines(file.text) };
}

/** File, functions and parameter counts of one TypeScript file. A `this` parameter does not count. */
export function measureModule(module: Module): Measure[] {
  const found = [fileMeasure(module)];
  visitNodes(module.program, (node, parent) => {
    if (!FUNCTIONS.has(node.type) || isSuite(parent)) return;
    const whole = parent?.type === "MethodDefinition" ? parent : node;
    const line = lineAt(module.text, whole.start);
    const place = { path: module.path, name: nameOf(node, parent), line };
    const parameters = (node.params as { name?: string }[]).filter((parameter) => parameter.name !== "this");
    found.push({ ...place, what: "function", value: lineAt(module.text, node.end) - line + 1 });
    found.push({ ...place, what: "parameters", value: parameters.length });
  });
  return found;
}

/** The same of C in the kernel's style: a function's braces stand in the first column, or its head ends in one. */
export function measureC(file: SourceFile): Measure[] {
  const found = [fileMeasure(file)];
  const pattern =
    /^(?!(?:struct|enum|union)\s*\w*\s*\{|typedef\b|#|extern\b|SEC\()([A-Za-z_][^;{}=]*?)\b(\w+)\(([^;{}]*)\)\s*\{\n[\s\S]*?^\}/gm;
  for (const match of file.text.matchAll(pattern)) {
    const [all, , name = "", list = ""] = match;
    const place = { path: file.path, name, line: lineAt(file.text, match.index) };
    const flat = list.replace(/\([^()]*\)/g, "");
    const parameters = flat.trim() === "void" || flat.trim() === "" ? 0 : flat.split(",").length;
    found.push({ ...place, what: "function", value: lines(all) });
    found.push({ ...place, what: "parameters", value: parameters });
  }
  return found;
}

function percentile90(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * 0.9) - 1)] ?? 0;
}

/** One line of figures for a language. */
export function describe(language: string, measures: readonly Measure[]): string {
  const part = (what: keyof Limits): string => {
    const values = measures.filter((one) => one.what === what).map((one) => one.value);
    return `${values.length} ${what === "parameters" ? "lists" : `${what}s`}, p90 ${percentile90(values)}, max ${Math.max(0, ...values)}`;
  };
  return `${language}: ${part("file")} lines; ${part("function")} lines; parameters p90 ${part("parameters").split("p90 ")[1]}`;
}

/** Everything over its limit, and exceptions without reason or need. */
function judge(measures: readonly Measure[], limits: Limits, budget: Budget, used: Set<number>): Finding[] {
  return measures.flatMap((one) => {
    if (one.value <= limits[one.what]) return [];
    const index = budget.exceptions.findIndex(
      (row) =>
        row.path === one.path &&
        (row.name ?? "") === one.name &&
        row.what === one.what &&
        one.value <= row.limit,
    );
    if (index >= 0) used.add(index);
    if (index >= 0) return [];
    const unit =
      one.what === "parameters" ? "parameters" : `lines of ${one.name === "" ? "file" : "function"}`;
    const what = `${one.name} ${one.value} ${unit}, ${limits[one.what]} are allowed`.trim();
    return [{ where: `${one.path}:${one.line}`, what }];
  });
}

/** Findings of all budgets, and lines of figures. */
export function checkBudgets(
  files: readonly SourceFile[],
  modules: readonly Module[],
  budget: Budget,
  dependencies: readonly string[],
): { findings: Finding[]; figures: string[] } {
  const typescript = modules.filter((module) => !isGenerated(module.path)).flatMap(measureModule);
  const bpf = files.filter((file) => /^bpf\/.*\.[ch]$/.test(file.path)).flatMap(measureC);
  const used = new Set<number>();
  const findings = [
    ...judge(typescript, budget.typescript, budget, used),
    ...judge(bpf, budget.bpf, budget, used),
  ];
  for (const [index, row] of budget.exceptions.entries()) {
    const where = `budget.json: ${row.path} ${row.name ?? ""}`.trim();
    if (!used.has(index)) findings.push({ where, what: `exception for ${row.what} that nothing needs` });
    if (row.reason.trim() === "") findings.push({ where, what: "exception without a reason" });
  }
  if (dependencies.length > budget.runtimeDependencies) {
    const what = `${dependencies.length} runtime dependencies, ${budget.runtimeDependencies} are allowed`;
    findings.push({ where: "package.json", what });
  }
  return { findings, figures: [describe("TypeScript", typescript), describe("BPF C", bpf)] };
}
