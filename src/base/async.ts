// SPDX-License-Identifier: Apache-2.0
// Waiting: sleep, polling with a deadline, back-off, and running jobs one after the other.
import { setTimeout as delay } from "node:timers/promises";
import { faults } from "./faults.ts";

export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  await delay(ms, undefined, signal ? { signal } : {});
}

/**
 * Calls `probe` until it gives something other than undefined or false; what it throws is kept as the cause. Without
 * `timeoutMs` as long as a machine may take that is busy with others.
 * @throws Fault TIMEOUT with `what` after `timeoutMs`
 */
export async function waitFor<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  { timeoutMs = 30_000, intervalMs = 20 }: { timeoutMs?: number; intervalMs?: number } = {},
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value;
    } catch (thrown) {
      last = thrown;
    }
    if (performance.now() > deadline) throw faults.TIMEOUT({ what, timeoutMs }, last);
    await sleep(intervalMs);
  }
}

/** Delay before retry `attempt` (0, 1, ...): doubles from `baseMs` up to `maxMs`, the upper half at random. */
export function backoffMs(attempt: number, baseMs = 50, maxMs = 10_000): number {
  const full = Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30));
  return full / 2 + (Math.random() * full) / 2;
}

/** Runs jobs strictly one after the other, in order of arrival; a failed job does not stop the next. */
export class SerialQueue {
  #tail: Promise<unknown> = Promise.resolve();

  run<T>(job: () => T | Promise<T>): Promise<T> {
    const result = this.#tail.then(job, job);
    this.#tail = result.catch(() => undefined);
    return result;
  }

  /** Resolves when all jobs queued so far have ended. */
  async idle(): Promise<void> {
    await this.#tail;
  }
}
