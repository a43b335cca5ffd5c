// SPDX-License-Identifier: Apache-2.0
// Shapes of the flow table compared in one interleaved run: time of a packet out, a packet back, a new flow and a
// removal; on one processor and on all at once; memory per flow; what happens when the table is full. Prints the tables
// of docs/adr/0002-flow-table.md. Options: --rounds N (default 9), --entries N (65536), --flows N (50000).
import { mkdirSync, readFileSync } from "node:fs";
import { availableParallelism, release } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Worker } from "node:worker_threads";
import { compileBpf, ROOT } from "../../tools/build-bpf.ts";
import { pinThread } from "../object.ts";
import { OPS, SHAPE_MAPS, Shapes } from "./object.ts";
import { runTogether, startWorkers } from "./worker.ts";

type Shape = keyof typeof SHAPE_MAPS;

const SHAPES = Object.keys(SHAPE_MAPS) as Shape[];
const TITLES: Record<Shape, string> = {
  a: "A record + index, growable",
  p: "A' the same, maps fixed",
  b: "B two LRU entries",
  c: "C slots",
  d: "D like A, 32-bit addresses",
};

/** Coprime to the flow counts that are used: visits all flows, far from the order in which they were made. */
const STRIDE = 40503;

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "9" },
    entries: { type: "string", default: "65536" },
    flows: { type: "string", default: "50000" },
  },
});
/** Counted before the thread is pinned, which would hide the others. */
const PROCESSORS = availableParallelism();
const rounds = Number(options.rounds);
const entries = Number(options.entries);
const flows = Number(options.flows) - (Number(options.flows) % (OPS * PROCESSORS));

/** Samples by table cell: shape, variant and measure. */
class Samples {
  readonly #lists = new Map<string, number[]>();

  add(cell: string, ns: number): void {
    const list = this.#lists.get(cell);
    if (list) list.push(ns);
    else this.#lists.set(cell, [ns]);
  }

  /** Middle, lower and upper quartile, or undefined if never measured. */
  quartiles(cell: string): [number, number, number] | undefined {
    const sorted = this.#lists.get(cell)?.toSorted((x, y) => x - y);
    if (!sorted) return undefined;
    const at = (part: number): number => sorted[Math.floor((sorted.length - 1) * part)] ?? Number.NaN;
    return [at(0.5), at(0.25), at(0.75)];
  }
}

function expectNone(failed: number, what: string): void {
  if (failed !== 0) throw new Error(`${what}: ${failed} operations failed`);
}

/** One shape's life: fill, packets over all flows, packets of one flow, empty. */
function measure(shapes: Shapes, shape: Shape, samples: Samples, cell: string): void {
  const far = { count: flows, stride: STRIDE };
  const passes = Math.max(1, Math.round(400_000 / flows)) * flows;
  const keys = shapes.run("none_out", far, passes).ns;
  const keysHot = shapes.run("none_out", { count: 1 }, passes).ns;
  const timed = (
    name: string,
    walk: { count: number; stride?: number },
    operations: number,
    floor: number,
  ) => {
    const ran = shapes.run(`${shape}_${name}`, walk, operations);
    expectNone(ran.failed, `${shape}_${name}`);
    samples.add(`${cell} ${walk.count === 1 ? "hot " : ""}${name}`, ran.ns - floor);
  };
  timed("new", { count: flows }, flows, keys);
  timed("out", far, passes, keys);
  timed("back", far, passes, keys);
  if (shape === "b") timed("back_both", far, passes, keys);
  if (cell === "a0") samples.add("a0 sweep", (shapes.run("a_sweep", { count: 1 }, OPS).ns * OPS) / flows);
  timed("out", { count: 1 }, passes, keysHot);
  timed("back", { count: 1 }, passes, keysHot);
  if (shape === "b") timed("back_both", { count: 1 }, passes, keysHot);
  timed("remove", far, flows, keys);
}

/** The same program on every processor at once, each with its part of the flows. Gives ns of each. */
async function together(shapes: Shapes, workers: Worker[], name: string, passes: number): Promise<number[]> {
  const count = flows / workers.length;
  const stride = name.endsWith("_new") ? 1 : STRIDE;
  for (const cpu of workers.keys()) shapes.aim({ cpu, base: cpu * count, count, stride });
  const result = await runTogether(workers, shapes.program(name), (passes * count) / OPS);
  for (const cpu of workers.keys()) expectNone(shapes.failed(cpu), `${name} on processor ${cpu}`);
  return result.map((ns) => ns / OPS);
}

async function measureTogether(all: Shapes[], samples: Samples): Promise<void> {
  const workers = startWorkers(PROCESSORS);
  for (let round = 0; round < rounds; round++) {
    for (const shape of SHAPES) {
      for (const [variant, shapes] of all.entries()) {
        const keys = await together(shapes, workers, "none_out", 8);
        for (const name of ["new", "out", "back", "remove"]) {
          const ns = await together(
            shapes,
            workers,
            `${shape}_${name}`,
            name === "out" || name === "back" ? 8 : 1,
          );
          for (const [cpu, each] of ns.entries())
            samples.add(`${shape}${variant} together ${name}`, each - (keys[cpu] ?? 0));
        }
      }
    }
  }
  await Promise.all(workers.map((worker) => worker.terminate()));
}

/**
 * Fills the table, sends packets out for every flow and back for every second half of them (the others are one-way for
 * now, as an upload over UDP is), opens a quarter more flows than there is room for, and counts what is left.
 */
function overfill(shapes: Shapes, shape: "a" | "b" | "c"): string {
  const asked = entries + entries / 4;
  const filled = shapes.run(`${shape}_new`, { count: entries }, entries);
  shapes.run(`${shape}_out`, { count: entries }, entries);
  shapes.run(`${shape}_back`, { count: entries / 2 }, entries / 2);
  const beyond = shapes.run(`${shape}_new`, { base: entries, count: entries / 4 }, entries / 4);
  const { out, back } = shapes.held(SHAPE_MAPS[shape].slice(0, shape === "a" ? 2 : 1));
  const half = [...out].filter((i) => !back.has(i)).length + [...back].filter((i) => !out.has(i)).length;
  const old = [...out].filter((i) => i < entries && back.has(i)).length;
  shapes.run(`${shape}_remove`, { count: asked }, asked);
  const cells = [
    TITLES[shape],
    asked,
    out.size,
    filled.failed + beyond.failed,
    entries - old,
    half,
    beyond.ns.toFixed(0),
  ];
  return `| ${cells.join(" | ")} |`;
}

function cellText(samples: Samples, cell: string): string {
  const found = samples.quartiles(cell);
  return found ? `${found[0].toFixed(0)} (${found[1].toFixed(0)}-${found[2].toFixed(0)})` : "-";
}

function printTable(samples: Samples, title: string, rows: [string, string][], columns: string[]): void {
  console.log(`\n${title}\n\n| shape | ${columns.join(" | ")} |\n|---|${columns.map(() => "---|").join("")}`);
  for (const [name, cell] of rows) {
    console.log(
      `| ${name} | ${columns.map((column) => cellText(samples, `${cell} ${column}`)).join(" | ")} |`,
    );
  }
}

function machine(): string {
  const model = /^model name\s*:\s*(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1];
  return `${model}, ${PROCESSORS} processors, Linux ${release()}, ${rounds} rounds, ${flows} flows, room for ${entries}`;
}

async function main(): Promise<void> {
  mkdirSync(join(ROOT, "build/bench"), { recursive: true });
  pinThread(0);
  const objects = ["shapes", "lazy"].map((name) => {
    compileBpf(`bpf/bench/${name}.bpf.c`, `build/bench/${name}.bpf.o`, ROOT);
    return new Shapes(join(ROOT, `build/bench/${name}.bpf.o`), entries);
  });
  const samples = new Samples();
  for (let round = -1; round < rounds; round++) {
    const kept = round < 0 ? new Samples() : samples;
    for (const shape of SHAPES) {
      for (const [variant, shapes] of objects.entries()) {
        if (shape !== "b" || variant === 0) measure(shapes, shape, kept, `${shape}${variant}`);
      }
    }
  }
  console.log(machine());
  const rows = SHAPES.flatMap((shape): [string, string][] =>
    shape === "b"
      ? [[TITLES.b, "b0"]]
      : [
          [TITLES[shape], `${shape}0`],
          [`${TITLES[shape]}, allocated on demand`, `${shape}1`],
        ],
  );
  const measures = ["out", "back", "back_both", "new", "remove", "hot out", "hot back", "hot back_both"];
  printTable(samples, "ns per operation, one processor: median (quartiles)", rows, measures);
  printTable(samples, "the sweep, ns per record", [[TITLES.a, "a0"]], ["sweep"]);

  console.log(
    `\nbytes of kernel memory per flow\n\n| shape | room for ${entries}, preallocated | on demand, ${flows} held |\n|---|---|---|`,
  );
  for (const shape of SHAPES) {
    const perFlow = objects.map((shapes, variant) => {
      const count = variant === 0 ? entries : flows;
      shapes.run(`${shape}_new`, { count: flows }, flows);
      const bytes = shapes.bytes(shape) / count;
      shapes.run(`${shape}_remove`, { count: flows }, flows);
      return bytes.toFixed(0);
    });
    console.log(`| ${TITLES[shape]} | ${perFlow[0]} | ${shape === "b" ? "-" : perFlow[1]} |`);
  }

  console.log(
    "\nfull table\n\n| shape | opened | held | refused | older flows lost | half flows | ns per flow beyond |\n|---|---|---|---|---|---|---|",
  );
  for (const shape of ["a", "b", "c"] as const) console.log(overfill(objects[0] as Shapes, shape));

  await measureTogether(objects, samples);
  printTable(samples, "ns per operation, all processors at once", rows, [
    "together out",
    "together back",
    "together new",
    "together remove",
  ]);
  for (const shapes of objects) shapes[Symbol.dispose]();
}

await main();
