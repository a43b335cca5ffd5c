// SPDX-License-Identifier: Apache-2.0
// From one mode of masquerading to another while traffic flows; what is left in netfilter after it; that what others have
// in netfilter stays, and what is ours comes back; restarts, and an end for good.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { waitFor } from "../../src/base/async.ts";
import { ask } from "../support/ask.ts";
import { FAMILIES, type Mode, ModesNode, ours } from "../support/modes-node.ts";
import { INTERNET_ADDRESS, NODE_ADDRESS } from "../support/netns.ts";
import { startTraffic } from "../support/pod-traffic.ts";

let node: ModesNode;
before(async () => {
  node = await ModesNode.build();
});
after(() => node?.[Symbol.asyncDispose]());
afterEach(async () => {
  await node.enter("BPF");
  await waitFor("rules to go", gone);
});

/** Whom the outside sees when the pod opens connections. */
async function seen(): Promise<string[]> {
  const asked = await Promise.all(
    FAMILIES.map((family) => ask(node.pod(0).netns, `tcp:${INTERNET_ADDRESS[family]}`)),
  );
  return asked.map(({ peer, error }) => peer ?? error ?? "");
}

const NODE = FAMILIES.map((family) => NODE_ADDRESS[family]);
const podAddresses = (): string[] => FAMILIES.map((family) => node.pod(0).address[family]);

const talk = (netns: string, addresses: readonly string[]) =>
  startTraffic(node.world, netns, { longLived: 12, newPerSecond: 30, addresses });

/** Goes through `job` while a pod talks to the outside and the outside to the pod; none of them may notice it. */
async function unnoticed(job: () => Promise<void>): Promise<void> {
  const ends = [
    await talk(node.pod(0).netns, Object.values(INTERNET_ADDRESS)),
    await talk(node.world.outside, podAddresses()),
  ];
  await job();
  for (const end of ends) {
    const report = await end();
    assert.deepEqual(report.longLivedBroken, []);
    assert.deepEqual(report.connections.failed, []);
    assert.equal(report.lines.echoed, report.lines.sent);
    assert.ok(report.connections.opened > 0 && report.lines.sent > 0);
  }
}

const gone = async (): Promise<boolean> => ours(await node.netfilter()).length === 0;

async function goOver(from: Mode, to: Mode, more: Record<string, string> = {}): Promise<void> {
  await node.enter(from, more);
  if (from !== "IPTables") await waitFor("rules to go", gone);
  await unnoticed(async () => {
    await node.enter(to, more);
    assert.deepEqual(await seen(), to === "Disabled" ? podAddresses() : NODE);
    if (to !== "IPTables") await waitFor("rules to go", gone);
  });
}

const WAYS: readonly (readonly [from: Mode, to: Mode])[] = [
  ["BPF", "IPTables"],
  ["IPTables", "BPF"],
  ["IPTables", "Disabled"],
  ["Disabled", "IPTables"],
  ["BPF", "Disabled"],
  ["Disabled", "BPF"],
];

for (const [from, to] of WAYS) {
  test(`from ${from} to ${to}: open connections go on, new ones work at once, nothing of the mode before is left`, async () => {
    await goOver(from, to);
  });
}

for (const [from, to] of WAYS.slice(0, 2)) {
  test(`from ${from} to ${to} with enable-host-legacy-routing, where others use conntrack: the same`, async () => {
    const established = ["FORWARD", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"];
    for (const family of FAMILIES) await node.iptables(family, "-A", ...established);
    await goOver(from, to, { "enable-host-legacy-routing": "true" });
    for (const family of FAMILIES) await node.iptables(family, "-D", ...established);
  });
}

test("an agent that is killed leaves the rules in force, and the next one takes them over", async () => {
  await node.enter("IPTables");
  const before = ours(await node.netfilter());
  assert.ok(before.length > 0);
  await unnoticed(async () => {
    await node.agent.stop("SIGKILL");
    assert.deepEqual(await seen(), NODE);
    assert.deepEqual(ours(await node.netfilter()), before);
    await node.agent.start();
    assert.equal((await node.status()).masquerading.mode, "IPTables");
    assert.deepEqual(await seen(), NODE);
  });
  assert.deepEqual(ours(await node.netfilter()), before);
});

test("a mode that was changed while no agent ran is left behind by the next one", async () => {
  await node.enter("IPTables");
  await unnoticed(async () => {
    await node.agent.stop();
    node.write({});
    await node.agent.start();
    await waitFor("rules to go", gone);
    assert.equal((await node.status()).masquerading.mode, "BPF");
    assert.deepEqual(await seen(), NODE);
  });
});

test("what others have in netfilter stays, and FORWARD's policy does not cut pods off", async () => {
  for (const family of FAMILIES) {
    await node.iptables(family, "-t", "nat", "-N", "THEIRS");
    await node.iptables(family, "-t", "nat", "-A", "THEIRS", "-j", "RETURN");
    await node.iptables(family, "-t", "nat", "-A", "POSTROUTING", "-j", "THEIRS");
    await node.iptables(family, "-A", "FORWARD", "-p", "tcp", "--dport", "81", "-j", "REJECT");
    await node.iptables(family, "-P", "FORWARD", "DROP");
  }
  await node.ipset("create", "theirs", "hash:ip");
  const theirs = await node.netfilter();
  await node.enter("IPTables");
  assert.deepEqual(await seen(), NODE);
  const beside = await node.netfilter();
  assert.deepEqual(
    beside.filter((line) => !ours([line]).length),
    theirs,
  );
  await node.enter("BPF");
  await waitFor("rules to go", gone);
  assert.deepEqual(await node.netfilter(), theirs);
  for (const family of FAMILIES) await node.iptables(family, "-P", "FORWARD", "ACCEPT");
});

test("the kind of iptables that has our rules keeps them; none of either kind is left", async () => {
  const legacy = async (program: string, ...args: string[]): Promise<string> => {
    const argv = [`${program}-legacy`, "-t", "nat", ...args];
    const { status, stdout, stderr } = await node.world.run(node.world.node, argv);
    assert.equal(status, 0, stderr);
    return stdout;
  };
  await legacy("iptables", "-N", "HOOKLINE_POST_nat");
  await node.enter("IPTables");
  assert.deepEqual(await seen(), NODE);
  for (const program of ["iptables", "ip6tables"]) {
    assert.match(await legacy(program, "-S"), /^-A HOOKLINE_POST_nat -o eth0 .* -j SNAT --to-source/m);
  }
  assert.deepEqual(
    ours(await node.netfilter()).filter((line) => line.includes("HOOKLINE")),
    [],
    "rules of the other kind",
  );
  await node.enter("BPF");
  await waitFor("sets to go", gone);
  for (const program of ["iptables", "ip6tables"])
    assert.doesNotMatch(await legacy(program, "-S"), /hookline/i);
});

test("rules and sets that somebody takes away come back", async () => {
  await node.enter("IPTables");
  const before = ours(await node.netfilter());
  const back = () => waitFor("all of it", async () => ours(await node.netfilter()).join() === before.join());
  for (const family of FAMILIES) {
    await node.iptables(family, "-t", "nat", "-F");
    await node.iptables(family, "-t", "nat", "-X");
  }
  await node.ipset("flush", "hookline-native-4");
  await back();
  assert.deepEqual(await seen(), NODE);
  assert.match(await node.ipset("list", "hookline-native-4"), /^10\.244\.0\.0\/16$/m);
});

test("what cannot be written is told, the mode before stays in force, and the next try succeeds", async () => {
  // A set of another kind under our name: ipset refuses to make ours.
  await node.ipset("create", "hookline-pods-4", "hash:ip");
  await node.iptables(
    4,
    "-t",
    "nat",
    "-A",
    "POSTROUTING",
    "-m",
    "set",
    "--match-set",
    "hookline-pods-4",
    "src",
  );
  node.write({ "enable-bpf-masquerade": "false" });
  const told = await waitFor("the fault", async () =>
    (await node.status()).faults.find((fault) =>
      fault.startsWith("masquerading by iptables is not in force"),
    ),
  );
  assert.match(told, /BPF does it: .*ipset restore: .*pods-4/);
  const { masquerading, reconcilers } = await node.status();
  assert.equal(masquerading.mode, "BPF");
  assert.equal(reconcilers.find((row) => row.map === "ipset")?.pending, 1);
  assert.deepEqual(await seen(), NODE);
  await node.iptables(4, "-t", "nat", "-D", "POSTROUTING", "1");
  await node.ipset("destroy", "hookline-pods-4");
  await waitFor("iptables mode", async () => (await node.status()).masquerading.mode === "IPTables", {
    timeoutMs: 90_000,
  });
  assert.deepEqual((await node.status()).faults, []);
  assert.deepEqual(await seen(), NODE);
});

test("hookline cleanup takes away all that an agent leaves, but not while one runs", async () => {
  const HOOKLINE = join(import.meta.dirname, "../../src/bin/hookline.ts");
  const cleanup = () =>
    node.world.run(node.world.node, [
      ...[process.execPath, HOOKLINE, "--run-dir", node.agent.runDir],
      ...["cleanup", "--force"],
    ]);
  await node.enter("IPTables");
  const refused = await cleanup();
  assert.equal(refused.status, 3, refused.stdout);
  assert.match(refused.stderr, /an agent runs in .* already/);
  assert.deepEqual(await seen(), NODE);
  await node.agent.stop();
  const done = await cleanup();
  assert.equal(done.status, 0, done.stderr);
  assert.match(done.stdout, /^programs taken off .*eth0.*; \d+ pins and 4 routes removed; no rules or sets/);
  assert.ok(await gone());
  assert.ok(!existsSync(join(node.agent.bpfRoot, "maps")));
  const again = await cleanup();
  assert.match(again.stdout, /^programs taken off no device; 0 pins and 0 routes removed; no rules or sets/);
  await node.agent.start();
  await waitFor("iptables mode", async () => (await node.status()).masquerading.mode === "IPTables");
  assert.deepEqual(await seen(), NODE);
});
