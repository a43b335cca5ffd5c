// SPDX-License-Identifier: Apache-2.0
// One node's agent: started in the node's namespace and control group with the node's own directories, started again
// whenever it dies, until the lab ends.
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { backoffMs, waitFor } from "../base/async.ts";
import type { Log } from "../base/log.ts";
import { findCgroup2, mountBpffs } from "../kernel/mount.ts";
import { faults } from "./faults.ts";
import type { LabPlan, NodePlan } from "./plan.ts";
import { spawnAt } from "./spawn.ts";
import { unixGet } from "./unix-get.ts";

const START_TIMEOUT_MS = 30_000;
/** So many deaths before it has ever answered are not bad luck. */
const HOPELESS_DEATHS = 3;

/** The last line of a file, "" if there is none. */
function lastLine(path: string): string {
  try {
    return readFileSync(path, "utf8").trimEnd().split("\n").at(-1) ?? "";
  } catch {
    return "";
  }
}

export class AgentRunner {
  readonly node: NodePlan;
  readonly #argv: string[];
  readonly #log: Log;
  readonly #onChange: (answers: boolean) => void;
  readonly #first = Promise.withResolvers<void>();
  #answered = false;
  /** Deaths one after the other without an answer between them. */
  #deaths = 0;

  /**
   * `entry` is the command that runs `hookline`. `onChange` is told when the agent begins to answer, and when it has
   * died.
   */
  constructor(
    plan: LabPlan,
    node: NodePlan,
    start: { entry: string[]; log: Log; onChange: (answers: boolean) => void },
  ) {
    this.node = node;
    this.#log = start.log.child({ node: node.name });
    this.#onChange = start.onChange;
    this.#argv = [
      ...start.entry,
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

  /** Resolves when the agent has answered for the first time. @throws Fault AGENT_START */
  ready(): Promise<void> {
    return this.#first.promise;
  }

  #spawn(): void {
    const child = spawnAt({ netns: this.node.netns, cgroup: join(this.node.cgroup, "agent") }, this.#argv, {
      log: this.node.log,
      detached: true,
    });
    const death = new AbortController();
    child.once("error", (err) => this.#log.error({ err }, "agent does not start"));
    child.once("exit", (code, signal) => {
      death.abort();
      this.#onChange(false);
      const waitMs = backoffMs(this.#deaths++, 50, 5_000);
      this.#log.warn({ code, signal }, "agent ended; starting it again");
      if (!this.#answered && this.#deaths >= HOPELESS_DEATHS) this.#giveUp(`it ended with status ${code}`);
      setTimeout(() => this.#spawn(), waitMs);
    });
    this.#answers(death.signal).then(
      () => {
        this.#answered = true;
        this.#deaths = 0;
        this.#first.resolve();
        this.#onChange(true);
      },
      () => {
        if (!this.#answered && !death.signal.aborted) this.#giveUp(`no answer within ${START_TIMEOUT_MS} ms`);
      },
    );
  }

  #giveUp(why: string): void {
    const { name, log } = this.node;
    this.#first.reject(faults.AGENT_START({ node: name, why, last: lastLine(log) }));
  }

  async #answers(death: AbortSignal): Promise<void> {
    await waitFor(
      `the agent of ${this.node.name}`,
      async () => {
        if (death.aborted) return true;
        await unixGet(join(this.node.runDir, "agent.sock"), "/v1/health");
        return true;
      },
      { timeoutMs: START_TIMEOUT_MS, intervalMs: 30 },
    );
    death.throwIfAborted();
  }
}
