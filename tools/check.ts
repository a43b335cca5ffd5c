// SPDX-License-Identifier: Apache-2.0
// `npm run check`: types, lint and format, layers, cycles, budgets, generated files, heads, names, links. Every check
// runs, whatever the others find; each prints one line, and its findings below it.
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./build-bpf.ts";
import { type Budget, checkBudgets } from "./check/budgets.ts";
import { checkForbidden, checkHeads, checkLinks, checkNames } from "./check/content.ts";
import { checkCycles, checkLayers, checkOnly, type Layers } from "./check/imports.ts";
import { type Finding, parseModules, readProject } from "./check/project.ts";
import { generate, stale } from "./gen.ts";

/** A check's name, and its findings when it is done; `output` is what a tool printed. */
interface Result {
  name: string;
  findings: Finding[];
  output?: string;
  figures?: string[];
}

function readJson<T>(name: string): T {
  return JSON.parse(readFileSync(join(ROOT, name), "utf8")) as T;
}

/** Runs a tool of node_modules; a status other than 0 is one finding with all that it printed. */
function tool(name: string, command: string, args: readonly string[]): Promise<Result> {
  return new Promise((done) => {
    const child = spawn(join(ROOT, "node_modules/.bin", command), args, {
      cwd: ROOT,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    child.stdout.on("data", (data) => (output += data));
    child.stderr.on("data", (data) => (output += data));
    child.on("error", (error) => (output += error.message));
    child.on("close", (status) => {
      const findings = status === 0 ? [] : [{ where: command, what: `status ${status}` }];
      done({ name, findings, ...(status === 0 ? {} : { output: output.trim() }) });
    });
  });
}

async function generated(): Promise<Result> {
  const name = "generated files";
  try {
    const files = await generate();
    const findings = stale(files).map((path) => ({ where: path, what: "is not what `npm run gen` writes" }));
    return { name, findings };
  } catch (thrown) {
    return {
      name,
      findings: [{ where: "gen", what: thrown instanceof Error ? thrown.message : String(thrown) }],
    };
  }
}

/** The checks that read sources. */
function sources(): Result[] {
  const files = readProject(ROOT);
  const modules = parseModules(files);
  const layers = readJson<Layers>("layers.json");
  const { dependencies } = readJson<{ dependencies: Record<string, string> }>("package.json");
  const budgets = checkBudgets(files, modules, readJson<Budget>("budget.json"), Object.keys(dependencies));
  return [
    { name: "layers", findings: [...checkLayers(modules, layers), ...checkOnly(modules, layers)] },
    { name: "cycles", findings: checkCycles(modules) },
    { name: "budgets", ...budgets },
    { name: "heads and names", findings: [...checkHeads(files), ...checkNames(files)] },
    { name: "content", findings: checkForbidden(files) },
    { name: "links", findings: checkLinks(files, (path) => existsSync(join(ROOT, path))) },
  ];
}

/** One line, then what was found. */
export function report(result: Result): string {
  const ok = result.findings.length === 0;
  const head = `${ok ? "ok  " : "FAIL"} ${result.name}`;
  const rows =
    result.findings.length > 0 && result.output
      ? [result.output]
      : result.findings.map((row) => `  ${row.where}: ${row.what}`);
  return [head, ...(result.figures ?? []).map((line) => `  ${line}`), ...rows].join("\n");
}

/** Runs everything and prints it. True if nothing was found. */
export async function check(): Promise<boolean> {
  const tools = [
    tool("types", "tsc", ["-p", "."]),
    tool("lint and format", "biome", ["check", "--error-on-warnings"]),
  ];
  let results: Result[];
  try {
    results = [...sources(), await generated()];
  } catch (thrown) {
    results = [{ name: "sources", findings: [{ where: "parse", what: String(thrown) }] }];
  }
  results.push(...(await Promise.all(tools)));
  for (const result of results) console.log(report(result));
  return results.every((result) => result.findings.length === 0);
}

if (import.meta.main) process.exitCode = (await check()) ? 0 : 1;
