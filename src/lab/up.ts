// SPDX-License-Identifier: Apache-2.0
// Starting a lab: checks what can be checked before, clears what an earlier one left, starts the supervisor in the
// background and waits until everything runs. A lab that does not come up is taken away again.
import { type ChildProcess, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { findCgroup2 } from "../kernel/mount.ts";
import { downLab, findRemains, listRemains } from "./down.ts";
import { faults } from "./faults.ts";
import { isAlive } from "./identity.ts";
import { LABS_DIR, type LabPlan, type LabRequest, planLab } from "./plan.ts";
import { spawnAt } from "./spawn.ts";
import { type LabState, readState } from "./state.ts";
import type { Progress } from "./supervisor.ts";

export interface UpOptions {
  /** Command that runs `hookline`. */
  entry: string[];
  /** dist/hookline-cni.cjs. */
  bundle: string;
  /** Take a lab of this name away first. */
  replace: boolean;
  /** One line for people per step. */
  say: (line: string) => void;
}

export interface UpResult {
  state: LabState;
  /** It ran already, as asked for. */
  already: boolean;
  seconds: number;
}

/** Lines of the log that a failure shows. */
const TAIL_LINES = 8;

function checkMachine(bundle: string): void {
  if (process.geteuid?.() !== 0) throw faults.LAB_NEEDS_ROOT();
  try {
    findCgroup2();
  } catch (cause) {
    throw faults.LAB_NO_CGROUP2({}, cause);
  }
  if (!existsSync(bundle)) throw faults.LAB_NOT_BUILT({ path: bundle });
  if (spawnSync("curl", ["--version"], { stdio: "ignore" }).error) {
    throw faults.LAB_COMMAND({ command: "curl", why: "not found; install it (apt-get install curl)" });
  }
}

function tailOf(path: string): string {
  try {
    return readFileSync(path, "utf8").trimEnd().split("\n").slice(-TAIL_LINES).join("\n");
  } catch {
    return "";
  }
}

/** Resolves when the supervisor says that all is up. @throws Fault LAB_START with the end of its log */
function whenReady(supervisor: ChildProcess, plan: LabPlan, say: (line: string) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (why: string, tail = ""): void => reject(faults.LAB_START({ name: plan.name, why, tail }));
    supervisor.once("error", (error) => fail(error.message));
    supervisor.once("close", (code) => {
      fail(`its supervisor ended with status ${code}`, tailOf(join(plan.stateDir, "supervisor.log")));
    });
    createInterface(supervisor.stdio[3] as Readable).on("line", (line) => {
      const progress = JSON.parse(line) as Progress;
      if ("step" in progress) say(`  starting ${progress.step}`);
      else if ("failed" in progress) fail(progress.failed);
      else resolve();
    });
  });
}

/** Makes room: true if the lab runs already as planned. */
async function clearOld(plan: LabPlan, { replace, say }: UpOptions): Promise<boolean> {
  const remains = listRemains(findRemains(plan.name));
  if (remains.length === 0) return false;
  const state = readState(plan.name);
  if (state && isAlive(state.supervisor) && !replace) {
    if (state.ready && JSON.stringify(state.plan) === JSON.stringify(plan)) return true;
    throw faults.LAB_EXISTS({ name: plan.name });
  }
  say(
    `Lab "${plan.name}" ${state && isAlive(state.supervisor) ? "is up" : "left something behind"}: taking it away first.`,
  );
  await downLab(plan.name);
  return false;
}

/**
 * Starts a lab and waits for it.
 * @throws Fault LAB_NAME, LAB_SIZE, LAB_NEEDS_ROOT, LAB_NO_CGROUP2, LAB_NOT_BUILT, LAB_EXISTS, LAB_START
 */
export async function upLab(request: LabRequest, options: UpOptions): Promise<UpResult> {
  const began = performance.now();
  const plan = planLab(request);
  checkMachine(options.bundle);
  const already = await clearOld(plan, options);
  if (!already) {
    mkdirSync(LABS_DIR, { recursive: true });
    try {
      mkdirSync(plan.stateDir);
    } catch (cause) {
      throw faults.LAB_EXISTS({ name: plan.name }, cause);
    }
    writeFileSync(join(plan.stateDir, "plan.json"), JSON.stringify(plan));
    await startSupervisor(plan, options);
  }
  const state = readState(plan.name);
  if (!state) throw faults.LAB_NOT_RUNNING({ name: plan.name });
  return { state, already, seconds: (performance.now() - began) / 1000 };
}

async function startSupervisor(plan: LabPlan, { entry, say }: UpOptions): Promise<void> {
  const log = openSync(join(plan.stateDir, "supervisor.log"), "a", 0o600);
  const supervisor = spawnAt(
    { netns: "", cgroup: join(plan.cgroup, "supervisor") },
    [...entry, "lab", "supervise", "--name", plan.name],
    { stdio: ["ignore", log, log, "pipe"], detached: true },
  );
  try {
    await whenReady(supervisor, plan, say);
  } catch (thrown) {
    await downLab(plan.name);
    throw thrown;
  }
  supervisor.stdio[3]?.destroy();
  supervisor.unref();
}
