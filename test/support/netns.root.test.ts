// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { listMounts, mountBpffs } from "../../src/kernel/mount.ts";
import { listNetns } from "../../src/kernel/netns.ts";
import { buildTopology, INTERNET_ADDRESS, ip, NODE_ADDRESS, POD_CIDR } from "./netns.ts";
import type { Seen } from "./pod-client.ts";

function expected(target: string): string {
  if (target.includes("@")) return "10.244.1.9";
  return target.includes("2001:") ? NODE_ADDRESS[6] : NODE_ADDRESS[4];
}

const CLIENT = join(import.meta.dirname, "pod-client.ts");

test("the outside says who called, over every protocol and family, and nothing is left behind", async () => {
  const world = await buildTopology({ mtu: 1400 });
  try {
    // A pod's address on the node itself: what outside sees of a packet that nobody masqueraded.
    ip(world.node, [`address add ${POD_CIDR[4].replace(".0/24", ".9/32")} dev lo`]);
    const targets = ["http", "tcp", "udp"].flatMap((p) => [
      `${p}:${INTERNET_ADDRESS[4]}`,
      `${p}:${INTERNET_ADDRESS[6]}`,
    ]);
    targets.push(`tcp:${INTERNET_ADDRESS[4]}@10.244.1.9`, `udp:${INTERNET_ADDRESS[4]}@10.244.1.9`);
    const { stdout, stderr } = await world.run(world.node, [process.execPath, CLIENT, ...targets]);
    const seen: Seen[] = JSON.parse(stdout || "[]");
    assert.deepEqual(
      seen.map((s) => `${s.target} ${s.peer ?? s.error}`),
      targets.map((t) => `${t} ${expected(t)}`),
      stderr,
    );
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
