// SPDX-License-Identifier: Apache-2.0
// What a step of the demonstration is given and what it gives back.
import type { LabPlan } from "./plan.ts";
import type { LabStatus } from "./status.ts";

/** What a step can do. */
export interface DemoContext {
  plan: LabPlan;
  status: LabStatus;
  /** How a user would call `hookline` about this lab: with --lab unless it is the default one. */
  command: string;
  /** Runs a program in a member of the lab, as `hookline lab exec` does; gives its output. @throws Error if it fails */
  exec(member: string, argv: string[]): Promise<string>;
  /** Runs `hookline` with these words, about this lab; gives its output. @throws Error if it fails */
  hookline(words: string[]): Promise<string>;
}

export interface StepOutcome {
  /** What was typed and what came back. */
  lines: string[];
  held: boolean;
  /** What that means, in plain words. */
  verdict: string;
}

export interface Step {
  title: string;
  run: (context: DemoContext) => Promise<StepOutcome>;
}
