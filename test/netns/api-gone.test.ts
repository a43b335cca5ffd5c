// SPDX-License-Identifier: Apache-2.0
// A node whose API server is gone for a while, killed or frozen: connections live, pods come and go, new connections are
// masqueraded; when it is back everything that changed on either side has been brought together.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { StatusReport } from "../../src/agent/status.ts";
import { ask as askApi } from "../../src/api/client.ts";
import { sleep, waitFor } from "../../src/base/async.ts";
import { formatPrefix } from "../../src/base/prefix.ts";
import { openPinned } from "../../src/maps/table.ts";
import { Conversation } from "../kernels/journey-node.ts";
import { peersSeen } from "../support/ask.ts";
import { AgentNode, NODE_NAME } from "../support/cni-node.ts";
import { buildTopology, INTERNET_ADDRESS, NODE_ADDRESS, type Topology } from "../support/netns.ts";

/** Longer than the agent waits before it takes an answer for lost or tries again. */
const GONE_MS = 5_000;
const SERVER = join(import.meta.dirname, "../support/api-server.ts");

let world: Topology;
let node: AgentNode;
let apiDir: string;
let server: ChildProcess;

async function startServer(): Promise<void> {
  server = spawn(process.execPath, [SERVER, apiDir, node.manifestsDir], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const [message] = await Promise.race([once(server, "message"), once(server, "exit")]);
  assert.equal(message, "ready");
}

before(async () => {
  world = await buildTopology();
  node = new AgentNode(world);
  apiDir = join(world.dir, "api");
  mkdirSync(apiDir);
  await startServer();
  node.api = `unix://${join(apiDir, "api.sock")}`;
  await node.start();
});
after(async () => {
  server?.kill("SIGKILL");
  await world?.[Symbol.asyncDispose]();
});

const status = (): Promise<StatusReport> => node.get<StatusReport>("/v1/status");

const addPod = async (name: string): Promise<string> => (await node.addPod(name)).netns;

const deletePod = (name: string, netns: string): Promise<void> => node.removePod({ name, netns });

async function assertMasqueraded(netns: string): Promise<void> {
  const targets = Object.values(INTERNET_ADDRESS).flatMap((a) => [`tcp:${a}`, `udp:${a}`]);
  const expected = targets.map((t) => [t, NODE_ADDRESS[t.includes("2001:") ? 6 : 4]]);
  assert.deepEqual(await peersSeen(netns, targets), Object.fromEntries(expected));
}

/** Names of the CiliumEndpoints, and of the CiliumNodes. */
async function published(kind: "ciliumendpoints" | "ciliumnodes"): Promise<string[]> {
  interface List {
    items: { metadata: { name: string } }[];
  }
  const path = `/apis/cilium.io/v2/${kind}`;
  const { items } = await askApi<List>({ socketPath: join(apiDir, "api.sock"), path });
  return items.map((item) => item.metadata.name).sort();
}

function excluded(prefix: string): boolean {
  using table = openPinned(node.bpfRoot, "nonmasq_cidrs");
  return [...table.entries()].some(([key]) => formatPrefix(key) === prefix);
}

const WAYS = {
  killed: { away: () => server.kill("SIGKILL"), back: startServer },
  frozen: {
    away: () => server.kill("SIGSTOP"),
    back: async () => {
      server.kill("SIGCONT");
    },
  },
} as const;

for (const [how, { away, back }] of Object.entries(WAYS)) {
  describe(`the API server is ${how}`, () => {
    const cidr = how === "killed" ? "10.0.0.0/9" : "10.128.0.0/9";
    let stays: string;
    let talk: Conversation;
    let late: string;

    before(async () => {
      stays = await addPod(`stays-${how}`);
      const goes = await addPod(`goes-${how}`);
      talk = new Conversation(stays, INTERNET_ADDRESS[6]);
      await talk.say("before");
      await waitFor("the pods' objects", async () => (await published("ciliumendpoints")).length === 2);
      away();
      await talk.say("gone");
      await deletePod(`goes-${how}`, goes);
      late = await addPod(`late-${how}`);
      node.setConfig({ "ipv4-native-routing-cidr": cidr });
    });
    after(async () => {
      talk?.close();
      await deletePod(`stays-${how}`, stays);
      await deletePod(`late-${how}`, late);
      await waitFor("their objects to go", async () => (await published("ciliumendpoints")).length === 0);
    });

    test("connections live, new ones are masqueraded, of new pods too", async () => {
      await assertMasqueraded(stays);
      await assertMasqueraded(late);
      await sleep(GONE_MS);
      await talk.say("still gone");
      await assertMasqueraded(late);
    });
    if (how === "killed") {
      test("status says so", async () => {
        await waitFor("the trouble", async () => (await status()).kubernetes.state !== "ok");
      });
    }
    test("when it is back, its news are in force and it knows ours", async () => {
      await back();
      await waitFor("the changed configuration", () => excluded(cidr));
      await waitFor(
        "the pods that are there, and no other",
        async () => (await published("ciliumendpoints")).join() === `late-${how},stays-${how}`,
      );
      assert.deepEqual(await published("ciliumnodes"), [NODE_NAME]);
      await waitFor("status to be content", async () => (await status()).overall.state === "ok");
      await talk.say("back");
      await assertMasqueraded(late);
    });
  });
}
