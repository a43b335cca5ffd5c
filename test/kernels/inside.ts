// SPDX-License-Identifier: Apache-2.0
// The program of a test machine: says what its kernel has, then runs the test files one after the other and writes what
// happened, one JSON line each. Started by tools/kernels/image.ts's /init, read by tools/kernels/machine.ts.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Features, probe } from "../../src/kernel/features.ts";
import { openDatapath } from "../../src/loader/datapath.ts";
import { type FileResult, runFile } from "../../tools/test/run-file.ts";
import { ALL_ON, OBJECT } from "../support/datapath.ts";

/** A line of the machine. */
export type Line =
  | { features: Features }
  /** Instructions that the verifier walked, by program, with the usual configuration. */
  | { instructions: Record<string, number> }
  | { file: FileResult }
  /** Files that were not run because the object does not load. */
  | { left: number }
  /** Exit status of this program; written by /init. */
  | { end: number };

const FILE_TIMEOUT_MS = 4 * 60_000;
/** The first file of every run. */
const LOAD = "test/kernels/load.test.ts";

function say(line: Line): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** Empty if the object does not load; the tests say why. */
function countInstructions(): Record<string, number> {
  const sizes = { flows: 64, replies: 64, events: 4096 };
  try {
    using datapath = openDatapath({
      objectPath: OBJECT,
      bpfRoot: "/sys/fs/bpf/count",
      config: ALL_ON,
      sizes,
    });
    return Object.fromEntries(
      datapath.programs().map((program) => [program.name, program.verifiedInstructions]),
    );
  } catch {
    return {};
  }
}

say({ features: probe() });
say({ instructions: countInstructions() });
const root = join(import.meta.dirname, "../..");
const paths = readFileSync(join(root, "test/kernels/files"), "utf8").split("\n").filter(Boolean);
for (const [index, path] of paths.entries()) {
  const file = await runFile(path, { timeoutMs: FILE_TIMEOUT_MS, mark: "kernels" });
  say({ file });
  // Where the object does not load everything else fails for the same reason, at length.
  if (path === LOAD && file.tests.some((test) => !test.ok)) {
    if (index + 1 < paths.length) say({ left: paths.length - index - 1 });
    break;
  }
}
