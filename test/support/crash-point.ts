// SPDX-License-Identifier: Apache-2.0
// Loaded before an agent (node --import), lets a test kill it at an exact place: CRASH_FILE holds a number n, and the n-th
// change to a file of the state folder from then on is not made, because the process dies in front of it (SIGKILL); then
// the file holds 0.
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

const file = process.env.CRASH_FILE ?? "";
const { existsSync, readFileSync, writeFileSync } = fs;

function approach(path: unknown): void {
  if (typeof path !== "string" || !path.includes("/state/") || !existsSync(file)) return;
  const left = Number(readFileSync(file, "utf8")) - 1;
  writeFileSync(file, `${left}`);
  if (left <= 0) process.kill(process.pid, "SIGKILL");
}

for (const name of ["writeFileSync", "renameSync", "rmSync"] as const) {
  const real = fs[name] as (...args: unknown[]) => unknown;
  (fs as unknown as Record<string, unknown>)[name] = (...args: unknown[]): unknown => {
    approach(args[0]);
    return real(...args);
  };
}
syncBuiltinESMExports();
