// SPDX-License-Identifier: Apache-2.0
// The benchmark's parts without traffic, on little: they run, every new flow finds a port while one is free, and nothing stays.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";

const ROOT = join(import.meta.dirname, "../..");

test("the benchmark measures packets, ports and sizes", () => {
  const argv = ["bench/bench.ts", "masquerade", "--quick", "--no-traffic"];
  const { status, stdout, stderr } = spawnSync(process.execPath, argv, { cwd: ROOT, encoding: "utf8" });
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^\| first packet of a new flow \| \d+ \[\d+-\d+\] \| \d+ \[\d+-\d+\] \|$/m);
  assert.match(stdout, /^\| `from_pod` \| [1-9]\d* \| [1-9]\d* \|$/m);
  const found = [...stdout.matchAll(/^\| \d+ \([\d.]+ %\) \| \d+ \| ([\d.]+) % \|/gm)].map((row) => row[1]);
  assert.deepEqual(
    found,
    Array.from({ length: 7 }, () => "100.00"),
  );
});
