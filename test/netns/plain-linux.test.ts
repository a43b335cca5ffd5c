// SPDX-License-Identifier: Apache-2.0
// A host without Kubernetes: one agent, told by flags where the CNI plugin goes, with a folder of manifests for its
// cluster; what is wrong in the folder shows in `hookline status`, and no name that a runtime passes gets anywhere.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { stringify } from "yaml";
import type { ConfigReport, StatusReport } from "../../src/agent/status.ts";
import { exchange } from "../../src/api/client.ts";
import { waitFor } from "../../src/base/async.ts";
import { peersSeen } from "../support/ask.ts";
import { AgentNode } from "../support/cni-node.ts";
import { buildTopology, INTERNET_ADDRESS, NODE_ADDRESS, type Topology } from "../support/netns.ts";

const HOOKLINE = join(import.meta.dirname, "../../src/bin/hookline.ts");
let world: Topology;
let node: AgentNode;
let conflist: string;

before(async () => {
  world = await buildTopology();
  node = new AgentNode(world);
  // Support installs the plugin for other tests; here that is the agent's work.
  rmSync(node.cni.binDir, { recursive: true });
  rmSync(node.cni.confDir, { recursive: true });
  conflist = join(node.cni.confDir, "05-hookline.conflist");
  await node.start("--write-cni-conf-when-ready", conflist, "--cni-bin-dir", node.cni.binDir);
});
after(() => world?.[Symbol.asyncDispose]());

const status = (): Promise<StatusReport> => node.get<StatusReport>("/v1/status");

function networkConfig(spec: object): void {
  const path = join(node.manifestsDir, "network.yaml");
  const object = { apiVersion: "cilium.io/v2", kind: "CiliumNetworkConfig", metadata: { name: "all" }, spec };
  writeFileSync(path, stringify(object));
}

test("the agent installs the plugin when it is ready, and a pod added with it reaches the internet", async () => {
  assert.deepEqual(readdirSync(node.cni.confDir), ["05-hookline.conflist"]);
  assert.equal(statSync(conflist).mode & 0o777, 0o644);
  const [plugin] = JSON.parse(readFileSync(conflist, "utf8")).plugins;
  assert.deepEqual(plugin, { type: "hookline", runDir: node.runDir });
  const pod = world.addNetns("first");
  const { json } = await node.call("ADD", { containerId: "first", netns: pod });
  assert.equal(json.ips.length, 2, JSON.stringify(json));
  const targets = [`tcp:${INTERNET_ADDRESS[4]}`, `tcp:${INTERNET_ADDRESS[6]}`] as const;
  const seen = { [targets[0]]: NODE_ADDRESS[4], [targets[1]]: NODE_ADDRESS[6] };
  assert.deepEqual(await peersSeen(pod, [...targets]), seen);
  await node.call("DEL", { containerId: "first", netns: pod });
  world.removeNetns(pod);
});

test("a CiliumNetworkConfig changes the running agent, and is refused with its path", async () => {
  networkConfig({ enableIPv6Masquerade: false });
  await waitFor("the alias", async () => !(await status()).masquerading.ipv6);
  const { options } = await node.get<ConfigReport>("/v1/config");
  const origin = options.find((option) => option.name === "enable-ipv6-masquerade")?.origin;
  assert.equal(origin, "CiliumNetworkConfig all spec.enableIPv6Masquerade");
  networkConfig({ enableIPv6Masquerade: true, routingMode: "tunnel" });
  const path = 'CiliumNetworkConfig all spec.routingMode: "tunnel": ';
  await waitFor("the refusal", async () => (await status()).faults.some((fault) => fault.startsWith(path)));
  assert.equal((await status()).masquerading.ipv6, false, "the last good configuration stays");
  networkConfig({ enableBPFMasquerade: true });
  await waitFor("the right value", async () => (await status()).masquerading.ipv6);
  assert.deepEqual((await status()).faults, []);
});

test("an unknown key is told once, however often the document changes", async () => {
  const key = "CiliumNetworkConfig all spec.enableBanana";
  for (const mtu of [1400, 1300]) {
    networkConfig({ enableBanana: true, MTU: mtu });
    await waitFor(`an MTU of ${mtu}`, async () => {
      const { options } = await node.get<ConfigReport>("/v1/config");
      return options.find((option) => option.name === "mtu")?.value === String(mtu);
    });
    assert.deepEqual((await status()).config.unknownKeys, [key]);
  }
  assert.equal(readFileSync(node.logFile, "utf8").split(key).length - 1, 1);
  rmSync(join(node.manifestsDir, "network.yaml"));
});

test("hookline status shows what is wrong in the folder, and the last good state stays in force", async () => {
  const path = join(node.manifestsDir, "ip-masq-agent.yaml");
  const good = readFileSync(path, "utf8");
  const { ranges } = (await status()).masquerading.ipMasqAgent;
  assert.ok(ranges > 0);
  writeFileSync(path, "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: [1] }\n");
  const shown = await waitFor("the fault", async () => {
    const argv = [process.execPath, HOOKLINE, "--run-dir", node.runDir, "status"];
    const { status: exit, stdout } = await world.run(world.node, argv);
    assert.equal(exit, 0);
    return /^Faults: .*ip-masq-agent\.yaml.*$/m.exec(stdout)?.[0];
  });
  assert.match(shown, /metadata\.name/);
  assert.equal((await status()).masquerading.ipMasqAgent.ranges, ranges);
  writeFileSync(path, good);
  await waitFor("the fault to go", async () => (await status()).faults.length === 0);
});

test("no name that a runtime passes is a path: the agent refuses it and nothing is made", async () => {
  const listing = (): string[] => readdirSync(world.dir, { recursive: true, encoding: "utf8" }).sort();
  const before = listing();
  const good = {
    containerId: "c1",
    ifName: "eth0",
    netns: "/run/netns/none",
    args: {},
    podName: "web",
    podNamespace: "default",
    config: { cniVersion: "1.1.0", name: "hookline", type: "hookline" },
  };
  const hostile = ["../../x", "..", "a/b", "a\0b", "a b", "a\nb", "n".repeat(300)];
  for (const field of ["containerId", "ifName", "podName", "podNamespace"]) {
    for (const name of hostile) {
      for (const command of ["add", "del", "check"]) {
        const body = { ...good, [field]: name };
        const call = { socketPath: join(node.runDir, "agent.sock"), path: `/v1/cni/${command}`, body };
        assert.equal((await exchange(call)).status, 400, `${command} ${field} ${JSON.stringify(name)}`);
      }
    }
  }
  assert.deepEqual(listing(), before);
  assert.equal((await status()).overall.state, "ok");
});

test("a plugin that cannot be installed is told in the status; when it can be, it is", async () => {
  await node.stop();
  rmSync(node.cni.confDir, { recursive: true });
  // A file where the folder belongs.
  writeFileSync(node.cni.confDir, "");
  const blocked = join(node.cni.confDir, "05-hookline.conflist");
  // What goes wrong in the start is told below, once.
  const started = node.start("--write-cni-conf-when-ready", blocked, "--cni-bin-dir", node.cni.binDir);
  started.catch(() => undefined);
  try {
    await waitFor("the fault", async () =>
      (await status()).faults.some((fault) => fault.includes("the CNI plugin is not installed")),
    );
  } finally {
    rmSync(node.cni.confDir);
  }
  await started;
  await waitFor("the file", () => existsSync(blocked));
  assert.deepEqual((await status()).faults, []);
});

test("without any manifest, flags give the pod ranges, and a pod reaches the internet", async () => {
  await node.stop();
  for (const name of readdirSync(node.manifestsDir)) rmSync(join(node.manifestsDir, name));
  rmSync(join(node.runDir, "state"), { recursive: true });
  const ranges = ["--ipv4-range", "10.244.1.0/24", "--ipv6-range", "fd00:10:244:1::/64"];
  await node.start(...ranges);
  const pod = world.addNetns("plain");
  const { json } = await node.call("ADD", { containerId: "plain", netns: pod });
  assert.equal(json.ips?.length, 2, JSON.stringify(json));
  const targets = [`tcp:${INTERNET_ADDRESS[4]}`, `tcp:${INTERNET_ADDRESS[6]}`];
  const seen = Object.fromEntries(targets.map((target, i) => [target, NODE_ADDRESS[i === 0 ? 4 : 6]]));
  assert.deepEqual(await peersSeen(pod, targets), seen);
  await node.call("DEL", { containerId: "plain", netns: pod });
  world.removeNetns(pod);
});
