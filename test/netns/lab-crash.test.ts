// SPDX-License-Identifier: Apache-2.0
// Labs side by side, and taking one away after its supervisor and all its agents were killed: everything of it goes,
// nothing of the other. A run that nobody reads any more takes its lab away itself.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { sleep } from "../../src/base/async.ts";
import { cgroupProcesses, findCgroup2 } from "../../src/kernel/mount.ts";
import { listNetns } from "../../src/kernel/netns.ts";
import { identify } from "../../src/lab/identity.ts";
import { agentPid, hookline, labName, output, remainsOf, startHookline } from "../support/lab.ts";

const doomed = labName();
const other = labName();

function up(name: string, nodes: string): Promise<string> {
  return output("lab", "up", "--name", name, "--nodes", nodes, "--pods-per-node", "1");
}

async function whoAmI(name: string): Promise<string> {
  const words = ["curl", "-sS", "--max-time", "20", "http://198.51.100.10/"];
  return JSON.parse(await output("lab", "exec", "--name", name, "pod-1-1", "--", ...words)).peer;
}

after(async () => {
  for (const name of [doomed, other]) await hookline("lab", "down", "--name", name);
});

test("two labs run side by side with the same addresses", async () => {
  await up(doomed, "2");
  await up(other, "1");
  for (const name of [doomed, other]) assert.equal(await whoAmI(name), "172.20.0.11");
});

test("with supervisor and agents killed, pods still reach the internet under the node's address", async () => {
  const { supervisor } = JSON.parse(readFileSync(`/run/hookline/labs/${doomed}/lab.json`, "utf8"));
  const agents = ["node1", "node2"].map((node) => agentPid(doomed, node));
  process.kill(supervisor.pid, "SIGKILL");
  for (const pid of agents) process.kill(pid, "SIGKILL");
  // exec asks the API server, which has died with the supervisor: so from outside the command.
  const { withNetns } = await import("../../src/kernel/netns.ts");
  const { execFileSync } = await import("node:child_process");
  const answer = withNetns(`hl-${doomed}-node1-pod-1-1`, () =>
    execFileSync("curl", ["-sS", "--max-time", "20", "http://198.51.100.10/"], { encoding: "utf8" }),
  );
  assert.equal(JSON.parse(answer).peer, "172.20.0.11");
  const { status, stderr } = await hookline("lab", "status", "--name", doomed);
  assert.equal(status, 3);
  assert.match(stderr, /hookline lab down/);
});

test("down takes away everything of the dead lab", async () => {
  const group = `${findCgroup2()}/hookline-${doomed}`;
  const pids = cgroupProcesses(group);
  assert.ok(pids.length > 0, "pods should have survived");
  await output("lab", "down", "--name", doomed);
  assert.deepEqual(remainsOf(doomed), []);
  // A zombie that its new parent has not yet reaped has gone, too.
  for (const pid of pids) assert.equal(identify(pid), undefined, `process ${pid} lives`);
});

test("and nothing of the other lab", async () => {
  assert.equal(await whoAmI(other), "172.20.0.11");
  assert.equal(listNetns().filter((name) => name.startsWith(`hl-${other}-`)).length, 4);
  await output("lab", "down", "--name", other);
  assert.deepEqual(remainsOf(other), []);
});

test("killed while it comes up, and taken away by two at once: nothing is left", async () => {
  for (const afterMs of [300, 700, 1100]) {
    const starting = startHookline(["lab", "up", "--name", doomed, "--nodes", "2", "--pods-per-node", "2"]);
    await sleep(afterMs);
    starting.kill("SIGKILL");
    const downs = await Promise.all([1, 2].map(() => hookline("lab", "down", "--name", doomed)));
    assert.deepEqual(
      downs.map((down) => `${down.status} ${down.stderr}`),
      ["0 ", "0 "],
    );
    assert.deepEqual(remainsOf(doomed), [], `${afterMs} ms after the start`);
  }
});

test("lab run whose reader goes away takes the lab away", async () => {
  const running = startHookline([
    "lab",
    "run",
    "--once",
    "--name",
    doomed,
    "--nodes",
    "1",
    "--pods-per-node",
    "1",
  ]);
  const ended = once(running, "exit");
  running.stderr?.resume();
  assert.ok(running.stdout);
  for await (const line of createInterface({ input: running.stdout })) if (line.startsWith("Up in")) break;
  assert.notDeepEqual(remainsOf(doomed), []);
  running.stdout.destroy();
  await ended;
  assert.deepEqual(remainsOf(doomed), []);
});
