// SPDX-License-Identifier: Apache-2.0
// A second processor that sends a later fragment through a program at the moment that the first sends the datagram's first one,
// a little sooner or later each time.
import { parentPort, Worker, workerData } from "node:worker_threads";
import { withNetns } from "../../src/kernel/netns.ts";
import { TestRun } from "./test-run.ts";

/** `gate[0]` is the round to run, `gate[1]` the last that has run; round 0 is before all. */
export interface Job {
  readonly program: number;
  readonly netns: string;
  readonly ifindex: number;
  /** An IPv4 frame; each round gives it its own number as identification. */
  readonly frame: Uint8Array;
  readonly rounds: number;
  readonly gate: SharedArrayBuffer;
}

const ID_AT = 18;
/** Turns of an empty loop: a few microseconds. */
const LONGEST = 400;

/** Runs the frame of a round, after a pause that differs from round to round as `step` says. */
export function runRound(run: TestRun, job: Omit<Job, "gate" | "rounds">, round: number, step: number): void {
  new DataView(job.frame.buffer, job.frame.byteOffset).setUint16(ID_AT, round);
  for (let turn = (round * step) % LONGEST; turn > 0; turn--);
  run.run(job.program, job.frame, { ifindex: job.ifindex });
}

export function startLaterSender(job: Job): Worker {
  return new Worker(new URL(import.meta.url), { workerData: job });
}

if (parentPort) {
  const job = workerData as Job;
  const gate = new Int32Array(job.gate);
  const run = new TestRun();
  withNetns(job.netns, () => {
    for (let round = 1; round <= job.rounds; round++) {
      while (Atomics.load(gate, 0) < round);
      runRound(run, job, round, 37);
      Atomics.store(gate, 1, round);
    }
  });
}
