// SPDX-License-Identifier: Apache-2.0
// `npm test`: builds, checks, then runs unit, packet, journey, kube and netns tests, one process per file; ends with
// the line `N passed, N failed`. What tests leave on the machine counts as a failure.
// Usage: npm test -- [--only GROUP]... [--grep NAME] [FILE]...   or --clean
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { sleep } from "../src/base/async.ts";
import { buildAll } from "./build.ts";
import { ROOT } from "./build-bpf.ts";
import { check } from "./check.ts";
import { type Inventory, inventory, killProcesses, leftovers, removeLeftovers } from "./test/leftovers.ts";
import { endAll, type FileResult, runFile } from "./test/run-file.ts";

/** A group of test files. Tests that use namespaces or load programs run one at a time. */
interface Group {
  name: string;
  folders: readonly string[];
  pattern: RegExp;
  concurrency: number;
}

const GROUPS: readonly Group[] = [
  {
    name: "unit",
    folders: ["src", "tools", "test/support"],
    pattern: /(?<!\.root)\.test\.ts$/,
    concurrency: 2,
  },
  { name: "packet", folders: ["test/packet"], pattern: /\.test\.ts$/, concurrency: 1 },
  { name: "journey", folders: ["test/journey"], pattern: /\.test\.ts$/, concurrency: 1 },
  { name: "kube", folders: ["test/kube"], pattern: /\.test\.ts$/, concurrency: 1 },
  {
    name: "netns",
    folders: ["src", "test/support", "test/netns"],
    pattern: /(\.root|^test\/netns\/.*)\.test\.ts$/,
    concurrency: 1,
  },
];

const FILE_TIMEOUT_MS = 10 * 60_000;
/** Processes that were killed, and devices of namespaces that were removed, need a moment to go. */
const GOING_MS = 10_000;
/** Where a run writes what it found, for --clean. */
const BEFORE = join(ROOT, "build/test-before.json");

/** Sums over everything that ran. */
interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

/** One run of this program: its mark and what was on the machine when it began. */
interface Run {
  mark: string;
  before: Inventory;
}

interface Options {
  clean: boolean;
  only: string[];
  grep?: string;
  files: string[];
}

function readOptions(): Options {
  const { values, positionals } = parseArgs({
    options: {
      only: { type: "string", multiple: true },
      grep: { type: "string" },
      clean: { type: "boolean" },
    },
    allowPositionals: true,
  });
  const known = ["check", ...GROUPS.map((group) => group.name)];
  const only = (values.only ?? []).flatMap((text) => text.split(","));
  const wrong = only.find((name) => !known.includes(name));
  if (wrong !== undefined) throw new RangeError(`--only ${wrong}: not one of ${known.join(", ")}`);
  return {
    only,
    clean: values.clean ?? false,
    files: positionals.map((path) => relative(ROOT, resolve(path))),
    ...(values.grep === undefined ? {} : { grep: values.grep }),
  };
}

function filesOf(group: Group, wanted: readonly string[]): string[] {
  const folders = group.folders.filter((folder) => existsSync(join(ROOT, folder)));
  const paths = folders.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" }).map((name) => `${folder}/${name}`),
  );
  const tests = paths.filter((path) => group.pattern.test(path)).sort();
  return wanted.length === 0 ? tests : tests.filter((path) => wanted.includes(path));
}

/** The command that runs the failed tests of one file again. */
function rerun(group: Group, result: FileResult): string {
  const names = result.tests.filter((one) => !one.ok).map((one) => one.name);
  const grep = names.length === 1 ? ` --grep ${JSON.stringify(names[0])}` : "";
  return `npm test -- --only ${group.name}${grep} ${result.path}`;
}

function printFile(group: Group, result: FileResult): void {
  const failed = result.trouble !== undefined || result.tests.some((one) => !one.ok);
  console.log(
    `${failed ? "FAIL" : "ok  "} ${result.path}  ${result.tests.length} tests, ${result.seconds.toFixed(1)} s`,
  );
  for (const one of result.tests) if (one.skipped) console.log(`     skipped: ${one.name}: ${one.skipped}`);
  if (!failed) return;
  console.log(result.output.trimEnd());
  if (result.trouble !== undefined) console.log(`     ${result.trouble}`);
  console.log(`     run it again: ${rerun(group, result)}`);
}

function count(result: FileResult, totals: Totals): void {
  for (const one of result.tests) {
    if (!one.ok) totals.failed++;
    else if (one.skipped === undefined) totals.passed++;
    else totals.skipped++;
  }
  if (result.trouble !== undefined) totals.failed++;
}

/** Reports what is new since `before` and stays, once, and kills the run's processes among it. */
async function settle({ mark, before }: Run, who: string, totals: Totals): Promise<void> {
  const until = performance.now() + GOING_MS;
  let left = leftovers(before, inventory(mark));
  while (left.length > 0 && performance.now() < until) {
    await sleep(100);
    left = leftovers(before, inventory(mark));
  }
  if (left.length === 0) return;
  totals.failed++;
  console.log(`FAIL ${who} left behind:\n${left.map((item) => `     ${item}`).join("\n")}`);
  killProcesses(left);
  for (const item of left) before.add(item);
}

/** Removes what is new since the last run began. For .ci/run; nothing else may be at work on the machine. */
function clean(): void {
  if (!existsSync(BEFORE)) return;
  const { mark, items } = JSON.parse(readFileSync(BEFORE, "utf8")) as { mark: string; items: string[] };
  const left = leftovers(new Set(items), inventory(mark));
  for (const item of left) console.log(`removing ${item}`);
  for (const item of removeLeftovers(left)) console.log(`could not be removed: ${item}`);
  rmSync(BEFORE);
}

async function runGroup(group: Group, options: Options, run: Run, totals: Totals): Promise<void> {
  const queue = filesOf(group, options.files);
  if (queue.length === 0) return;
  const started = performance.now();
  console.log(`\n${group.name}`);
  const worker = async (): Promise<void> => {
    for (let path = queue.shift(); path !== undefined; path = queue.shift()) {
      const grep = options.grep === undefined ? {} : { grep: options.grep };
      const result = await runFile(path, { timeoutMs: FILE_TIMEOUT_MS, mark: run.mark, ...grep });
      if (result.tests.length > 0 || result.trouble !== undefined) printFile(group, result);
      count(result, totals);
      if (group.concurrency === 1) await settle(run, path, totals);
    }
  };
  await Promise.all(Array.from({ length: group.concurrency }, worker));
  await settle(run, group.name, totals);
  console.log(`${group.name}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

function summary(totals: Totals): string {
  const skipped = totals.skipped === 0 ? "" : `, ${totals.skipped} skipped`;
  return `${totals.passed} passed, ${totals.failed} failed${skipped}`;
}

/** Builds; a failure counts and is printed, and tests of what there is go on. */
async function build(totals: Totals): Promise<void> {
  try {
    await buildAll();
  } catch (thrown) {
    totals.failed++;
    console.log(`FAIL build\n${thrown instanceof Error ? thrown.message : thrown}`);
  }
}

function begin(): Run {
  const mark = randomBytes(8).toString("hex");
  const before = inventory(mark);
  const old = [...before].filter((item) => / (\S*\/)?hlt-/.test(item));
  if (old.length > 0) console.log(`note: from another run: ${old.join(", ")}`);
  mkdirSync(dirname(BEFORE), { recursive: true });
  writeFileSync(BEFORE, JSON.stringify({ mark, items: [...before] }));
  const stop = (): void => {
    endAll();
    killProcesses(leftovers(before, inventory(mark)));
    process.exit(130);
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  return { mark, before };
}

async function main(): Promise<void> {
  const options = readOptions();
  if (options.clean) return clean();
  const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  const run = begin();
  await build(totals);
  const everything = options.only.length === 0 && options.grep === undefined && options.files.length === 0;
  if ((everything || options.only.includes("check")) && !(await check())) totals.failed++;
  const groups = GROUPS.filter((group) => options.only.length === 0 || options.only.includes(group.name));
  for (const group of groups) await runGroup(group, options, run, totals);
  console.log(`\n${summary(totals)}`);
  process.exitCode = totals.failed === 0 && (totals.passed > 0 || options.only.includes("check")) ? 0 : 1;
}

try {
  await main();
} catch (thrown) {
  console.error(thrown instanceof Error ? thrown.message : thrown);
  console.log("\n0 passed, 1 failed");
  process.exitCode = 1;
}
