// SPDX-License-Identifier: Apache-2.0
// A lab with a user's manifests and options: objects follow their files, options reach the agents, and a change of the
// exclusions is in force while the lab runs.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { waitFor } from "../../src/base/async.ts";
import { hookline, labName, output } from "../support/lab.ts";

const lab = labName();
const folder = mkdtempSync(join(tmpdir(), "hookline-lab-"));

function writePod(name: string): void {
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name },
    spec: { nodeName: "node1", containers: [{ name: "web", image: "any" }] },
  };
  writeFileSync(join(folder, `${name}.json`), JSON.stringify(pod));
}

async function pods(): Promise<string> {
  const status = JSON.parse(await output("lab", "status", "--name", lab, "-o", "json"));
  return status.pods.map((pod: { name: string; phase: string }) => `${pod.name} ${pod.phase}`).join(", ");
}

async function arrive(expected: string): Promise<void> {
  let last = "";
  const arrived = async (): Promise<boolean> => {
    last = await pods();
    return last === expected;
  };
  await waitFor(`pods to be "${expected}"`, arrived, { intervalMs: 200 }).catch((thrown) => {
    throw new Error(`pods are "${last}", expected "${expected}"`, { cause: thrown });
  });
}

async function seenBy(url: string): Promise<string> {
  const curl = ["curl", "-sS", "--max-time", "20", url];
  return JSON.parse(await output("lab", "exec", "--name", lab, "one", "--", ...curl)).peer;
}

describe(`lab ${lab} with manifests and options`, () => {
  before(async () => {
    writePod("one");
    const size = ["--nodes", "1", "--pods-per-node", "0"];
    const options = ["--config", "enable-ipv6-masquerade=false", "--manifests", folder];
    await output("lab", "up", "--name", lab, ...size, ...options);
  });
  after(async () => {
    await hookline("lab", "down", "--name", lab);
    rmSync(folder, { recursive: true });
  });

  test("pods come and go with their files; a broken file changes nothing", async () => {
    await arrive("one Running");
    writePod("two");
    await arrive("one Running, two Running");
    writeFileSync(join(folder, "one.json"), "{ broken");
    rmSync(join(folder, "two.json"));
    await arrive("one Running");
    writePod("one");
  });

  test("an option of the command reaches the agent, and packets obey it", async () => {
    const key = ["config", "get", "enable-ipv6-masquerade"];
    assert.equal(await output("--lab", lab, "--node", "node1", ...key), "false\n");
    assert.equal(await seenBy("http://198.51.100.10/"), "172.20.0.11");
    assert.match(await seenBy("http://[2001:db8:100::10]/"), /^fd00:10:244:1::/);
  });

  test("the demonstration tells the truth about this lab, too", async () => {
    const { status, stdout } = await hookline("lab", "demo", "--name", lab);
    assert.equal(status, 0, stdout);
    assert.match(stdout, /The server saw fd00:10:244:1::\w+: the pod's own: masquerading is off\./);
  });

  test("a change of the lab's own exclusions is in force at once", async () => {
    const path = `/run/hookline/labs/${lab}/manifests/ip-masq-agent.yaml`;
    writeFileSync(path, readFileSync(path, "utf8").replace("203.0.113.0/24", "198.51.100.0/24"));
    await waitFor(
      "the server to see the pod",
      async () => (await seenBy("http://198.51.100.10/")).startsWith("10.244.1."),
      { intervalMs: 200 },
    );
    assert.equal(await seenBy("http://203.0.113.10/"), "172.20.0.11");
  });
});
