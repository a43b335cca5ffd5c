// SPDX-License-Identifier: Apache-2.0
// Killing the agent and replacing its programs costs nothing: twenty times kill -9, a new agent with another configuration,
// then yet another one at run time, under thousands of long-lived connections and hundreds of new flows a second of both
// families, without a lost packet, a retransmission or a changed translation. A design that empties or re-creates its maps,
// or takes its programs off for a moment, fails every one of these tests.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import type { ConfigReport } from "../../src/agent/status.ts";
import { waitFor } from "../../src/base/async.ts";
import { withNetns } from "../../src/kernel/netns.ts";
import { Hook } from "../../src/maps/gen/verdict.ts";
import { openPinned } from "../../src/maps/table.ts";
import { AgentNode } from "../support/cni-node.ts";
import { buildTopology, GATEWAY_ADDRESS, INTERNET_ADDRESS, type Topology } from "../support/netns.ts";
import { startTraffic, translations } from "../support/pod-traffic.ts";
import { overflows, segments, type TrafficReport } from "../support/traffic.ts";

const RESTARTS = 20;
const PODS = ["a", "b"] as const;
const LONG_LIVED = 5000;
const NEW_PER_SECOND = 500;
/** Whatever of it is changed, the programs are replaced. */
const OPTION = "bpf-ct-timeout-regular-any";
const ADDRESSES = [INTERNET_ADDRESS, GATEWAY_ADDRESS].flatMap((both) => Object.values(both));

let world: Topology;
let node: AgentNode;

/** Namespaces of the pods. */
const pods: string[] = [];

/** A pod with its share of the traffic. */
async function addTalker(name: string): Promise<() => Promise<TrafficReport>> {
  const { netns } = await node.addPod(name);
  pods.push(netns);
  return startTraffic(world, netns, {
    longLived: LONG_LIVED / PODS.length,
    newPerSecond: NEW_PER_SECOND / PODS.length,
    addresses: ADDRESSES,
  });
}

/** Dropped packets by hook and reason. */
function drops(): string[] {
  using counters = openPinned(node.bpfRoot, "counters");
  const found: string[] = [];
  for (const [name, hook] of Object.entries(Hook)) {
    for (let reason = 1; reason < 256; reason++) {
      const packets = (counters.getPerCpu(256 * hook + reason) ?? []).reduce((sum, c) => sum + c.packets, 0n);
      if (packets > 0n) found.push(`${name} reason ${reason}: ${packets}`);
    }
  }
  return found;
}

/** Waits until a configuration is in force. */
async function inForce(seconds: number): Promise<void> {
  await waitFor(
    `${OPTION} ${seconds} s`,
    async () => {
      const { options } = await node.get<ConfigReport>("/v1/config");
      return options.find(({ name }) => name === OPTION)?.value === `${seconds}s`;
    },
    { intervalMs: 50 },
  );
}

describe(`${RESTARTS} restarts and ${2 * RESTARTS} replacements under traffic`, () => {
  const reports: TrafficReport[] = [];
  let translated: Map<string, number>;
  let overflowed = 0;
  let flows = 0;

  before(async () => {
    world = await buildTopology();
    node = new AgentNode(world);
    node.hookline = [process.execPath, join(import.meta.dirname, "../../dist/hookline.mjs")];
    await node.start();
    const overflowedBefore = withNetns(world.outside, overflows);
    const traffic = await Promise.all(PODS.map(addTalker));
    const start = performance.now();
    for (let i = 0; i < RESTARTS; i++) {
      await node.stop("SIGKILL");
      node.setConfig({ [OPTION]: `${100 + i}s` });
      await node.start();
      await inForce(100 + i);
      node.setConfig({ [OPTION]: `${200 + i}s` });
      await inForce(200 + i);
    }
    const seconds = (performance.now() - start) / 1000;
    reports.push(...(await Promise.all(traffic.map((end) => end()))));
    overflowed = withNetns(world.outside, overflows) - overflowedBefore;
    translated = translations(node.bpfRoot);
    flows = sum((one) => one.connections.opened + one.datagrams.sent);
    console.log(`${flows} new flows in ${seconds.toFixed(1)} s`);
  });
  after(() => world?.[Symbol.asyncDispose]());

  const sum = (of: (one: TrafficReport) => number): number =>
    reports.reduce((total, one) => total + of(one), 0);

  test("traffic flowed all the time", () => {
    assert.equal(
      sum((one) => one.longLived.length),
      LONG_LIVED,
    );
    assert.ok(sum((one) => one.lines.sent) > 2 * LONG_LIVED, "each has said something, more than once");
    assert.ok(flows > 100 * RESTARTS, `${flows} new flows`);
  });
  test("every long-lived connection lived, every line came back in order", () => {
    for (const one of reports) {
      assert.deepEqual(one.longLivedBroken, []);
      assert.equal(one.lines.echoed, one.lines.sent);
    }
  });
  test("every long-lived connection kept its translation", () => {
    for (const { local, localPort, remote, seenPort } of reports.flatMap((one) => one.longLived)) {
      const key = `${local} ${localPort} ${remote}`;
      assert.equal(translated.get(key), seenPort, key);
    }
  });
  test("every new connection was made", () => {
    for (const one of reports) assert.deepEqual(one.connections.failed, []);
  });
  test("every datagram came back, but those for which a socket had no room", () => {
    const lost = sum((one) => one.datagrams.sent - one.datagrams.echoed);
    assert.ok(lost <= overflowed + sum((one) => one.overflowed), `${lost} lost, ${overflowed} overflowed`);
  });
  test("every TCP segment that one side sent came to the other", async () => {
    const sum = (of: "sent" | "received"): number =>
      pods.reduce((total, netns) => total + withNetns(netns, () => segments("opener"))[of], 0);
    const lost = (): { there: number; back: number } => {
      const { sent, received } = withNetns(world.outside, () => segments("server"));
      return { there: sum("sent") - received, back: sent - sum("received") };
    };
    // The last ones close connections.
    const none = { there: 0, back: 0 };
    await waitFor("the last segments", () => isDeepStrictEqual(lost(), none)).catch(() => undefined);
    assert.deepEqual(lost(), none);
  });
  test("the programs dropped nothing", () => {
    assert.deepEqual(drops(), []);
  });
});
