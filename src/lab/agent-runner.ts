// SPDX-License-Identifier: Apache-2.0
// One node's agent: started in the node's namespace and control group with the node's own directories, started again
// whenever it dies, until the lab ends.
import type { ChildProcess } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { backoffMs, waitFor } from "../base/async.ts";
import type { Log } from "../base/log.ts";
import { findCgroup2, mountBpffs } from "../kernel/mount.ts";
import type { LabPlan, NodePlan } from "./plan.ts";
import { spawnAt } from "./spawn.ts";
import { unixGet } from "./unix-get.ts";

/** An agent that lived this long has started well: the next death waits briefly again. */
const SETTLED_MS = 10_000;
const START_TIMEOUT_MS = 30_000;

export class AgentRunner {
  readonly node: NodePlan;
  readonly #argv: string[];
  readonly #log: Log;
  #deaths = 0;

  /** `entry` is the command that runs `hookline`. */
  constructor(plan: LabPlan, node: NodePlan, entry: string[], log: Log) {
    this.node = node;
    this.#log = log.child({ node: node.name });
    this.#argv = [
      ...entry,
      "agent",
      ...["--node-name", node.name],
      ...["--api", plan.apiUrl],
      ...["--run-dir", node.runDir],
      ...["--bpf-root", node.bpfRoot],
      ...["--cgroup-root", join(findCgroup2(), node.cgroup)],
    ];
  }

  /** Mounts the node's BPF file system and starts the agent; does not wait for it. */
  start(): void {
    mkdirSync(this.node.runDir, { recursive: true });
    mountBpffs(this.node.bpfRoot);
    this.#spawn();
  }

  #spawn(): void {
    const startedAt = performance.now();
    const child: ChildProcess = spawnAt(
      { netns: this.node.netns, cgroup: join(this.node.cgroup, "agent") },
      this.#argv,
      { log: this.node.log, detached: true },
    );
    child.once("error", (err) => this.#log.error({ err }, "agent does not start"));
    child.once("exit", (code, signal) => {
      if (performance.now() - startedAt > SETTLED_MS) this.#deaths = 0;
      const waitMs = backoffMs(this.#deaths++, 50, 5_000);
      this.#log.warn({ code, signal }, "agent ended; starting it again");
      setTimeout(() => this.#spawn(), waitMs);
    });
  }

  /** Resolves when the agent answers. @throws Fault TIMEOUT */
  async ready(): Promise<void> {
    await waitFor(
      `the agent of ${this.node.name}`,
      async () => {
        await unixGet(join(this.node.runDir, "agent.sock"), "/v1/health");
        return true;
      },
      { timeoutMs: START_TIMEOUT_MS, intervalMs: 50 },
    );
  }
}
