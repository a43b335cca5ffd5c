// SPDX-License-Identifier: Apache-2.0
// A thread that opens and resets flows of one pod towards a crowded endpoint, as fast as it can, while others do the same.
import { once } from "node:events";
import { parentPort, Worker, workerData } from "node:worker_threads";
import { progTestRun } from "../../src/kernel/bpf.ts";
import { allocate } from "../../src/kernel/ffi.ts";
import { withNetns } from "../../src/kernel/netns.ts";
import { INTERNET, POD_B } from "./packet-node.ts";
import { randomNumbers } from "./random.ts";
import { type Family, fromPodB, SERVICE_PORT } from "./transports.ts";

/** Source ports of a thread: none is in the range, so each flow searches. */
const SPORTS = 600;
/** Offset of skb->ifindex. */
const IFINDEX = 40;
const REDIRECT = 7;

export interface CrowdJob {
  /** The program of from_pod. */
  readonly fd: number;
  readonly netns: string;
  readonly ifindex: number;
  readonly family: Family;
  /** Number of this thread: its source ports and its random numbers. */
  readonly thread: number;
  readonly packets: number;
}

/** What a thread gets: `gate[0]` counts those that are ready. */
interface Start {
  readonly job: CrowdJob;
  readonly gate: SharedArrayBuffer;
  readonly threads: number;
}

/** Runs all jobs at the same time; gives how many flows each opened. */
export async function crowdTogether(jobs: readonly CrowdJob[]): Promise<number[]> {
  const gate = new SharedArrayBuffer(4);
  const workers = jobs.map((job): Worker => {
    const workerData: Start = { job, gate, threads: jobs.length };
    return new Worker(new URL(import.meta.url), { workerData });
  });
  const answers = await Promise.all(workers.map((worker) => once(worker, "message")));
  await Promise.all(workers.map((worker) => worker.terminate()));
  return answers.map(([opened]) => opened as number);
}

function play({ fd, ifindex, family, thread, packets }: CrowdJob, ready: () => void): number {
  const random = randomNumbers(thread + 1);
  const first = 1 + thread * SPORTS;
  const packet = (sport: number, flags: string): Uint8Array =>
    fromPodB(family, POD_B, INTERNET).tcp({ sport, dport: SERVICE_PORT, flags }).bytes();
  const opens = Array.from({ length: SPORTS }, (_, i) => packet(first + i, "S"));
  const resets = Array.from({ length: SPORTS }, (_, i) => packet(first + i, "R"));
  const ctx = allocate(192);
  let opened = 0;
  ready();
  for (let i = 0; i < packets; i++) {
    const at = Math.floor(random() * SPORTS);
    const data = (random() < 0.6 ? opens : resets)[at] as Uint8Array;
    new DataView(ctx.buffer).setUint32(IFINDEX, ifindex, true);
    if (progTestRun({ fd, data, ctx }).retval === REDIRECT) opened++;
  }
  return opened;
}

if (parentPort) {
  const { job, gate, threads } = workerData as Start;
  const arrived = new Int32Array(gate);
  const ready = (): void => {
    Atomics.add(arrived, 0, 1);
    while (Atomics.load(arrived, 0) < threads);
  };
  parentPort.postMessage(withNetns(job.netns, () => play(job, ready)));
}
