// SPDX-License-Identifier: Apache-2.0
// Starting a program inside a member of the lab: in its network namespace and its control group from its first
// instruction, with this host's file systems in view (unlike `ip netns exec`, which hides BPF and cgroup file systems).
import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { findCgroup2, makeCgroup } from "../kernel/mount.ts";
import { withNetns } from "../kernel/netns.ts";

/** Where a program runs. */
export interface Place {
  /** Name under /run/netns; "" stays in ours. */
  netns: string;
  /** Control group relative to the cgroup2 mount; made if need be. */
  cgroup: string;
}

export interface SpawnOptions {
  env?: NodeJS.ProcessEnv;
  stdio?: StdioOptions;
  /** File that takes standard output and error, appended; instead of stdio. */
  log?: string;
  /** A process group of its own, which Ctrl-C at our terminal does not reach. */
  detached?: boolean;
  /** A channel for process.send in the child. */
  ipc?: boolean;
}

/** The shell joins the group before the program exists, so that nothing it forks can be born outside. */
const JOIN = 'echo $$ > "$0/cgroup.procs" && exec "$@"';

/** This process's environment without our own variables, which mean another agent's directories and options. */
export function plainEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(HOOKLINE|CILIUM|CNI)_/.test(name)),
  );
}

/** Just enough for a program that is not ours to find others. */
export function searchPath(): { PATH: string } {
  return { PATH: process.env.PATH ?? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" };
}

/** Starts `argv` at `place`. Errors of the start itself come as the child's `error` event or exit status 126, 127. */
export function spawnAt(place: Place, argv: string[], options: SpawnOptions = {}): ChildProcess {
  const group = join(findCgroup2(), place.cgroup);
  makeCgroup(group);
  const log = options.log === undefined ? undefined : openSync(options.log, "a", 0o600);
  const stdio: StdioOptions = log === undefined ? (options.stdio ?? "inherit") : ["ignore", log, log];
  if (options.ipc && Array.isArray(stdio)) stdio.push("ipc");
  const start = (): ChildProcess =>
    spawn("/bin/sh", ["-c", JOIN, group, ...argv], {
      env: options.env ?? plainEnvironment(),
      stdio,
      detached: options.detached ?? false,
    });
  try {
    return place.netns === "" ? start() : withNetns(place.netns, start);
  } finally {
    if (log !== undefined) closeSync(log);
  }
}

/** How a program ended: its status, or 128 + the signal's number as shells have it. */
export interface Outcome {
  status: number;
  stdout: string;
  stderr: string;
}

const SIGNAL_NUMBERS: Partial<Record<NodeJS.Signals, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGKILL: 9,
  SIGTERM: 15,
};

/** Resolves when the child has ended and its output has been read. @throws the error of a start that failed */
export function outcomeOf(child: ChildProcess): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const text = { stdout: "", stderr: "" };
    child.stdout?.setEncoding("utf8").on("data", (chunk) => {
      text.stdout += chunk;
    });
    child.stderr?.setEncoding("utf8").on("data", (chunk) => {
      text.stderr += chunk;
    });
    child.once("error", reject);
    child.once("close", (code, signal) => {
      resolve({ status: code ?? 128 + ((signal && SIGNAL_NUMBERS[signal]) ?? 15), ...text });
    });
  });
}

/** Runs `argv` at `place` to its end and keeps what it prints. */
export function runAt(place: Place, argv: string[]): Promise<Outcome> {
  return outcomeOf(spawnAt(place, argv, { stdio: ["ignore", "pipe", "pipe"] }));
}
