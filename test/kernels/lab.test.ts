// SPDX-License-Identifier: Apache-2.0
// The whole product on this kernel: a lab of two nodes with its agents, CNI plugin and API server, through the built
// command. Its demonstration asks from pods in both families, reads tables back, and kills an agent.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { hookline, labName, remainsOf } from "../support/lab.ts";

const lab = labName();

after(async () => {
  await hookline("lab", "down", "--name", lab);
});

test("every step of the demonstration holds, and nothing is left of the lab", async () => {
  const size = ["--nodes", "2", "--pods-per-node", "1"];
  const { status, stdout, stderr } = await hookline("lab", "run", "--once", "--name", lab, ...size);
  assert.equal(status, 0, stdout + stderr);
  assert.ok((stdout.match(/^ {3}✓ /gm)?.length ?? 0) >= 7, stdout);
  assert.deepEqual(remainsOf(lab), []);
});
