// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { listMounts, mountBpffs } from "../../src/kernel/mount.ts";
import { listNetns } from "../../src/kernel/netns.ts";
import { peersSeen } from "./ask.ts";
import { buildTopology, INTERNET_ADDRESS, ip, NODE_ADDRESS } from "./netns.ts";

test("the outside says who called, over every protocol and family, and nothing is left behind", async () => {
  const world = await buildTopology({ mtu: 1400 });
  try {
    // A pod's address on the node itself: what outside sees of a packet that nobody masqueraded.
    ip(world.node, ["address add 10.244.1.9/32 dev lo"]);
    const expected = {
      [`http:${INTERNET_ADDRESS[4]}`]: NODE_ADDRESS[4],
      [`http:${INTERNET_ADDRESS[6]}`]: NODE_ADDRESS[6],
      [`tcp:${INTERNET_ADDRESS[4]}`]: NODE_ADDRESS[4],
      [`tcp:${INTERNET_ADDRESS[6]}`]: NODE_ADDRESS[6],
      [`udp:${INTERNET_ADDRESS[4]}`]: NODE_ADDRESS[4],
      [`udp:${INTERNET_ADDRESS[6]}`]: NODE_ADDRESS[6],
      [`udp:${INTERNET_ADDRESS[4]}@10.244.1.9`]: "10.244.1.9",
    };
    assert.deepEqual(await peersSeen(world.node, Object.keys(expected)), expected);
    const refused = await peersSeen(world.outside, [`tcp:${NODE_ADDRESS[4]}`]);
    assert.match(refused[`tcp:${NODE_ADDRESS[4]}`] ?? "", /ECONNREFUSED|EPIPE/);
    mountBpffs(join(world.dir, "bpf"));
    world.spawn(world.node, ["sleep", "60"]);
  } finally {
    await world[Symbol.asyncDispose]();
  }
  assert.deepEqual(
    listNetns().filter((name) => name.includes(world.id)),
    [],
  );
  assert.deepEqual(
    listMounts().filter((m) => m.target.startsWith(world.dir)),
    [],
  );
  assert.ok(!existsSync(world.dir));
});
