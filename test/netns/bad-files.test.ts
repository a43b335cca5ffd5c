// SPDX-License-Identifier: Apache-2.0
// Files that are not as the agent left them: pins removed, the bpffs unmounted, state cut short, manifests that nobody can
// read. Pods of the node go on all the time; the agent repairs what it can, tells what it cannot, and never starts from nothing.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { closeSync, mkdirSync, readdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import type { EndpointReport, StatusReport } from "../../src/agent/status.ts";
import { waitFor } from "../../src/base/async.ts";
import { mapInfo } from "../../src/kernel/bpf.ts";
import { isBpffs, unmount } from "../../src/kernel/mount.ts";
import { mapPin, openPin } from "../../src/maps/pins.ts";
import { Conversation } from "../kernels/journey-node.ts";
import { peersSeen } from "../support/ask.ts";
import { AgentNode } from "../support/cni-node.ts";
import { buildTopology, INTERNET_ADDRESS, NODE_ADDRESS, type Topology } from "../support/netns.ts";

let world: Topology;
let node: AgentNode;
let netns: string;
let talk: Conversation;
let seconds = 70;

const status = (): Promise<StatusReport> => node.get<StatusReport>("/v1/status");
const endpoints = (): Promise<EndpointReport[]> => node.get<EndpointReport[]>("/v1/endpoints");
const state = (name: string): string => join(node.runDir, "state", name);

const addPod = async (name: string): Promise<string> => (await node.addPod(name)).netns;

const deletePod = (name: string, netns: string): Promise<void> => node.removePod({ name, netns });

async function assertMasqueraded(from: string): Promise<void> {
  const targets = Object.values(INTERNET_ADDRESS).flatMap((a) => [`tcp:${a}`, `udp:${a}`]);
  const expected = targets.map((t) => [t, NODE_ADDRESS[t.includes("2001:") ? 6 : 4]]);
  assert.deepEqual(await peersSeen(from, targets), Object.fromEntries(expected));
}

before(async () => {
  world = await buildTopology();
  node = new AgentNode(world);
  await node.start();
});
after(() => world?.[Symbol.asyncDispose]());

/** One pod with a connection that must live through everything. */
beforeEach(async () => {
  netns = await addPod("stays");
  talk = new Conversation(netns, INTERNET_ADDRESS[4]);
  await talk.say("before");
});
afterEach(async () => {
  talk.close();
  await deletePod("stays", netns);
  assert.deepEqual(await endpoints(), []);
});

function removePins(): void {
  for (const folder of ["maps", "links"]) rmSync(join(node.bpfRoot, folder), { recursive: true });
}

/** Ids of some pinned maps. */
function mapIds(): number[] {
  return ["flows", "endpoints", "recent"].map((name) => {
    const fd = openPin(mapPin(node.bpfRoot, name));
    assert.ok(fd !== undefined, `${name} is not pinned`);
    try {
      return mapInfo(fd, name).id;
    } finally {
      closeSync(fd);
    }
  });
}

for (const [how, spoil] of [
  ["are removed by hand", removePins],
  ["go with their file system", () => unmount(node.bpfRoot, { lazy: true })],
] as const) {
  test(`pins that ${how} are there again, for the same maps, and no packet is lost`, async () => {
    const maps = mapIds();
    spoil();
    await talk.say("unpinned");
    await assertMasqueraded(netns);
    // Another configuration loads the programs again: onto the maps in use, not onto new ones.
    node.setConfig({ "bpf-ct-timeout-regular-any": `${++seconds}s` });
    const links = join(node.bpfRoot, "links");
    await waitFor("the pins", () => isBpffs(node.bpfRoot) && readdirSync(links).length === 2);
    await talk.say("pinned again");
    assert.deepEqual(mapIds(), maps);
    await node.stop("SIGKILL");
    await talk.say("with the agent dead");
    await node.start();
    assert.deepEqual(mapIds(), maps);
    await talk.say("and another one");
    await assertMasqueraded(netns);
  });
}

test("pins that go while no agent runs take the flows with them; the next agent serves the pod as it is", async () => {
  const maps = mapIds();
  await node.stop("SIGKILL");
  removePins();
  await node.start();
  assert.ok(mapIds().every((id) => !maps.includes(id)));
  await assertMasqueraded(netns);
  await assertOthersGetOthers();
});

test("an endpoint whose file is cut short keeps its network and its address", async () => {
  const [pod] = await endpoints();
  assert.ok(pod);
  await node.stop("SIGKILL");
  truncateSync(state(`endpoints/${pod.id}.json`), 40);
  writeFileSync(join(node.runDir, "agent.json"), "{");
  await node.start();
  await talk.say("after the restart");
  await assertMasqueraded(netns);
  const again = (await endpoints()).find((one) => one.containerId === "stays");
  assert.deepEqual([again?.id, again?.ipv4, again?.ipv6], [pod.id, pod.ipv4, pod.ipv6]);
  assert.equal(again?.netns, pod.netns);
  await assertOthersGetOthers();
});

test("with the allocations cut short no address is given twice", async () => {
  await node.stop("SIGKILL");
  truncateSync(state("allocations.json"), 40);
  await node.start();
  await talk.say("after the restart");
  await assertOthersGetOthers();
});

/** A new pod gets addresses that nobody has, and works. */
async function assertOthersGetOthers(): Promise<void> {
  const other = await addPod("other");
  const [one, two] = await endpoints();
  assert.notEqual(one?.ipv4, two?.ipv4);
  assert.notEqual(one?.ipv6, two?.ipv6);
  await assertMasqueraded(other);
  await deletePod("other", other);
}

test("without its last good configuration and its API server a new agent waits; the pod goes on", async () => {
  await node.stop("SIGKILL");
  truncateSync(state("last-good.json"), 100);
  node.api = "unix:///nowhere";
  node.launch();
  const late = world.addNetns("late");
  const call = { containerId: "late", netns: late };
  await waitFor("the agent", () => node.get("/v1/endpoints"));
  const refused = await node.call("ADD", call);
  assert.equal(refused.status, 1);
  assert.match(JSON.stringify(refused.json), /waiting for the API server/);
  await talk.say("without a configuration");
  await assertMasqueraded(netns);
  await node.stop();
  node.api = undefined;
  await node.start();
  assert.equal((await node.call("ADD", call)).status, 0);
  await assertMasqueraded(late);
  await deletePod("late", late);
});

test("manifests that nobody can read are told, and the rest of the folder counts", async () => {
  const path = (name: string): string => join(node.manifestsDir, name);
  mkdirSync(path("folder.yaml"));
  symlinkSync("nowhere", path("dangling.yaml"));
  writeFileSync(path("binary.yaml"), randomBytes(4096));
  writeFileSync(path("half.json"), '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ha');
  const told = async (): Promise<string> => (await status()).faults.join("\n");
  for (const name of ["binary.yaml", "half.json"]) {
    await waitFor(`${name} to be told`, async () => (await told()).includes(name));
  }
  node.setConfig({ "ipv4-native-routing-cidr": "10.0.0.0/8" });
  const inForce = async (): Promise<boolean> =>
    (await status()).masquerading.nativeRoutingCidrs.includes("10.0.0.0/8");
  await waitFor("the rest to count", inForce);
  await talk.say("beside them");
  for (const name of ["folder.yaml", "dangling.yaml", "binary.yaml", "half.json"]) {
    rmSync(path(name), { recursive: true });
  }
  node.setConfig({});
  await waitFor("nothing to be told", async () => (await told()) === "");
});
