// SPDX-License-Identifier: Apache-2.0
// The benchmark on little: its parts run, every new flow finds a port while one is free, each mode of the traffic benchmark
// gives the address that it stands for, and nothing stays.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { NODE, POD } from "../../bench/traffic/addresses.ts";
import { connections, FAMILIES, serveConnections } from "../../bench/traffic/load.ts";
import { buildWorld, MODES } from "../../bench/traffic/world.ts";
import { thisMachine } from "../../tools/setup/needs.ts";

const ROOT = join(import.meta.dirname, "../..");

test("the benchmark measures the agent, packets, ports and sizes", () => {
  const argv = ["bench/bench.ts", "masquerade", "--quick", "--skip", "traffic"];
  const { status, stdout, stderr } = spawnSync(process.execPath, argv, { cwd: ROOT, encoding: "utf8" });
  assert.equal(status, 0, stderr);
  for (const row of [
    /^\| first packet of a new flow \| \d+ \[\d+-\d+\] \| \d+ \[\d+-\d+\] \|$/m,
    /^\| `\w+` \| [1-9]\d* \| [1-9]\d* \|$/m,
    /^\| \d+ pods to take over \| \d+ \[\d+-\d+\] \|$/m,
    /^\| DEL, the agent's part \| [\d.]+ \| [\d.]+ \|$/m,
    /^\| \d+ pods added \| [1-9]\d+ \| [1-9]\d+ \| [1-9]\d+ \|$/m,
    /^A pod opened 20000 flows, [1-9]\d+ in a second; \d+ of them were lost\./m,
    /^\| a device added \| [1-9]\d* \[\d+-\d+\] \|$/m,
    /^\| `hookline bpf nat list`, [1-9]\d+ lines \| [1-9]\d+ \|$/m,
  ])
    assert.match(stdout, row);
  const found = [...stdout.matchAll(/^\| (\d+) \([\d.]+ %\) \| \d+ \| ([\d.]+) % \|/gm)];
  assert.equal(found.length, 8);
  for (const [, held, share] of found)
    assert.equal(share, held === "64512" ? "0.00" : "100.00", `${held} held`);
});

for (const mode of MODES) {
  const skip =
    mode === "nftables" && !thisMachine().program(/^nft$/) ? "without nft, a tool of benchmarks" : false;
  test(`${mode}: pods are seen as the benchmark says, both families`, { skip }, async () => {
    await using world = await buildWorld(mode, 0);
    await serveConnections(world);
    for (const family of FAMILIES) {
      const { seen, failed } = await connections(world, family, 0.05);
      assert.equal(seen, (mode === "routing" ? POD : NODE)[family]);
      assert.equal(failed, 0);
    }
  });
}
