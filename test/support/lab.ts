// SPDX-License-Identifier: Apache-2.0
// Labs for tests: the built command as a user runs it, a random name, and its removal whatever happens.
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { findRemains, listRemains } from "../../src/lab/down.ts";

const COMMAND = join(import.meta.dirname, "../../dist/hookline.mjs");

/** What a finished command left. */
export interface Finished {
  status: number;
  stdout: string;
  stderr: string;
}

/** A name that no other lab has. */
export function labName(): string {
  return `t${randomBytes(4).toString("hex")}`;
}

/** Starts the built `hookline`. */
export function startHookline(words: string[]): ChildProcess {
  if (!existsSync(COMMAND)) throw new Error(`${COMMAND} is missing: run "npm run build" first`);
  return spawn(process.execPath, [COMMAND, ...words], { stdio: ["pipe", "pipe", "pipe"] });
}

/** Waits for a process and what it prints. */
export function finished(child: ChildProcess): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const out = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const) {
      child[name]?.setEncoding("utf8").on("data", (text: string) => {
        out[name] += text;
      });
    }
    child.once("error", reject);
    child.once("close", (status) => resolve({ status: status ?? -1, ...out }));
  });
}

/** Runs the built `hookline` to its end. */
export function hookline(...words: string[]): Promise<Finished> {
  return finished(startHookline(words));
}

/** Runs it and gives its output. @throws Error with its error text if it fails */
export async function output(...words: string[]): Promise<string> {
  const { status, stdout, stderr } = await hookline(...words);
  if (status === 0) return stdout;
  throw new Error(`hookline ${words.join(" ")}: status ${status}\n${stderr}${stdout}`);
}

/** What of a lab is left on this machine, one line each. */
export function remainsOf(lab: string): string[] {
  return listRemains(findRemains(lab));
}

/** The agent of a lab's node, as its agent.json has it. */
export function agentPid(lab: string, node: string): number {
  return JSON.parse(readFileSync(`/run/hookline/labs/${lab}/nodes/${node}/run/agent.json`, "utf8")).pid;
}
