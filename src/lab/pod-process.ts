// SPDX-License-Identifier: Apache-2.0
// The process of one pod: started in the pod's namespace and control group, started again when it ends if the Pod's
// restart policy says so, stopped with the time that a program needs to say goodbye.
import type { ChildProcess } from "node:child_process";
import { EventEmitter } from "node:events";
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { backoffMs } from "../base/async.ts";
import { type Place, searchPath, spawnAt } from "./spawn.ts";

export type RestartPolicy = "Always" | "OnFailure" | "Never";

export interface PodProcessOptions {
  /** The program announces itself when it listens; others count as started at once. */
  builtIn: boolean;
  env: Record<string, string>;
  log: string;
  restart: RestartPolicy;
}

/** What the pod's status tells of its process. */
export interface ProcessStatus {
  restarts: number;
  /** Exit status, if it has ended for good. */
  ended: number | undefined;
}

const STOP_GRACE_MS = 500;

/** Emits `status` (ProcessStatus) when the process has started, again after each restart, and at its end. */
export class PodProcess extends EventEmitter {
  readonly #place: Place;
  readonly #argv: string[];
  readonly #options: PodProcessOptions;
  #child: ChildProcess | undefined;
  #restarts = 0;
  #started = false;
  #stopped = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(place: Place, argv: string[], options: PodProcessOptions) {
    super();
    this.#place = place;
    this.#argv = argv;
    this.#options = options;
  }

  start(): void {
    if (this.#stopped) return;
    const { log, env, builtIn } = this.#options;
    mkdirSync(dirname(log), { recursive: true });
    const child = spawnAt(this.#place, this.#argv, {
      log,
      env: { ...searchPath(), ...env },
      ipc: builtIn,
      detached: true,
    });
    this.#child = child;
    child.once("exit", (code) => this.#exited(code ?? 255));
    child.once("error", () => this.#exited(126));
    if (builtIn) child.once("message", () => this.#tell(undefined));
    else child.once("spawn", () => this.#tell(undefined));
  }

  /** Whether it has ever listened (built in) or been executed. */
  get started(): boolean {
    return this.#started;
  }

  #tell(ended: number | undefined): void {
    const status: ProcessStatus = { restarts: this.#restarts, ended };
    this.#started = true;
    this.emit("status", status);
  }

  #exited(code: number): void {
    this.#child = undefined;
    if (this.#stopped) return;
    const { restart } = this.#options;
    if (restart === "Never" || (restart === "OnFailure" && code === 0)) {
      this.#tell(code);
      return;
    }
    this.#timer = setTimeout(() => this.start(), backoffMs(this.#restarts, 100, 10_000));
    this.#restarts++;
  }

  /** SIGTERM, then half a second, then SIGKILL. Resolves when the process is gone. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    const child = this.#child;
    if (!child) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_GRACE_MS);
    await gone;
    clearTimeout(timer);
  }
}
