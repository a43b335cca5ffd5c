// SPDX-License-Identifier: Apache-2.0
// The agent in a node's namespace, configured by manifests: what changes in a document, a file or a device reaches the
// maps; what is wrong in it does not, and is told; a node without its API server goes on.
import assert from "node:assert/strict";
import {
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { parse, stringify } from "yaml";
import type { ConfigReport, EndpointReport, NodeReport, StatusReport } from "../../src/agent/status.ts";
import { ask, followFlows } from "../../src/api/client.ts";
import { waitFor } from "../../src/base/async.ts";
import { formatPrefix } from "../../src/base/prefix.ts";
import { openPinned } from "../../src/maps/table.ts";
import { peersSeen } from "../support/ask.ts";
import { AgentNode, NODE_NAME } from "../support/cni-node.ts";
import { buildTopology, INTERNET_ADDRESS, ip, NODE_ADDRESS, type Topology } from "../support/netns.ts";

let world: Topology;
let node: AgentNode;
let configPath: string;
let agentFile: string;
const initial: Record<string, string> = {};

before(async () => {
  world = await buildTopology();
  node = new AgentNode(world);
  configPath = join(node.manifestsDir, "config.yaml");
  agentFile = join(world.dir, "ip-masq/ip-masq-agent");
  Object.assign(initial, parse(readFileSync(configPath, "utf8")).data, {
    "ip-masq-agent-config-path": agentFile,
  });
  setConfig({});
  await node.start();
});
after(() => world?.[Symbol.asyncDispose]());

/** Replaces a file as editors and Kubernetes do: whole or not at all. */
function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.draft`, text);
  renameSync(`${path}.draft`, path);
}

/** The ConfigMap with these values over those of the beginning. */
function setConfig(values: Record<string, string>): void {
  const object = {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "cilium-config", namespace: "kube-system" },
    data: { ...initial, ...values },
  };
  replaceFile(configPath, stringify(object));
}

const status = (): Promise<StatusReport> => node.get<StatusReport>("/v1/status");

/** Exclusions in the kernel: `10.0.0.0/8 5`, the number being the rule. */
function exclusions(): string[] {
  using table = openPinned(node.bpfRoot, "nonmasq_cidrs");
  return [...table.entries()].map(([prefix, { rule }]) => `${formatPrefix(prefix)} ${rule}`).sort();
}

const holds = (entry: string): Promise<boolean> =>
  waitFor(`${entry} in nonmasq_cidrs`, () => exclusions().includes(entry));
const lacks = (entry: string): Promise<boolean> =>
  waitFor(`${entry} to leave nonmasq_cidrs`, () => !exclusions().includes(entry));

function ipcache(): string[] {
  using table = openPinned(node.bpfRoot, "ipcache");
  return [...table.entries()].map(([prefix, { identity }]) => `${formatPrefix(prefix)} ${identity}`).sort();
}

function devices(): string[] {
  using table = openPinned(node.bpfRoot, "devices");
  return [...table.entries()].map(([, device]) => `${device.addr4} ${device.addr6} ${device.mtu}`).sort();
}

const addPod = async (name: string): Promise<string> => (await node.addPod(name)).netns;

const removePod = (name: string, netns: string): Promise<void> => node.removePod({ name, netns });

test("the socket and the state are root's alone", () => {
  assert.equal(statSync(join(node.runDir, "agent.sock")).mode & 0o777, 0o600);
  assert.equal(statSync(join(node.runDir, "api.sock")).mode & 0o777, 0o600);
  assert.equal(statSync(join(node.runDir, "state")).mode & 0o777, 0o700);
});

test("the agent keeps only the capabilities that it needs", () => {
  const { pid } = JSON.parse(readFileSync(join(node.runDir, "agent.json"), "utf8"));
  const field = (name: string) =>
    new RegExp(`^${name}:\\s*(\\w+)`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  // dac_override 1, net_admin 12, net_raw 13, sys_ptrace 19, sys_admin 21, perfmon 38, bpf 39.
  const kept = [1n, 12n, 13n, 19n, 21n, 38n, 39n].reduce((mask, bit) => mask | (1n << bit), 0n);
  for (const set of ["CapEff", "CapPrm", "CapBnd"]) assert.equal(BigInt(`0x${field(set)}`) & ~kept, 0n, set);
});

test("a changed ConfigMap reaches the maps, and goes again", async () => {
  await holds("10.244.0.0/16 5");
  setConfig({ "ipv4-native-routing-cidr": "10.0.0.0/8" });
  await holds("10.0.0.0/8 5");
  await lacks("10.244.0.0/16 5");
  setConfig({});
  await holds("10.244.0.0/16 5");
});

test("a wrong value is told with its path and changes nothing; the right one works at once", async () => {
  const before = (await status()).config.generation;
  setConfig({ "ipv4-native-routing-cidr": "10.0.0.0/33", "enable-ipv6-masquerade": "false" });
  const path =
    'ConfigMap kube-system/cilium-config data.ipv4-native-routing-cidr: "10.0.0.0/33": prefix length over 32';
  await waitFor("the fault", async () => (await status()).faults.includes(path));
  const report = await status();
  assert.equal(report.overall.state, "warning");
  assert.equal(report.config.generation, before);
  assert.equal(report.masquerading.ipv6, true);
  assert.ok(exclusions().includes("10.244.0.0/16 5"));
  setConfig({});
  await waitFor("the fault to go", async () => (await status()).faults.length === 0);
});

test("an unknown key is told and hurts nothing", async () => {
  setConfig({ "kube-proxy-replacement": "true" });
  await waitFor("the key", async () => (await status()).config.unknownKeys.length === 1);
  assert.deepEqual((await status()).config.unknownKeys, [
    "ConfigMap kube-system/cilium-config data.kube-proxy-replacement",
  ]);
  setConfig({});
});

test("an option of the programs is loaded while traffic flows", async () => {
  const pod = await addPod("load");
  const target = `tcp:${INTERNET_ADDRESS[4]}`;
  assert.deepEqual(await peersSeen(pod, [target]), { [target]: NODE_ADDRESS[4] });
  setConfig({ "enable-ipv4-masquerade": "false" });
  await waitFor("masquerading to be off", async () => !(await status()).masquerading.ipv4);
  assert.match((await status()).masquerading.line, /\[IPv4: Disabled, IPv6: Enabled\]$/);
  assert.match((await peersSeen(pod, [target]))[target] ?? "", /^10\.244\.1\./);
  setConfig({});
  await waitFor("masquerading to be on", async () => (await status()).masquerading.ipv4);
  assert.deepEqual(await peersSeen(pod, [target]), { [target]: NODE_ADDRESS[4] });
  await removePod("load", pod);
});

test("CiliumNodeConfig overrides the ConfigMap on the nodes that it selects", async () => {
  const path = join(node.manifestsDir, "node-config.yaml");
  const write = (hostname: string): void =>
    replaceFile(
      path,
      stringify({
        apiVersion: "cilium.io/v2",
        kind: "CiliumNodeConfig",
        metadata: { name: "edge", namespace: "kube-system" },
        spec: {
          nodeSelector: { matchLabels: { "kubernetes.io/hostname": hostname } },
          defaults: { "ipv4-native-routing-cidr": "10.128.0.0/9" },
        },
      }),
    );
  write(NODE_NAME);
  await holds("10.128.0.0/9 5");
  const { options } = await node.get<ConfigReport>("/v1/config");
  const origin = options.find((option) => option.name === "ipv4-native-routing-cidr")?.origin;
  assert.equal(origin, "CiliumNodeConfig kube-system/edge spec.defaults.ipv4-native-routing-cidr");
  write("another");
  await holds("10.244.0.0/16 5");
  rmSync(path);
});

test("ip-masq-agent: ConfigMap, then a file over it, an unusable one, a swapped link, and back", async () => {
  await holds("203.0.113.0/24 7");
  const folder = join(world.dir, "ip-masq");
  mkdirSync(folder);
  replaceFile(agentFile, "nonMasqueradeCIDRs: [192.0.2.0/24]\n");
  await holds("192.0.2.0/24 7");
  await lacks("203.0.113.0/24 7");
  replaceFile(agentFile, "nonMasqueradeCIDRs: [192.0.2.0/24, 10.0.0.0/40]\n");
  const refusal = `${agentFile} nonMasqueradeCIDRs[1] line 1: "10.0.0.0/40": prefix length over 32`;
  await waitFor("the refusal", async () => (await status()).faults.includes(refusal));
  assert.ok(exclusions().includes("192.0.2.0/24 7"));
  // Kubernetes swaps a link to a folder when a mounted ConfigMap changes.
  mkdirSync(join(folder, "next"));
  writeFileSync(join(folder, "next/ip-masq-agent"), '{"nonMasqueradeCIDRs": [], "masqLinkLocal": true}');
  symlinkSync("next/ip-masq-agent", `${agentFile}.link`);
  renameSync(`${agentFile}.link`, agentFile);
  await lacks("192.0.2.0/24 7");
  assert.deepEqual(exclusions(), ["10.244.0.0/16 5", "fd00:10:244::/48 5", "fe80::/10 7"]);
  rmSync(agentFile);
  await holds("203.0.113.0/24 7");
});

test("other nodes: identities and routes follow their objects", async () => {
  const path = join(node.manifestsDir, "node2.yaml");
  const other = {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: "node2" },
    spec: { podCIDR: "10.244.2.0/24", podCIDRs: ["10.244.2.0/24", "fd00:10:244:2::/64"] },
    status: {
      addresses: [
        { type: "InternalIP", address: "172.20.0.12" },
        { type: "InternalIP", address: "fd00:20::12" },
        { type: "ExternalIP", address: "198.51.100.77" },
      ],
    },
  };
  const routes = async (): Promise<string> => (await world.run(world.node, ["ip", "route"])).stdout;
  replaceFile(path, stringify(other));
  await waitFor("identities", () => ipcache().includes("198.51.100.77/32 6"));
  assert.ok(ipcache().includes(`${NODE_ADDRESS[4]}/32 1`));
  await waitFor("the route", async () =>
    /10\.244\.2\.0\/24 via 172\.20\.0\.12 dev eth0/.test(await routes()),
  );
  const nodes = await node.get<NodeReport[]>("/v1/nodes");
  assert.deepEqual(
    nodes.map((n) => `${n.name} ${n.route}`),
    ["node1 local", "node2 via 172.20.0.12 dev eth0, via fd00:20::12 dev eth0"],
  );
  rmSync(path);
  await waitFor("the route to go", async () => !(await routes()).includes("10.244.2.0"));
  await waitFor("identities to go", () => !ipcache().includes("172.20.0.12/32 6"));
});

test("a device and an address that come are followed, and when they go", async () => {
  const one = devices();
  ip(world.node, [
    "link add eth9 type veth peer name eth9p",
    "link set eth9 mtu 1400 up",
    "link set eth9p up",
    "addr add 192.0.2.9/24 dev eth9",
  ]);
  setConfig({ devices: "eth+" });
  await waitFor("the device", () => devices().includes("192.0.2.9 :: 1400"));
  await waitFor("its programs", async () => (await status()).devices.every((device) => device.attached));
  ip(world.node, ["addr del 192.0.2.9/24 dev eth9", "addr add 192.0.2.10/24 dev eth9"]);
  await waitFor("the address", () => devices().includes("192.0.2.10 :: 1400"));
  ip(world.node, ["link del eth9"]);
  setConfig({});
  await waitFor("the first device alone", () => devices().join() === one.join());
});

test("a broken manifest leaves what was in force, and is told", async () => {
  writeFileSync(configPath, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cilium-config\n");
  await waitFor("the fault", async () =>
    (await status()).faults.some((fault) => fault.includes("config.yaml")),
  );
  assert.ok(exclusions().includes("10.244.0.0/16 5"));
  setConfig({});
  await waitFor("the fault to go", async () => (await status()).faults.length === 0);
});

test("the monitor tells a new flow with its pod and rule", async () => {
  const pod = await addPod("talk");
  const stop = new AbortController();
  const flows = followFlows(join(node.runDir, "agent.sock"), stop.signal);
  const first = flows.next();
  await waitFor("the listener", async () => (await status()).monitor.clients === 1);
  await peersSeen(pod, [`tcp:${INTERNET_ADDRESS[4]}`]);
  const item = (await first).value;
  assert.ok(item && "flow" in item);
  assert.equal(item.flow.source.name, "default/talk");
  assert.equal(item.flow.rule, 9);
  assert.equal(item.flow.translated?.source.split(":")[0], NODE_ADDRESS[4]);
  stop.abort();
  await flows.return(undefined);
  await waitFor("the listener to leave", async () => (await status()).monitor.clients === 0);
  await removePod("talk", pod);
});

test("the pod's CiliumEndpoint and the node's CiliumNode are in the API", async () => {
  const api = { socketPath: join(node.runDir, "api.sock") };
  const pod = await addPod("known");
  const path = "/apis/cilium.io/v2/namespaces/default/ciliumendpoints/known";
  interface Object {
    status?: { networking: { addressing: { ipv4: string }[] } };
    spec?: { ipam: { podCIDRs: string[] } };
  }
  const object = await waitFor("the object", () => ask<Object>({ ...api, path }));
  const [endpoint] = await node.get<EndpointReport[]>("/v1/endpoints");
  assert.equal(object.status?.networking.addressing[0]?.ipv4, endpoint?.ipv4);
  const self = await ask<Object>({ ...api, path: `/apis/cilium.io/v2/ciliumnodes/${NODE_NAME}` });
  assert.deepEqual(self.spec?.ipam.podCIDRs, ["10.244.1.0/24", "fd00:10:244:1::/64"]);
  await removePod("known", pod);
  await waitFor("the object to go", () =>
    ask({ ...api, path }).then(
      () => false,
      () => true,
    ),
  );
});

test("a second agent in the same folder is refused and does no harm", async () => {
  const argv = [
    process.execPath,
    join(import.meta.dirname, "../../src/bin/agent.ts"),
    "--run-dir",
    node.runDir,
  ];
  const second = await world.run(world.node, [
    ...argv,
    "--bpf-root",
    node.bpfRoot,
    "--api",
    "unix:///nowhere",
  ]);
  assert.equal(second.status, 3);
  assert.match(second.stderr, /an agent runs in .* already \(process \d+\)/);
  assert.equal((await status()).overall.state, "ok");
});

test("flags that make no sense end the start with status 2", async () => {
  const agent = [process.execPath, join(import.meta.dirname, "../../src/bin/agent.ts")];
  const wrong = await world.run(world.node, [...agent, "--mtu", "banana"]);
  assert.equal(wrong.status, 2);
  assert.match(wrong.stderr, /--mtu: "banana": not a whole number/);
  const unknown = await world.run(world.node, [...agent, "--banana"]);
  assert.equal(unknown.status, 2);
});

test("without its API server a restarted agent goes on with what it knew, and pods can be added", async () => {
  const pod = await addPod("stays");
  const [target4, target] = [`tcp:${INTERNET_ADDRESS[4]}`, `tcp:${INTERNET_ADDRESS[6]}`];
  await node.stop();
  const seen = { [target4]: NODE_ADDRESS[4], [target]: NODE_ADDRESS[6] };
  assert.deepEqual(await peersSeen(pod, [target4, target]), seen, "with the agent down");
  const log = openSync(node.logFile, "a", 0o600);
  const flags = {
    "node-name": NODE_NAME,
    "run-dir": node.runDir,
    "bpf-root": node.bpfRoot,
    api: "unix:///nowhere",
  };
  const argv = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
  const agent = world.spawn(
    world.node,
    [process.execPath, join(import.meta.dirname, "../../src/bin/agent.ts"), ...argv],
    { stdio: ["ignore", log, log] },
  );
  await waitFor("the agent", async () => (await status()).config.fromState);
  const report = await status();
  assert.equal(report.kubernetes.state, "failure");
  assert.equal(report.endpoints.ready, 1);
  assert.ok(exclusions().includes("10.244.0.0/16 5"));
  assert.ok(exclusions().includes("203.0.113.0/24 7"));
  const late = await addPod("late");
  assert.deepEqual(await peersSeen(late, [target]), { [target]: NODE_ADDRESS[6] });
  assert.deepEqual(await peersSeen(pod, [target]), { [target]: NODE_ADDRESS[6] });
  await removePod("late", late);
  await removePod("stays", pod);
  const ended = new Promise((resolve) => agent.once("exit", resolve));
  agent.kill("SIGTERM");
  assert.equal(await ended, 0);
});
