// SPDX-License-Identifier: Apache-2.0
// `npm run test:kernels`: boots Debian's kernels under software emulation, runs the packet tests, the loader's tests and
// journeys of real packets on each, prints a table per kernel and ends with the line `N passed, N failed`. A kernel that
// cannot be fetched is skipped with the reason. What differs between kernels is written to docs/user/kernels.md.
// Usage: npm run test:kernels -- [--only 6.1]... [--fresh] [FILE]...
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import type { Features } from "../src/kernel/features.ts";
import { buildAll } from "./build.ts";
import { ROOT } from "./build-bpf.ts";
import { writeImage } from "./kernels/image.ts";
import { QEMU, runMachine, stopMachines } from "./kernels/machine.ts";
import { getKernel, KERNELS, type KernelChoice } from "./kernels/packages.ts";
import { type KernelReport, writePage } from "./kernels/page.ts";
import type { FileResult } from "./test/run-file.ts";

const CACHE = join(ROOT, "build/kernels");
/** The slowest run, beside other work on two processors, took a third of it. */
const MACHINE_TIMEOUT_MS = 18 * 60_000;

const LINES_OF_FAILURE = 60;

/** Everything that asks something of the kernel and imports no package but koffi. */
const FOLDERS: readonly [folder: string, pattern: RegExp][] = [
  ["test/kernels", /load\.test\.ts$/],
  ["test/kernels", /(?<!load|too-old)\.test\.ts$/],
  // Not those that compile changed copies of the data plane: the machines have no compiler.
  ["test/packet", /(?<!growth-\w+)\.test\.ts$/],
  ["src/kernel", /\.root\.test\.ts$/],
  ["src/maps", /\.root\.test\.ts$/],
  ["src/loader", /\.root\.test\.ts$/],
  ["src/observe", /\.root\.test\.ts$/],
];

/** The one test for kernels that are too old. */
const REFUSAL = "test/kernels/too-old.test.ts";

/** What must be on this machine; empty if all is there. */
function obstacles(): string[] {
  const folders = (process.env.PATH ?? "").split(":");
  const lacks = (name: string): boolean => !folders.some((folder) => existsSync(join(folder, name)));
  if (process.arch !== "x64") return [`these machines are x86-64, this one is ${process.arch}`];
  const missing = [QEMU, "busybox", "dpkg", "apt-get"].filter(lacks);
  return missing.map((name) => `${name} is not installed`);
}

function allFiles(): string[] {
  return FOLDERS.flatMap(([folder, pattern]) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
      .map((name) => `${folder}/${name}`)
      .filter((path) => pattern.test(path))
      .sort(),
  );
}

function printFile(file: FileResult): void {
  const failed = file.tests.filter((test) => !test.ok).length + (file.trouble === undefined ? 0 : 1);
  const skipped = file.tests.filter((test) => test.skipped !== undefined).length;
  const counts = [`${file.tests.length - skipped - file.tests.filter((test) => !test.ok).length} passed`];
  if (failed > 0) counts.push(`${failed} failed`);
  if (skipped > 0) counts.push(`${skipped} skipped`);
  console.log(
    `  ${failed ? "FAIL" : "ok  "} ${file.path.padEnd(44)} ${file.seconds.toFixed(1).padStart(6)} s  ${counts.join(", ")}`,
  );
  for (const reason of new Set(file.tests.map((test) => test.skipped).filter(Boolean))) {
    console.log(`       skipped: ${reason}`);
  }
  if (failed === 0) return;
  const lines = file.output.trimEnd().split("\n");
  const begin = Math.max(
    0,
    lines.findIndex((line) => line.includes("failing tests:")),
  );
  console.log(lines.slice(begin, begin + LINES_OF_FAILURE).join("\n"));
  const more = lines.length - begin - LINES_OF_FAILURE;
  if (more > 0)
    console.log(`       ... ${more} lines more; run it alone: npm run test:kernels -- ${file.path}`);
  if (file.trouble !== undefined) console.log(`       ${file.trouble}`);
}

/** Sums over everything that ran. */
interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

function count(file: FileResult, totals: Totals): void {
  for (const test of file.tests) {
    if (!test.ok) totals.failed++;
    else if (test.skipped === undefined) totals.passed++;
    else totals.skipped++;
  }
  if (file.trouble !== undefined) totals.failed++;
}

function featureLine({ features }: Features): string {
  const missing = Object.entries(features).filter(([, feature]) => feature.state !== "supported");
  return missing.length === 0 ? "has everything" : `without ${missing.map(([name]) => name).join(", ")}`;
}

/** Runs the files on one kernel; undefined if the kernel cannot be had. */
async function runKernel(
  choice: KernelChoice,
  options: { fresh: boolean; files: string[] },
  totals: Totals,
): Promise<KernelReport | undefined> {
  let kernel: ReturnType<typeof getKernel>;
  try {
    kernel = getKernel(CACHE, choice, options.fresh);
  } catch (thrown) {
    console.log(
      `\n${choice.series}  skipped: ${choice.release}'s kernel cannot be had: ${(thrown as Error).message}`,
    );
    totals.skipped++;
    return undefined;
  }
  const started = performance.now();
  const folder = join(CACHE, choice.series);
  const initramfs = join(folder, "initramfs");
  await writeImage(initramfs, kernel, choice.tooOld ? [REFUSAL] : options.files);
  const report: KernelReport = { kernel, instructions: {} };
  console.log(`\n${choice.series}  ${choice.release}, ${kernel.package}`);
  const machine = {
    kernel: kernel.image,
    initramfs,
    console: join(folder, "console"),
    timeoutMs: MACHINE_TIMEOUT_MS,
  };
  const trouble = await runMachine(machine, (line) => {
    if ("features" in line) {
      report.features = line.features;
      console.log(`  ${line.features.kernel}, ${featureLine(line.features)}`);
    } else if ("instructions" in line) {
      report.instructions = line.instructions;
    } else if ("left" in line) {
      totals.skipped += line.left;
      console.log(`       skipped: ${line.left} more files, because the data plane does not load`);
    } else if ("file" in line) {
      printFile(line.file);
      count(line.file, totals);
    }
  });
  if (trouble !== undefined) {
    totals.failed++;
    console.log(`  FAIL the machine: ${trouble}`);
  }
  console.log(
    `  ${((performance.now() - started) / 1000).toFixed(1)} s; its console is in ${relative(ROOT, machine.console)}`,
  );
  return report;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { only: { type: "string", multiple: true }, fresh: { type: "boolean" } },
    allowPositionals: true,
  });
  const chosen = KERNELS.filter(({ series }) => values.only === undefined || values.only.includes(series));
  if (chosen.length === 0) throw new RangeError(`--only: one of ${KERNELS.map((k) => k.series).join(", ")}`);
  const wrong = obstacles();
  if (wrong.length > 0) {
    for (const line of wrong) console.log(`skipped: ${line}`);
    console.log("\n0 passed, 0 failed, 1 skipped");
    return;
  }
  await buildAll();
  mkdirSync(CACHE, { recursive: true });
  const files =
    positionals.length === 0 ? allFiles() : positionals.map((path) => relative(ROOT, resolve(path)));
  const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  const reports: KernelReport[] = [];
  for (const choice of chosen) {
    const report = await runKernel(choice, { fresh: values.fresh ?? false, files }, totals);
    if (report) reports.push(report);
  }
  const everything =
    positionals.length === 0 && KERNELS.every((k) => reports.some((r) => r.kernel.choice === k));
  if (everything && totals.failed === 0)
    writeFileSync(join(ROOT, "docs/user/kernels.md"), writePage(reports));
  const skipped = totals.skipped === 0 ? "" : `, ${totals.skipped} skipped`;
  console.log(`\n${totals.passed} passed, ${totals.failed} failed${skipped}`);
  process.exitCode = totals.failed === 0 ? 0 : 1;
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    stopMachines();
    process.exit(130);
  });
}

try {
  await main();
} catch (thrown) {
  console.error(thrown instanceof Error ? thrown.message : thrown);
  console.log("\n0 passed, 1 failed");
  process.exitCode = 1;
}
