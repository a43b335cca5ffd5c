// SPDX-License-Identifier: Apache-2.0
// Runs one test file in a process of its own, with its own process group and a time limit, and gives what happened.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT } from "../build-bpf.ts";
import { RUN_MARK } from "./leftovers.ts";
import { pauseProcesses } from "./pauses.ts";
import type { TestResult } from "./reporter.ts";

/** How one file went. */
export interface FileResult {
  path: string;
  tests: TestResult[];
  /** Set if the file failed as a whole: crashed, hung, or held no test. */
  trouble?: string;
  /** What it printed, in the form of node:test's spec reporter. */
  output: string;
  seconds: number;
}

/** Groups that run now, so that an interrupt can end them. */
const running = new Set<number>();

function endGroup(group: number): void {
  try {
    process.kill(-group, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

/** Kills every test process that runs, with its children. */
export function endAll(): void {
  for (const group of running) endGroup(group);
}

function readResults(file: string): TestResult[] {
  try {
    const lines = readFileSync(file, "utf8").split("\n");
    return lines.filter((line) => line.endsWith("}")).map((line) => JSON.parse(line) as TestResult);
  } catch {
    return [];
  }
}

/** Whether anything in it failed. */
export function hasFailed({ trouble, tests }: FileResult): boolean {
  return trouble !== undefined || tests.some((one) => !one.ok);
}

/**
 * Runs a test file, with `pauses` of its processes at random moments. `grep` leaves only tests whose name matches the pattern; `mark` is the run's value of RUN_MARK,
 * by which processes that outlive their test are found.
 */
export async function runFile(
  path: string,
  options: { timeoutMs: number; mark: string; grep?: string; pauses?: boolean },
): Promise<FileResult> {
  const started = performance.now();
  const folder = mkdtempSync(join(tmpdir(), "hookline-test-"));
  const results = join(folder, "results");
  const flags = [
    "--test-reporter=spec",
    "--test-reporter-destination=stdout",
    `--test-reporter=${join(ROOT, "tools/test/reporter.ts")}`,
    `--test-reporter-destination=${results}`,
    ...(options.grep === undefined ? [] : [`--test-name-pattern=${options.grep}`]),
  ];
  const child = spawn(process.execPath, [...flags, path], {
    cwd: ROOT,
    detached: true,
    env: { ...process.env, [RUN_MARK]: options.mark, FORCE_COLOR: "0" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  await using _pauses = options.pauses ? pauseProcesses(options.mark) : undefined;
  const group = child.pid ?? 0;
  running.add(group);
  let output = "";
  child.stdout.on("data", (data) => (output += data));
  child.stderr.on("data", (data) => (output += data));
  let hung = false;
  const timer = setTimeout(() => {
    hung = true;
    endGroup(group);
  }, options.timeoutMs);
  // "close" would wait for grandchildren that keep the pipes open; after "exit" the output gets a moment to arrive.
  const status = await new Promise<string>((done) => {
    child.on("error", (error) => done(error.message));
    child.on("close", (code, signal) => done(`${code ?? signal}`));
    child.on("exit", (code, signal) => setTimeout(() => done(`${code ?? signal}`), 2000).unref());
  });
  clearTimeout(timer);
  endGroup(group);
  running.delete(group);
  const tests = readResults(results);
  rmSync(folder, { recursive: true, force: true });
  const trouble = troubleOf(tests, status, hung ? options.timeoutMs : 0, options.grep !== undefined);
  return {
    path,
    tests,
    ...(trouble ? { trouble } : {}),
    output,
    seconds: (performance.now() - started) / 1000,
  };
}

/** How a file went in the end, and, if it failed first and then passed each time, how it failed. */
export interface Outcome {
  readonly last: FileResult;
  readonly unstable?: FileResult;
}

/** Runs a file by `once`, and `again` times more if a test fails, until it fails again. What crashes or hangs has failed. */
export async function runAgain(once: () => Promise<FileResult>, again: number): Promise<Outcome> {
  const first = await once();
  if (again === 0 || !hasFailed(first) || first.trouble !== undefined) return { last: first };
  let last = await once();
  for (let left = again - 1; left > 0 && !hasFailed(last); left--) last = await once();
  return hasFailed(last) ? { last } : { last, unstable: first };
}

function troubleOf(
  tests: readonly TestResult[],
  status: string,
  hungMs: number,
  filtered: boolean,
): string | undefined {
  if (hungMs > 0) return `stopped: not done after ${hungMs / 1000} s`;
  if (status !== "0" && tests.every((one) => one.ok)) return `ended with ${status} though no test failed`;
  if (tests.length === 0 && !filtered) return "holds no test";
  const mute = tests.find((one) => one.skipped === "");
  return mute ? `"${mute.name}" is skipped without a reason` : undefined;
}
