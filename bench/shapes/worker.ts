// SPDX-License-Identifier: Apache-2.0
// One of several threads that run a program at the same time, each pinned to its processor: waits until all have
// arrived at the gate, runs, and answers with the mean ns of one run.
import { once } from "node:events";
import { parentPort, Worker, workerData } from "node:worker_threads";
import { pinThread, timeProgram } from "../object.ts";

/** `gate[0]` counts the threads that have arrived; `repeat` runs of the program `fd`. */
interface Job {
  fd: number;
  repeat: number;
  threads: number;
  gate: SharedArrayBuffer;
}

/** One thread per processor, 0 first. */
export function startWorkers(processors: number): Worker[] {
  return Array.from(
    { length: processors },
    (_, cpu) => new Worker(new URL(import.meta.url), { workerData: { cpu } }),
  );
}

/** Runs a program in all threads at once; gives the mean ns of one run in each. */
export async function runTogether(workers: Worker[], fd: number, repeat: number): Promise<number[]> {
  const job: Job = { fd, repeat, threads: workers.length, gate: new SharedArrayBuffer(4) };
  const answers = workers.map((worker) => once(worker, "message"));
  for (const worker of workers) worker.postMessage(job);
  return (await Promise.all(answers)).map(([ns]) => ns as number);
}

if (parentPort) {
  const port = parentPort;
  pinThread((workerData as { cpu: number }).cpu);
  port.on("message", ({ fd, repeat, threads, gate }: Job) => {
    const arrived = new Int32Array(gate);
    Atomics.add(arrived, 0, 1);
    while (Atomics.load(arrived, 0) < threads);
    port.postMessage(timeProgram(fd, repeat));
  });
}
