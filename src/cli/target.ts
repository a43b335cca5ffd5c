// SPDX-License-Identifier: Apache-2.0
// Which agent a command is about: from --run-dir, from --lab and --node, from the environment, else this host's. The
// maps of an agent are found through its agent.json, which stays when the agent is dead.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { checkLabName, DEFAULT_LAB, labStateDir } from "../lab/plan.ts";
import type { GlobalOptions } from "./command.ts";
import { faults } from "./faults.ts";

export interface Target {
  runDir: string;
  /** HTTP over this unix socket is the agent's API. */
  socket: string;
}

export const DEFAULT_RUN_DIR = "/run/hookline";
const DEFAULT_BPF_ROOT = "/sys/fs/bpf/hookline";

function runDirOf(options: GlobalOptions, env: NodeJS.ProcessEnv): string {
  if (options.runDir !== undefined) return options.runDir;
  if (options.node !== undefined) {
    if (!/^[a-z0-9][a-z0-9.-]*$/.test(options.node))
      throw faults.NO_SUCH({ what: "node", name: options.node });
    const lab = labStateDir(checkLabName(options.lab ?? env.HOOKLINE_LAB ?? DEFAULT_LAB));
    return join(lab, "nodes", options.node, "run");
  }
  if (options.lab !== undefined) {
    throw faults.USAGE({ why: `--lab ${options.lab}: add --node NAME, a lab has one agent per node` });
  }
  return env.HOOKLINE_RUN_DIR ?? DEFAULT_RUN_DIR;
}

/**
 * The agent that the options mean; it need not run.
 * @throws Fault NO_RUN_DIR if none has ever run there
 */
export function resolveTarget(options: GlobalOptions, env: NodeJS.ProcessEnv = process.env): Target {
  const runDir = runDirOf(options, env);
  if (!existsSync(runDir)) throw faults.NO_RUN_DIR({ path: runDir });
  return { runDir, socket: join(runDir, "agent.sock") };
}

/** The folder of the agent's pins. */
export function bpfRootOf(target: Target): string {
  try {
    const { bpfRoot } = JSON.parse(readFileSync(join(target.runDir, "agent.json"), "utf8"));
    if (typeof bpfRoot === "string") return bpfRoot;
  } catch {
    // No agent.json, or one cut short by a crash: the default below.
  }
  return DEFAULT_BPF_ROOT;
}
