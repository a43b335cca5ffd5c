// SPDX-License-Identifier: Apache-2.0
// Stops and continues processes of a test run, one at a time, at random moments and for random times, as a busy machine
// does with them. What believes in an order of events that nothing guarantees fails under it sooner than on its own.
import { sleep } from "../../src/base/async.ts";
import { markedPids } from "./leftovers.ts";

/** Between two stops of one process, and how long one lasts, in milliseconds: each is drawn up to this. */
const BETWEEN_MS = 1000;
const LASTS_MS = 80;
/** Short stops are the most likely, long ones happen. */
const drawMs = (upTo: number): number => upTo * Math.random() ** 2;

function signal(pid: number, name: "SIGSTOP" | "SIGCONT"): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    // It has ended.
    return false;
  }
}

/** Pauses processes that carry this mark until it is disposed of; none stays stopped. */
export function pauseProcesses(mark: string): AsyncDisposable {
  let ended = false;
  const work = async (): Promise<void> => {
    while (!ended) {
      const pids = markedPids(mark);
      await sleep(drawMs(BETWEEN_MS) / Math.max(1, pids.length));
      const pid = pids[Math.floor(Math.random() * pids.length)];
      if (pid === undefined || !signal(pid, "SIGSTOP")) continue;
      await sleep(drawMs(LASTS_MS));
      signal(pid, "SIGCONT");
    }
  };
  const working = work();
  return {
    [Symbol.asyncDispose]: () => {
      ended = true;
      return working;
    },
  };
}
