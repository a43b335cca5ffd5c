// SPDX-License-Identifier: Apache-2.0
// Real packets between pods, node and outside, over the programs as this kernel takes them: every way of attaching that
// it has, with and without host routing.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { waitFor } from "../../src/base/async.ts";
import { hasTcx } from "../../src/kernel/features.ts";
import type { DeviceMode } from "../../src/loader/attach.ts";
import type { NodeConfig } from "../../src/maps/gen/config.ts";
import { peersSeen } from "../support/ask.ts";
import { ALL_ON, TICKS_PER_SECOND } from "../support/datapath.ts";
import { INTERNET_ADDRESS, ip, NODE_ADDRESS, NON_MASQUERADE_ADDRESS } from "../support/netns.ts";
import { Conversation, echo, FORGED, JourneyNode, PODS, sendFrom } from "./journey-node.ts";

const FAMILIES = [4, 6] as const;
const PROTOCOLS = ["tcp", "udp", "http"] as const;
/** More than a window: segments are cut and joined on the way. */
const BULK_BYTES = 2 << 20;

/** Who sees whom: the same answer for every protocol. */
function expected(host: string, peer: string): Record<string, string> {
  return Object.fromEntries(PROTOCOLS.map((protocol) => [`${protocol}:${host}`, peer]));
}

async function assertSeen(netns: string, answers: Record<string, string>): Promise<void> {
  assert.deepEqual(await peersSeen(netns, Object.keys(answers)), answers);
}

/** Tests of one node. */
function journeys(config: NodeConfig, mode: DeviceMode): void {
  let node: JourneyNode;
  before(async () => {
    node = await JourneyNode.make({ config, mode });
  });
  after(() => node?.[Symbol.asyncDispose]());

  for (const family of FAMILIES) {
    const [internet, excluded] = [INTERNET_ADDRESS[family], NON_MASQUERADE_ADDRESS[family]];
    const echoProtocol = family === 4 ? 1 : 58;

    test(`IPv${family}: the world sees the node`, async () => {
      await assertSeen(node.pods.a, expected(internet, NODE_ADDRESS[family]));
    });
    test(`IPv${family}: excluded networks see the pod`, async () => {
      await assertSeen(node.pods.a, expected(excluded, PODS.a[family]));
    });
    test(`IPv${family}: ping is answered, under the node's address`, async () => {
      const done = await node.world.run(node.pods.a, ["ping", "-c", "2", "-W", "5", internet]);
      assert.match(done.stdout, / 2 (packets )?received/, done.stdout + done.stderr);
      const records = node.flows().filter(([key]) => key.proto === echoProtocol && key.daddr === internet);
      assert.deepEqual(
        records.map(([key, flow]) => [key.saddr, flow.xsaddr]),
        [[PODS.a[family], NODE_ADDRESS[family]]],
      );
    });
    test(`IPv${family}: a pod sees a pod of its node as itself`, async () => {
      await assertSeen(node.pods.b, expected(PODS.a[family], PODS.b[family]));
    });
    test(`IPv${family}: the node and the outside reach a pod`, async () => {
      await assertSeen(node.world.node, expected(PODS.a[family], NODE_ADDRESS[family]));
      const host = `tcp:${PODS.a[family]}`;
      assert.match(
        (await peersSeen(node.world.outside, [host]))[host] ?? "",
        /^(172\.20\.0\.254|fd00:20::fe)$/,
      );
    });
    test(`IPv${family}: a source address that is not the pod's is dropped`, async () => {
      ip(node.pods.a, [`address add ${FORGED[family]}/${family === 4 ? 32 : 128} dev lo`]);
      const before = node.forged();
      await sendFrom(node.pods.a, FORGED[family], internet);
      await waitFor("the drop to be counted", () => node.forged() === before + 1);
      assert.equal(
        node.flows().some(([key]) => key.saddr === FORGED[family]),
        false,
      );
    });
    test(`IPv${family}: ${BULK_BYTES >> 20} MiB pass both ways undamaged`, async () => {
      const bytes = randomBytes(BULK_BYTES);
      assert.ok(bytes.equals(await echo(node.pods.a, internet, bytes)));
    });
  }

  upkeep(() => node, config);
}

/** Tests of what the agent does to a node at work: swaps of programs, sweeps. */
function upkeep(current: () => JourneyNode, config: NodeConfig): void {
  test("programs are swapped under a connection that stays", async () => {
    const node = current();
    const talk = new Conversation(node.pods.a, INTERNET_ADDRESS[4]);
    try {
      await talk.say("first");
      for (const events of [0, 1, 2]) {
        node.datapath.reload({ ...config, events });
        await talk.say(`with events ${events}`);
      }
    } finally {
      talk.close();
    }
    await assertSeen(node.pods.a, expected(INTERNET_ADDRESS[4], NODE_ADDRESS[4]));
  });

  test("the sweep removes what has expired and nothing else", async () => {
    const node = current();
    const isUdp = ([key]: ReturnType<JourneyNode["flows"]>[number]): boolean => key.proto === 17;
    await assertSeen(node.pods.a, { [`udp:${INTERNET_ADDRESS[4]}`]: NODE_ADDRESS[4] });
    assert.ok(node.flows().some(isUdp));
    let removed = 0n;
    await waitFor(
      "UDP flows to expire and be swept",
      async () => {
        removed += (await node.datapath.sweep()).removed;
        return !node.flows().some(isUdp);
      },
      { intervalMs: 200 },
    );
    assert.ok(removed > 0n);
    assert.ok(node.flows().every(([key]) => key.proto === 6));
  });
}

/** Long enough that a test's own flows live, short enough to wait for. */
const CONFIG: NodeConfig = {
  ...ALL_ON,
  timeoutAny: Math.round(4 * TICKS_PER_SECOND),
  timeoutTcpFin: Math.round(600 * TICKS_PER_SECOND),
};
const NO_TCX = hasTcx() ? false : "the kernel has no TCX (it came with 6.6)";

describe("TCX links, host routing", { skip: NO_TCX }, () => journeys(CONFIG, "tcx"));
describe("TCX links, the node's stack routes", { skip: NO_TCX }, () =>
  journeys({ ...CONFIG, hostRouting: 0 }, "tcx"),
);
describe("tc filters, host routing", () => journeys(CONFIG, "tc"));
describe("tc filters, the node's stack routes", () => journeys({ ...CONFIG, hostRouting: 0 }, "tc"));
