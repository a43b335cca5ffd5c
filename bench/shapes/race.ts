// SPDX-License-Identifier: Apache-2.0
// The rules of the flow table (docs/adr/0002-flow-table.md) under fire: all processors open, refresh, close and take
// over the same few flows and ports while the table is swept; then every record must have its index entry and every
// entry its record. The same without compare-and-swap has to fail. Option: --rounds N (default 200).
import { mkdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { compileBpf, ROOT } from "../../tools/build-bpf.ts";
import { BenchObject, timeProgram } from "../object.ts";
import { runTogether, startWorkers } from "./worker.ts";

/** Program runs per round and thread, of OPS (bpf/bench/race.bpf.c) operations each. */
const RUNS = 2000;

/** Fields of struct tally, in order. */
const TALLY = [
  "opened",
  "taken over",
  "reopened",
  "refreshed",
  "closed",
  "swept",
  "refused",
  "half flows seen",
];

const { values: options } = parseArgs({ options: { rounds: { type: "string", default: "200" } } });
const OBJECT = join(ROOT, "build/bench/race.bpf.o");

/** Records without an index entry that names them, and entries without such a record. */
function halves(object: BenchObject): number {
  const named = new Map<number, string>();
  for (const { keys, values, count } of object.map("r_reply").batches()) {
    const key = new DataView(keys.buffer, keys.byteOffset);
    for (let i = 0; i < count; i++) {
      named.set(
        key.getUint16(i * 40 + 34),
        Buffer.from(values.subarray(i * 24, i * 24 + 16)).toString("hex"),
      );
    }
  }
  let broken = 0;
  for (const { keys, values, count } of object.map("r_flow").batches()) {
    const value = new DataView(values.buffer, values.byteOffset);
    for (let i = 0; i < count; i++) {
      const port = value.getUint16(i * 56 + 32);
      if (named.get(port) !== Buffer.from(keys.subarray(i * 40, i * 40 + 16)).toString("hex")) broken++;
      else named.delete(port);
    }
  }
  return broken + named.size;
}

async function fire(program: string, rounds: number): Promise<string> {
  using object = new BenchObject(OBJECT);
  const workers = startWorkers(availableParallelism());
  for (let round = 0; round < rounds; round++) {
    let running = true;
    const done = runTogether(workers, object.program(program), RUNS).then(() => {
      running = false;
    });
    while (running) {
      timeProgram(object.program("sweep"), 1);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await done;
  }
  await Promise.all(workers.map((worker) => worker.terminate()));
  const tally = object.map("tallies");
  tally.lookup();
  const sums = TALLY.map((_, field) => {
    let sum = 0n;
    for (let cpu = 0; cpu < tally.cpus; cpu++)
      sum += tally.valueView.getBigUint64(cpu * tally.stride + field * 8, true);
    return sum;
  });
  const left = halves(object);
  if (program === "careful" && (left > 0 || sums.at(-1) !== 0n)) process.exitCode = 1;
  if (program === "careless" && left === 0 && sums.at(-1) === 0n) process.exitCode = 1;
  return `| ${[program, ...sums, left].join(" | ")} |`;
}

mkdirSync(join(ROOT, "build/bench"), { recursive: true });
compileBpf("bpf/bench/race.bpf.c", OBJECT, ROOT);
console.log(`| program | ${TALLY.join(" | ")} | half flows left |\n|---|${"---|".repeat(TALLY.length + 1)}`);
for (const program of ["careful", "careless"]) console.log(await fire(program, Number(options.rounds)));
if (process.exitCode) console.log("careful must leave no half flow, careless must leave some");
