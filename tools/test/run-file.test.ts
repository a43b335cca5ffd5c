// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { waitFor } from "../../src/base/async.ts";
import { inventory, killProcesses, leftovers } from "./leftovers.ts";
import { type FileResult, hasFailed, type Outcome, runAgain, runFile } from "./run-file.ts";

describe("running one test file", () => {
  let folder = "";
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "hlt-run-"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  function run(
    source: string,
    options: { timeoutMs?: number; grep?: string; mark?: string; pauses?: boolean } = {},
  ): Promise<FileResult> {
    const path = join(folder, "case.mjs");
    writeFileSync(path, `import test from "node:test";\n${source}\n`);
    return runFile(path, { timeoutMs: 60_000, mark: "none", ...options });
  }

  const outcome = (result: FileResult): unknown[] =>
    result.tests.map((one) => [one.name, one.ok, ...(one.skipped === undefined ? [] : [one.skipped])]);

  test("counts passes, failures, skips; suites are no tests", async () => {
    const result = await run(`
      test.describe("suite", () => { test("good", () => {}); test("bad", () => { throw new Error("no"); }); });
      test("later", { skip: "no kernel" }, () => {});`);
    assert.deepEqual(outcome(result), [
      ["good", true],
      ["bad", false],
      ["later", true, "no kernel"],
    ]);
    assert.equal(result.trouble, undefined);
    assert.match(result.output, /Error: no/);
  });

  test("of a suite that cannot be set up the reason is told, once", async () => {
    const result = await run(`
      test.describe("suite", () => {
        test.before(() => { throw new Error("no namespace"); });
        test("one", () => {});
        test("two", () => {});
      });`);
    const told = result.tests.map(({ name, ok, error, cancelled }) => [
      name,
      ok,
      cancelled ? "cancelled" : error,
    ]);
    assert.deepEqual(told, [
      ["one", false, "cancelled"],
      ["two", false, "cancelled"],
      ["suite", false, "no namespace"],
    ]);
  });

  test("runs only what matches", async () => {
    const result = await run('test("one", () => {}); test("two", () => {});', { grep: "two" });
    assert.deepEqual(outcome(result), [["two", true]]);
    assert.equal((await run('test("one", () => {});', { grep: "none" })).trouble, undefined);
  });

  test("a file that crashes, is empty, or skips in silence is a failure", async () => {
    assert.match((await run("process.exit(3);")).trouble ?? "", /ended with 3/);
    assert.match((await run("")).trouble ?? "", /holds no test/);
    assert.match((await run('test("mute", { skip: true }, () => {});')).trouble ?? "", /without a reason/);
  });

  /** Runs, with two repeats, a file that fails in these of its runs, counted from 1; gives what came of it and the number of runs. */
  async function runTwiceAgain(failing: readonly number[]): Promise<{ outcome: Outcome; runs: number }> {
    const counter = join(folder, "runs");
    writeFileSync(counter, "");
    const source = `import { appendFileSync, readFileSync } from "node:fs";
      test("sometimes", () => {
        appendFileSync(${JSON.stringify(counter)}, ".");
        const run = readFileSync(${JSON.stringify(counter)}, "utf8").length;
        if (${JSON.stringify(failing)}.includes(run)) throw new Error("run " + run);
      });`;
    const outcome = await runAgain(() => run(source), 2);
    return { outcome, runs: readFileSync(counter, "utf8").length };
  }

  test("what fails once and passes each time after is unstable, with its reason", async () => {
    const { outcome, runs } = await runTwiceAgain([1]);
    assert.equal(runs, 3);
    assert.deepEqual(outcome.unstable?.tests[0]?.error, "run 1");
    assert.equal(hasFailed(outcome.last), false);
  });

  for (const failing of [
    [1, 2],
    [1, 3],
    [1, 2, 3],
  ])
    test(`what fails in runs ${failing.join(" and ")} has failed`, async () => {
      const { outcome, runs } = await runTwiceAgain(failing);
      assert.equal(runs, failing[1]);
      assert.equal(hasFailed(outcome.last), true);
      assert.equal(outcome.unstable, undefined);
    });

  test("what passes, crashes, or hangs is run once", async () => {
    let runs = 0;
    const counted = (source: string) => () => {
      runs++;
      return run(source);
    };
    assert.equal(hasFailed((await runAgain(counted('test("good", () => {});'), 2)).last), false);
    assert.equal(hasFailed((await runAgain(counted("process.exit(3);"), 2)).last), true);
    assert.equal(runs, 2);
  });

  test("processes that are paused at random come to their end", async () => {
    const mark = `pauses-${process.pid}`;
    const source = `test("busy", async () => { for (let i = 0; i < 40; i++) await new Promise((r) => setTimeout(r, 10)); });`;
    assert.deepEqual(outcome(await run(source, { mark, pauses: true })), [["busy", true]]);
  });

  test("a file that hangs is stopped with the processes of its group", async () => {
    const pidFile = join(folder, "pid");
    // Until it hangs it may take its time: that is the machine's affair.
    for (let seconds = 5; !existsSync(pidFile) && seconds < 60; seconds *= 2) {
      const result = await run(
        `import { spawn } from "node:child_process"; import { writeFileSync } from "node:fs";
         writeFileSync(${JSON.stringify(pidFile)}, String(spawn("sleep", ["600"]).pid));
         test("hangs", async () => { await new Promise(() => setInterval(() => {}, 1000)); });`,
        { timeoutMs: 1000 * seconds },
      );
      assert.equal(result.trouble, `stopped: not done after ${seconds} s`);
    }
    const pid = readFileSync(pidFile, "utf8");
    await waitFor("the child's end", () => !isRunning(pid));
  });

  test("a process that leaves its group is found by the run's mark", async () => {
    const mark = `case-${process.pid}`;
    const first = inventory(mark);
    const result = await run(
      `import { spawn } from "node:child_process";
       test("leaves", () => { spawn("sleep", ["601"], { detached: true, stdio: "ignore" }).unref(); });`,
      { mark },
    );
    assert.deepEqual(outcome(result), [["leaves", true]]);
    const left = leftovers(first, inventory(mark)).filter((item) => item.startsWith("process"));
    assert.equal(left.length, 1);
    assert.match(left[0] ?? "", /^process \d+ sleep 601$/);
    killProcesses(left);
    await waitFor("the process's end", () => !isRunning((left[0] ?? "").split(" ")[1] ?? ""));
  });
});

/** A killed child of a process that is gone may stay a zombie where nobody reaps: that is no running process. */
function isRunning(pid: string): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

test("leftovers come in the order in which they can be removed", () => {
  const after = new Set([
    "folder /run/hookline/a",
    "pin /b/hl",
    "netns hlt-1",
    "process 5 sleep",
    "pin /b/hl/x",
    "link hlt0",
  ]);
  assert.deepEqual(leftovers(new Set(["link hlt0"]), after), [
    "process 5 sleep",
    "netns hlt-1",
    "pin /b/hl/x",
    "pin /b/hl",
    "folder /run/hookline/a",
  ]);
});
