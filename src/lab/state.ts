// SPDX-License-Identifier: Apache-2.0
// What a lab remembers about itself in its state folder: its plan, who its supervisor is, how to start the command line
// again. Written whole or not at all; everything else about a lab is asked of the kernel and of its API server.
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { faults } from "./faults.ts";
import { identify, isAlive, type ProcessIdentity } from "./identity.ts";
import { LABS_DIR, type LabPlan, labStateDir } from "./plan.ts";

export interface LabState {
  plan: LabPlan;
  supervisor: ProcessIdentity;
  /** Command that runs `hookline`: node and the entry point. */
  entry: string[];
  /** ISO time. */
  startedAt: string;
  /** Whether everything has come up once. */
  ready: boolean;
}

function stateFile(lab: string): string {
  return join(labStateDir(lab), "lab.json");
}

/** Replaces a file in one step, so that a reader or a crash never meets half of it. */
export function writeWhole(path: string, text: string, mode = 0o600): void {
  const draft = `${path}.${process.pid}.draft`;
  writeFileSync(draft, text, { mode });
  renameSync(draft, path);
}

export function writeState(state: LabState): void {
  mkdirSync(state.plan.stateDir, { recursive: true, mode: 0o755 });
  writeWhole(stateFile(state.plan.name), `${JSON.stringify(state, null, 2)}\n`);
}

/** What a lab wrote about itself, or undefined if it wrote nothing readable. */
export function readState(lab: string): LabState | undefined {
  try {
    return JSON.parse(readFileSync(stateFile(lab), "utf8"));
  } catch {
    return undefined;
  }
}

/**
 * The state of a lab whose supervisor runs.
 * @throws Fault LAB_NOT_RUNNING
 */
export function runningState(lab: string): LabState {
  const state = readState(lab);
  if (!state) throw faults.LAB_NOT_RUNNING({ name: lab });
  if (!isAlive(state.supervisor)) {
    throw faults.LAB_NOT_RUNNING({
      name: lab,
      why: 'its supervisor has died; clean up with "hookline lab down"',
    });
  }
  return state;
}

/** Names of labs that have state, running or not. */
export function knownLabs(): string[] {
  try {
    return readdirSync(LABS_DIR).sort();
  } catch {
    return [];
  }
}

/** This process, as others will look for it. */
export function ownIdentity(): ProcessIdentity {
  const own = identify(process.pid);
  if (!own) throw new Error("/proc is not mounted");
  return own;
}
