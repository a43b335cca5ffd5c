// SPDX-License-Identifier: Apache-2.0
// kill -9 at the worst moments: in front of every single change that ADD and DEL make to the state folder, and all over the
// start of an agent, the very first one included. The next agent brings everything together; a pod at work notices nothing.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { EndpointReport, StatusReport } from "../../src/agent/status.ts";
import { sleep } from "../../src/base/async.ts";
import { openPinned } from "../../src/maps/table.ts";
import { Conversation } from "../kernels/journey-node.ts";
import { peersSeen } from "../support/ask.ts";
import { AgentNode, type PluginResult } from "../support/cni-node.ts";
import { buildTopology, INTERNET_ADDRESS, NODE_ADDRESS, type Topology } from "../support/netns.ts";

const PRELOAD = join(import.meta.dirname, "../support/crash-point.ts");
/** ADD and DEL make fewer changes than this. */
const POINTS = 20;
/** Ages at which a starting agent is killed, ms: before it listens, while it loads, while it attaches, when it is ready. */
const AGES = [150, 400, 700, 1000, 1400];

let world: Topology;
let node: AgentNode;
let crashFile: string;
let stays: string;
let talk: Conversation;

async function assertMasqueraded(from: string): Promise<void> {
  const targets = Object.values(INTERNET_ADDRESS).flatMap((a) => [`tcp:${a}`, `udp:${a}`]);
  const expected = targets.map((t) => [t, NODE_ADDRESS[t.includes("2001:") ? 6 : 4]]);
  assert.deepEqual(await peersSeen(from, targets), Object.fromEntries(expected));
}

/** Everything there is of pods, on disk, in the kernel and in the agent's head. */
async function traces(): Promise<Record<string, unknown>> {
  using endpoints = openPinned(node.bpfRoot, "endpoints");
  using addresses = openPinned(node.bpfRoot, "endpoint_addrs");
  const { stdout } = await world.run(world.node, ["ip", "-j", "link"]);
  const { ipam } = await node.get<StatusReport>("/v1/status");
  return {
    devices: (JSON.parse(stdout) as { ifname: string }[]).filter((l) => l.ifname.startsWith("hl")).length,
    endpoints: endpoints.count(),
    addresses: addresses.count(),
    known: (await node.get<EndpointReport[]>("/v1/endpoints")).length,
    files: readdirSync(join(node.runDir, "state/endpoints")).filter((name) => name.endsWith(".json")).length,
    inUse: [ipam.ipv4.inUse, ipam.ipv6.inUse].join(),
  };
}

const oneOnly = { devices: 1, endpoints: 1, addresses: 2, known: 1, files: 1, inUse: "1,1" };
const twoPods = { devices: 2, endpoints: 2, addresses: 4, known: 2, files: 2, inUse: "2,2" };

before(async () => {
  world = await buildTopology();
  node = new AgentNode(world);
  crashFile = join(world.dir, "crash");
  node.environment = { NODE_OPTIONS: `--import=${PRELOAD}`, CRASH_FILE: crashFile };
});
after(async () => {
  talk?.close();
  await world?.[Symbol.asyncDispose]();
});

async function killWhileStarting(age: number): Promise<void> {
  node.launch();
  await sleep(age);
  await node.stop("SIGKILL");
}

test("the very first start, killed again and again, then comes through", async () => {
  for (const age of AGES) await killWhileStarting(age);
  await node.start();
  stays = world.addNetns("stays");
  const added = await node.call("ADD", { containerId: "stays", netns: stays });
  assert.equal(added.status, 0, JSON.stringify(added.json));
  await assertMasqueraded(stays);
  talk = new Conversation(stays, INTERNET_ADDRESS[6]);
  await talk.say("first");
});

test("a start over a pod at work, killed again and again: the pod notices nothing", async () => {
  await node.stop("SIGKILL");
  for (const age of AGES) {
    await killWhileStarting(age);
    await talk.say(`killed after ${age} ms`);
  }
  await node.start();
  await talk.say("and up");
  await assertMasqueraded(stays);
  assert.deepEqual(await traces(), oneOnly);
});

/** Calls the plugin with an agent that dies in front of its n-th change, and starts the next. */
async function callAndDie(
  n: number,
  call: () => Promise<PluginResult>,
): Promise<{ died: boolean; result: PluginResult }> {
  const agent = node.running;
  assert.ok(agent);
  const ended = once(agent, "exit");
  writeFileSync(crashFile, `${n}`);
  const result = call();
  // The plugin may wait for another agent to come.
  await Promise.race([ended, result]);
  const died = readFileSync(crashFile, "utf8") === "0";
  rmSync(crashFile);
  if (died) {
    await ended;
    await node.start();
  }
  return { died, result: await result };
}

test("ADD and DEL, killed in front of every change that they make", async () => {
  let deaths = 0;
  for (let n = 1; n <= POINTS; n++) {
    const netns = world.addNetns(`pod${n}`);
    const pod = { containerId: `pod${n}`, netns };
    const inAdd = await callAndDie(n, () => node.call("ADD", pod));
    await talk.say(`add ${n}`);
    // The plugin has asked the next agent: then the pod is there. If that took longer than it waits, the pod has been taken
    // over whole or not at all, before any DEL.
    if (inAdd.result.status === 0) await assertMasqueraded(netns);
    else {
      const left = await traces();
      assert.deepEqual(left, left.known === 1 ? oneOnly : twoPods, `killed in front of change ${n} of ADD`);
    }
    assert.equal((await node.call("DEL", pod)).status, 0);
    const added = await node.call("ADD", pod);
    assert.equal(added.status, 0, `${n}: ${JSON.stringify(added.json)}\n${node.logTail()}`);
    await assertMasqueraded(netns);
    const inDelete = await callAndDie(n, () => node.call("DEL", pod));
    assert.equal((await node.call("DEL", pod)).status, 0);
    assert.deepEqual(await traces(), oneOnly, `killed in front of change ${n} of DEL`);
    world.removeNetns(netns);
    deaths += Number(inAdd.died) + Number(inDelete.died);
    if (!inAdd.died && !inDelete.died) break;
  }
  await talk.say("at last");
  assert.ok(deaths >= 8, `${deaths} deaths`);
});
