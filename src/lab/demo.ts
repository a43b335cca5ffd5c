// SPDX-License-Identifier: Apache-2.0
// The guided demonstration on a running lab: each step does what a user would type, shows the real answer, and checks it
// against what it must be. Values are measured when the step runs; nothing that is printed is known beforehand.
import { spawn } from "node:child_process";
import { Fault } from "../base/fault.ts";
import { demoSteps } from "./demo-steps.ts";
import type { DemoContext, StepOutcome } from "./demo-types.ts";
import { findMember } from "./member.ts";
import { DEFAULT_LAB } from "./plan.ts";
import { outcomeOf, plainEnvironment, runAt } from "./spawn.ts";
import { runningState } from "./state.ts";
import { labStatus } from "./status.ts";

async function output(
  what: string,
  run: Promise<{ status: number; stdout: string; stderr: string }>,
): Promise<string> {
  const { status, stdout, stderr } = await run;
  if (status === 0) return stdout;
  throw new Error(`${what}: ${stderr.trim() || `status ${status}`}`);
}

async function contextOf(lab: string): Promise<DemoContext> {
  const { plan, entry } = runningState(lab);
  const [program = "", ...rest] = entry;
  return {
    plan,
    status: await labStatus(lab),
    command: lab === DEFAULT_LAB ? "hookline" : `hookline --lab ${lab}`,
    exec: async (member, argv) => output(argv[0] ?? "", runAt((await findMember(plan, member)).place, argv)),
    hookline: (words) =>
      output(
        `hookline ${words.join(" ")}`,
        outcomeOf(
          spawn(program, [...rest, "--lab", lab, ...words], {
            stdio: ["ignore", "pipe", "pipe"],
            env: plainEnvironment(),
          }),
        ),
      ),
  };
}

function indent(text: string): string {
  return text
    .trimEnd()
    .split("\n")
    .map((line) => `   ${line}`.trimEnd())
    .join("\n");
}

function render(number: number, title: string, outcome: StepOutcome): string {
  const mark = outcome.held ? "✓" : "✗";
  return `${number}. ${title}\n${indent([...outcome.lines, `${mark} ${outcome.verdict}`].join("\n"))}\n\n`;
}

/**
 * Runs all steps, each also after one that failed.
 * @returns whether every step held
 * @throws Fault LAB_NOT_RUNNING
 */
export async function runDemo(lab: string, print: (text: string) => Promise<void>): Promise<boolean> {
  const context = await contextOf(lab);
  let allHeld = true;
  let number = 0;
  for (const { title, run } of demoSteps(context)) {
    const outcome = await run(context).catch(
      (thrown): StepOutcome => ({ lines: [], held: false, verdict: Fault.from(thrown).detail }),
    );
    allHeld &&= outcome.held;
    await print(render(++number, title, outcome));
  }
  return allHeld;
}
