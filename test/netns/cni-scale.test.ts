// SPDX-License-Identifier: Apache-2.0
// Many pods through the real plugin and a real agent: a hundred of them, four at a time, the order in which addresses
// come back, pod CIDRs that change while pods run, and what the last one too many is told.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { waitFor } from "../../src/base/async.ts";
import { peersSeen } from "../support/ask.ts";
import { AgentNode } from "../support/cni-node.ts";
import { buildTopology, INTERNET_ADDRESS, NODE_ADDRESS, POD_CIDR, type Topology } from "../support/netns.ts";

const PODS = 100;
const AT_ONCE = 4;

let world: Topology;
let node: AgentNode;
before(async () => {
  world = await buildTopology();
  node = new AgentNode(world);
  await node.start();
});
after(() => world?.[Symbol.asyncDispose]());

interface Pod {
  readonly containerId: string;
  readonly netns: string;
}

/** Runs a job per item, AT_ONCE at a time, results in the order of the items. */
async function fourAtATime<T, R>(items: readonly T[], job: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < items.length; i = next++) results[i] = await job(items[i] as T);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

function makePods(prefix: string, count: number): Pod[] {
  return Array.from({ length: count }, (_, i) => ({
    containerId: `${prefix}${i}`,
    netns: world.addNetns(`${prefix}${i}`),
  }));
}

/** The pod's IPv4 address. */
async function add(pod: Pod): Promise<string> {
  const { status, json } = await node.call("ADD", pod);
  assert.equal(status, 0, `${JSON.stringify(json)}\n${node.logTail()}`);
  return json.ips[0].address.replace("/32", "");
}

async function remove(pod: Pod): Promise<void> {
  const { status, json } = await node.call("DEL", pod);
  assert.equal(status, 0, JSON.stringify(json));
}

function percentile(sorted: readonly number[], share: number): string {
  return (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0).toFixed(1);
}

const targets = ["tcp", "udp"].flatMap((p) => [`${p}:${INTERNET_ADDRESS[4]}`, `${p}:${INTERNET_ADDRESS[6]}`]);
const masqueraded = Object.fromEntries(
  targets.map((t) => [t, t.includes("2001:") ? NODE_ADDRESS[6] : NODE_ADDRESS[4]]),
);

async function assertEmpty(): Promise<void> {
  assert.deepEqual(await node.get("/v1/endpoints"), []);
  const { stdout } = await world.run(world.node, ["ip", "-o", "link", "show", "type", "veth"]);
  assert.deepEqual(stdout.match(/hl[0-9a-f]{10}/g), null, stdout);
}

test(`${PODS} pods added ${AT_ONCE} at a time all reach the outside masqueraded, and all go again`, async () => {
  const pods = makePods("p", PODS);
  const times: number[] = [];
  const addresses = await fourAtATime(pods, async (pod) => {
    const started = performance.now();
    const address = await add(pod);
    times.push(performance.now() - started);
    return address;
  });
  times.sort((a, b) => a - b);
  const [p50, p99] = [percentile(times, 0.5), percentile(times, 0.99)];
  process.stdout.write(
    `# ADD of ${PODS} pods, ${AT_ONCE} at a time, process included: p50 ${p50} ms, p99 ${p99} ms\n`,
  );
  assert.equal(new Set(addresses).size, PODS);

  const seen = await fourAtATime(pods, (pod) => peersSeen(pod.netns, targets));
  for (const [i, peers] of seen.entries()) assert.deepEqual(peers, masqueraded, `pod ${i} (${addresses[i]})`);

  await fourAtATime(pods, remove);
  await assertEmpty();
  for (const pod of pods) world.removeNetns(pod.netns);
});

test("an address that was released waits until all others had their turn", async () => {
  const [first, second] = makePods("r", 2) as [Pod, Pod];
  const released: string[] = [];
  for (let i = 0; i < 5; i++) {
    released.push(await add(first));
    await remove(first);
  }
  assert.equal(new Set(released).size, 5, released.join(" "));
  await node.stop();
  await node.start();
  const next = await add(second);
  assert.ok(!released.includes(next), `${next} was released just before the restart: ${released.join(" ")}`);
  await remove(second);
  for (const pod of [first, second]) world.removeNetns(pod.netns);
});

test("a smaller pod CIDR keeps the pods that run, and the pod too many is told which range is full", async () => {
  const [old, ...others] = makePods("s", 7) as [Pod, ...Pod[]];
  await add(old);
  node.setPodCidrs(["10.244.1.248/29", POD_CIDR[6]]);
  await waitFor("the new pod CIDR", async () => {
    const { ipam } = await node.get<{ ipam: { cidrs: string[] } }>("/v1/status");
    return ipam.cidrs.includes("10.244.1.248/29");
  });
  assert.deepEqual(await peersSeen(old.netns, targets), masqueraded);
  const five = others.slice(0, 5);
  const addresses = await fourAtATime(five, add);
  assert.deepEqual(
    addresses.toSorted(),
    ["250", "251", "252", "253", "254"].map((n) => `10.244.1.${n}`),
  );
  const refused = await node.call("ADD", others[5]);
  assert.equal(refused.status, 1);
  assert.equal(refused.json.code, 100);
  assert.match(
    refused.json.msg,
    /no free IPv4 address in 10\.244\.1\.248\/29: 5 of 5 in use, 1 more outside/,
  );
  await remove(five[2] as Pod);
  assert.equal(await add(others[5] as Pod), addresses[2]);
  const running = [old, ...others].filter((pod) => pod !== five[2]);
  for (const pod of running)
    assert.deepEqual(await peersSeen(pod.netns, targets), masqueraded, pod.containerId);
  await fourAtATime([old, ...others], remove);
  await assertEmpty();
});
