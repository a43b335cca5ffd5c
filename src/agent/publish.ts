// SPDX-License-Identifier: Apache-2.0
// Objects that the agent writes to the API: its CiliumNode, one CiliumEndpoint per pod, its Node where nothing else does.
// Desired objects against what has been written, with back-off; nothing waits for it.
import { backoffMs, sleep } from "../base/async.ts";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { type KubeClient, statusOf } from "../source/client.ts";

/** One object to be there. */
export interface Publication {
  readonly path: string;
  readonly collection: string;
  readonly object: object;
}

/** Keeps the objects of this agent as they should be. */
export class Publisher {
  readonly #client: KubeClient;
  readonly #log: Log;
  readonly #stop = new AbortController();
  readonly #desired = new Map<string, Publication>();
  /** Text last written, by path; a path without a desired object is to be deleted. */
  readonly #written = new Map<string, string>();
  #loop: Promise<void> | undefined;
  #dirty = false;
  #wake: (() => void) | undefined;
  #lastError: string | undefined;

  constructor(client: KubeClient, log: Log) {
    this.#client = client;
    this.#log = log;
  }

  /** Objects that are not yet as they should be, and why not. */
  get status(): { pending: number; lastError: string | undefined } {
    return { pending: this.#pending().length, lastError: this.#lastError };
  }

  put(publication: Publication): void {
    this.#desired.set(publication.path, publication);
    this.#touch();
  }

  /** Deletes the object also if an earlier process of this agent wrote it. */
  remove(path: string): void {
    this.#desired.delete(path);
    if (!this.#written.has(path)) this.#written.set(path, "");
    this.#touch();
  }

  /** Writes everything anew: the server may have come back without what was written. */
  refresh(): void {
    for (const path of this.#desired.keys()) this.#written.delete(path);
    this.#touch();
  }

  run(): void {
    this.#loop ??= this.#work();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#wake?.();
    await this.#loop;
  }

  #touch(): void {
    this.#dirty = true;
    this.#wake?.();
  }

  #pending(): string[] {
    const changed = [...this.#desired].filter(
      ([path, p]) => this.#written.get(path) !== JSON.stringify(p.object),
    );
    const gone = [...this.#written.keys()].filter((path) => !this.#desired.has(path));
    return [...changed.map(([path]) => path), ...gone];
  }

  async #work(): Promise<void> {
    const { signal } = this.#stop;
    let failures = 0;
    while (!signal.aborted) {
      if (!this.#dirty && this.#pending().length === 0) {
        await new Promise<void>((wake) => {
          this.#wake = wake;
        });
        continue;
      }
      this.#dirty = false;
      const failed = await this.#round();
      failures = failed ? failures + 1 : 0;
      if (failed) await sleep(backoffMs(failures, 200, 15_000), signal).catch(() => undefined);
    }
  }

  /** One try at everything that is pending; true if something failed. */
  async #round(): Promise<boolean> {
    let error: string | undefined;
    for (const path of this.#pending()) {
      if (this.#stop.signal.aborted) break;
      try {
        await this.#write(path);
      } catch (thrown) {
        error = Fault.from(thrown).detail;
      }
    }
    if (error !== undefined && error !== this.#lastError)
      this.#log.warn({ error }, "object not published; retrying");
    this.#lastError = error;
    return error !== undefined;
  }

  async #write(path: string): Promise<void> {
    const publication = this.#desired.get(path);
    if (publication === undefined) {
      await this.#client.delete(path);
      this.#written.delete(path);
      return;
    }
    const { collection, object } = publication;
    try {
      await this.#client.merge(path, object);
    } catch (thrown) {
      if (statusOf(thrown) !== 404) throw thrown;
      await this.#client.create(collection, object);
    }
    this.#written.set(path, JSON.stringify(object));
  }
}
