// SPDX-License-Identifier: Apache-2.0
// `npm test`: builds, checks, then runs unit, packet, journey, kube and netns tests, one process per file; ends with
// the line `N passed, N failed`. What tests leave on the machine counts as a failure.
// Usage: npm test -- [--only GROUP]... [--grep NAME] [--again N] [--pauses] [FILE]...   or --clean
// --again N: a file with a failed test is run N times more; if it passes each time, what failed is called unstable, which is
// printed, and does not fail the run. --pauses: processes of tests are stopped and continued at random moments.
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { sleep } from "../src/base/async.ts";
import { buildAll } from "./build.ts";
import { ROOT } from "./build-bpf.ts";
import { check } from "./check.ts";
import { type Inventory, inventory, killProcesses, leftovers, removeLeftovers } from "./test/leftovers.ts";
import { endAll, type FileResult, hasFailed, runAgain, runFile } from "./test/run-file.ts";

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
  /** What failed, and what failed first and then passed each time: a line each. */
  readonly failures: string[];
  readonly unstable: string[];
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
  again: number;
  pauses: boolean;
  files: string[];
}

function readOptions(): Options {
  const { values, positionals } = parseArgs({
    options: {
      only: { type: "string", multiple: true },
      grep: { type: "string" },
      again: { type: "string", default: "0" },
      pauses: { type: "boolean", default: false },
      clean: { type: "boolean" },
    },
    allowPositionals: true,
  });
  const known = ["check", ...GROUPS.map((group) => group.name)];
  const only = (values.only ?? []).flatMap((text) => text.split(","));
  const wrong = only.find((name) => !known.includes(name));
  if (wrong !== undefined) throw new RangeError(`--only ${wrong}: not one of ${known.join(", ")}`);
  if (!/^\d$/.test(values.again)) throw new RangeError(`--again ${values.again}: not a number from 0 to 9`);
  return {
    only,
    clean: values.clean ?? false,
    again: Number(values.again),
    pauses: values.pauses,
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

/** A line for each failure. */
function failuresOf({ path, tests, trouble }: FileResult): string[] {
  const failed = tests.filter((one) => !one.ok && !one.cancelled);
  const lines = failed.map(({ name, error = "" }) => `${path}: ${name}: ${error.replaceAll(/\s+/g, " ")}`);
  return [...lines, ...(trouble === undefined ? [] : [`${path}: ${trouble}`])];
}

function printFile(group: Group, result: FileResult): void {
  const failed = hasFailed(result);
  console.log(
    `${failed ? "FAIL" : "ok  "} ${result.path}  ${result.tests.length} tests, ${result.seconds.toFixed(1)} s`,
  );
  for (const one of result.tests) if (one.skipped) console.log(`     skipped: ${one.name}: ${one.skipped}`);
  if (!failed) return;
  for (const line of failuresOf(result)) console.log(`     ${line}`);
  console.log(`     run it again: ${rerun(group, result)}`);
  console.log(result.output.trimEnd());
}

function count(result: FileResult, totals: Totals): void {
  totals.failures.push(...failuresOf(result));
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
  totals.failures.push(`${who} left behind: ${left.join(", ")}`);
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

/** Runs a file, and again if it fails and the options ask for it; prints how each run went and counts the last. */
async function runAndCount(
  path: string,
  { group, options, run, totals }: { group: Group; options: Options; run: Run; totals: Totals },
): Promise<void> {
  const once = async (): Promise<FileResult> => {
    const { grep, pauses } = options;
    const how = {
      timeoutMs: FILE_TIMEOUT_MS,
      mark: run.mark,
      pauses,
      ...(grep === undefined ? {} : { grep }),
    };
    const result = await runFile(path, how);
    if (result.tests.length > 0 || result.trouble !== undefined) printFile(group, result);
    if (group.concurrency === 1) await settle(run, path, totals);
    return result;
  };
  const { unstable, last } = await runAgain(once, options.again);
  if (unstable !== undefined) totals.unstable.push(...failuresOf(unstable));
  count(last, totals);
}

async function runGroup(group: Group, options: Options, run: Run, totals: Totals): Promise<void> {
  const queue = filesOf(group, options.files);
  if (queue.length === 0) return;
  const started = performance.now();
  console.log(`\n${group.name}`);
  const worker = async (): Promise<void> => {
    for (let path = queue.shift(); path !== undefined; path = queue.shift())
      await runAndCount(path, { group, options, run, totals });
  };
  await Promise.all(Array.from({ length: group.concurrency }, worker));
  await settle(run, group.name, totals);
  console.log(`${group.name}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

function printLines(title: string, lines: readonly string[]): void {
  if (lines.length > 0) console.log(`\n${[title, ...lines].join("\n     ")}`);
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
  const totals: Totals = { passed: 0, failed: 0, skipped: 0, failures: [], unstable: [] };
  const run = begin();
  await build(totals);
  const everything = options.only.length === 0 && options.grep === undefined && options.files.length === 0;
  if ((everything || options.only.includes("check")) && !(await check())) totals.failed++;
  const groups = GROUPS.filter((group) => options.only.length === 0 || options.only.includes(group.name));
  for (const group of groups) await runGroup(group, options, run, totals);
  printLines("failed:", totals.failures);
  printLines(
    "unstable, a fault of the test or of what it tests; failed once, then passed each time:",
    totals.unstable,
  );
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
