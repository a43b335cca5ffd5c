// SPDX-License-Identifier: Apache-2.0
// Flows are flushed again and again under hundreds of new ones a second, while the flow table grows: what was asked for is gone
// each time, no other connection is hurt, no translation changes, and in the end the counts are what is there: nothing.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { StatusReport } from "../../src/agent/status.ts";
import { flushFlows } from "../../src/loader/flush.ts";
import type { Flow, FlowKey } from "../../src/maps/gen/types.ts";
import { Hook } from "../../src/maps/gen/verdict.ts";
import { innerTables, openPinned } from "../../src/maps/table.ts";
import { type AddedPod, AgentNode } from "../support/cni-node.ts";
import { buildTopology, GATEWAY_ADDRESS, INTERNET_ADDRESS, type Topology } from "../support/netns.ts";
import { startTraffic, translations } from "../support/pod-traffic.ts";

const HOOKLINE = join(import.meta.dirname, "../../dist/hookline.mjs");
const ADDRESSES = [INTERNET_ADDRESS, GATEWAY_ADDRESS].flatMap((both) => Object.values(both));
const PODS = ["a", "b"] as const;
const SHARE = { longLived: 200, newPerSecond: 260, addresses: ADDRESSES };
/** The table begins with this many records and may then have more. */
const FIRST = { "bpf-ct-global-tcp-max": "1024", "bpf-ct-global-any-max": "1024" };
const FLUSHES = 25;
const [TCP, UDP] = [6, 17];

let world: Topology;
let node: AgentNode;
const pods: AddedPod[] = [];

before(async () => {
  world = await buildTopology();
  node = new AgentNode(world);
  node.setConfig(FIRST);
  await node.start();
  for (const name of PODS) pods.push(await node.addPod(name));
  node.setConfig({});
});
after(() => world?.[Symbol.asyncDispose]());

async function flush(...args: string[]): Promise<number> {
  const argv = [process.execPath, HOOKLINE, "--run-dir", node.runDir, "bpf", ...args, "--force"];
  const { status, stdout, stderr } = await world.run(world.node, argv);
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^\d+ (translated )?flows removed\n$/);
  return Number.parseInt(stdout, 10);
}

type Record = FlowKey & Flow;
const isUdp = ({ proto }: FlowKey): boolean => proto === UDP;

/** All records, of both tables while one is being drained. */
function records(): Record[] {
  const found: Record[] = [];
  for (const table of innerTables(node.bpfRoot, "flows")) {
    using closing = table;
    for (const [key, flow] of closing.entries()) found.push({ ...key, ...flow });
  }
  return found;
}

/** One flow: another that comes later under the same tuple is another. */
const nameOf = ({ saddr, sport, daddr, proto, created }: Record): string =>
  [proto, saddr, sport, daddr, created].join(" ");

function entries(): number {
  let count = 0;
  for (const table of innerTables(node.bpfRoot, "replies")) {
    using closing = table;
    count += closing.count();
  }
  return count;
}

/** What the data plane counts, of all and by owner. */
function counts(): { all: number; owned: number } {
  using use = openPinned(node.bpfRoot, "table_use");
  using owners = openPinned(node.bpfRoot, "owners");
  const owned = [...owners.entries()].reduce((sum, [, owner]) => sum + owner.flows, 0);
  return { all: Number(use.get(0)), owned };
}

/** Dropped packets by hook and reason. */
function drops(): string[] {
  using counters = openPinned(node.bpfRoot, "counters");
  return Object.entries(Hook).flatMap(([name, hook]) =>
    Array.from({ length: 255 }, (_, i) => i + 1)
      .filter((reason) => (counters.getPerCpu(256 * hook + reason) ?? []).some(({ packets }) => packets > 0n))
      .map((reason) => `${name} reason ${reason}`),
  );
}

/** Flushes and looks whether what was there before it is gone; gives how many it ended. */
async function flushAndLook(by: () => Promise<number>): Promise<number> {
  const earlier = new Set(records().filter(isUdp).map(nameOf));
  const ended = await by();
  assert.deepEqual(
    records()
      .map(nameOf)
      .filter((name) => earlier.has(name)),
    [],
  );
  return ended;
}

test("what is flushed under traffic and growth goes, and nothing else does", async () => {
  const ends = await Promise.all(pods.map(({ netns }) => startTraffic(world, netns, SHARE)));
  const growths = async (): Promise<number> =>
    (await node.get<StatusReport>("/v1/status")).flowTable?.growths ?? 0;
  let ended = 0;
  for (let i = 0; i < FLUSHES || (await growths()) === 0; i++) {
    const program = () => flushFlows(node.bpfRoot, isUdp);
    ended += await flushAndLook(i % 10 === 3 ? () => flush("nat", "flush", "--protocol", "udp") : program);
  }
  const translated = translations(node.bpfRoot);
  assert.deepEqual(drops(), []);
  const reports = await Promise.all(ends.map((end) => end()));
  for (const one of reports) {
    assert.deepEqual(one.longLivedBroken, []);
    assert.equal(one.lines.echoed, one.lines.sent);
    assert.deepEqual(one.connections.failed, []);
    assert.equal(one.longLived.length, SHARE.longLived);
    for (const { local, localPort, remote, seenPort } of one.longLived)
      assert.equal(translated.get(`${local} ${localPort} ${remote}`), seenPort);
    assert.ok(one.datagrams.sent > 0 && one.connections.opened > 0);
  }
  const datagrams = reports.reduce((sum, { datagrams: { sent } }) => sum + sent, 0);
  assert.ok(ended > datagrams / 2, `${ended} flows of ${datagrams} datagrams ended`);
  await flushAndLook(() => flush("ct", "flush", "--protocol", "udp"));
  const tcp = records();
  assert.deepEqual(counts(), { all: tcp.length, owned: tcp.length });
  assert.ok(tcp.length > 0 && tcp.every(({ proto }) => proto === TCP));
});

test("a flush of everything leaves nothing, with and without an agent", async () => {
  const none = { records: 0, entries: 0, all: 0, owned: 0 };
  for (const agent of [true, false]) {
    const end = await startTraffic(world, pods[0]?.netns ?? "", { ...SHARE, longLived: 20 });
    const { longLived } = await end();
    assert.equal(longLived.length, 20);
    if (!agent) await node.stop();
    assert.ok((await flush("nat", "flush")) >= 20);
    assert.deepEqual({ records: records().length, entries: entries(), ...counts() }, none);
  }
  await node.start();
  const end = await startTraffic(world, pods[0]?.netns ?? "", { ...SHARE, longLived: 20 });
  assert.deepEqual((await end()).connections.failed, []);
});
