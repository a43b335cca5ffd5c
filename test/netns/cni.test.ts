// SPDX-License-Identifier: Apache-2.0
// The CNI contract, kept by the real plugin process and a real agent: every command, twice where the specification
// says that it may come twice, with wrong inputs, and with the agent down.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { waitFor } from "../../src/base/async.ts";
import { peersSeen } from "../support/ask.ts";
import { AgentNode, type PluginCall, type PluginResult } from "../support/cni-node.ts";
import {
  buildTopology,
  INTERNET_ADDRESS,
  ip,
  NODE_ADDRESS,
  NON_MASQUERADE_ADDRESS,
  type Topology,
} from "../support/netns.ts";

let world: Topology;
let node: AgentNode;
let emptyNode: string[];

interface Endpoint {
  containerId: string;
  device: string;
  namespace: string;
  pod: string;
}

const endpoints = (): Promise<Endpoint[]> => node.get<Endpoint[]>("/v1/endpoints");
const internet = ["http", "tcp", "udp"].flatMap((p) => [
  `${p}:${INTERNET_ADDRESS[4]}`,
  `${p}:${INTERNET_ADDRESS[6]}`,
]);

/** Devices of a namespace, by name. */
async function devices(netns: string): Promise<string[]> {
  const { stdout } = await world.run(netns, ["ip", "-j", "link"]);
  return (JSON.parse(stdout) as { ifname: string }[]).map((l) => l.ifname).sort();
}

async function inUse(): Promise<number> {
  const { ipam } = await node.get<{ ipam: { ipv4: { inUse: number }; ipv6: { inUse: number } } }>(
    "/v1/status",
  );
  assert.equal(ipam.ipv4.inUse, ipam.ipv6.inUse);
  return ipam.ipv4.inUse;
}

/** Every trace of a pod is gone. */
async function assertEmpty(): Promise<void> {
  assert.deepEqual(await endpoints(), []);
  assert.deepEqual(await devices(world.node), emptyNode);
  assert.equal(await inUse(), 0);
}

function assertError(result: PluginResult, code: number, text: RegExp): void {
  assert.equal(result.status, 1, JSON.stringify(result));
  assert.equal(result.json?.code, code, JSON.stringify(result.json));
  assert.match(`${result.json.msg} | ${result.json.details}`, text);
}

async function call(command: string, options: PluginCall): Promise<PluginResult> {
  const result = await node.call(command, options);
  assert.equal(result.status, 0, `${command}: ${JSON.stringify(result.json)}\n${node.logTail()}`);
  return result;
}

async function assertMasqueraded(netns: string): Promise<void> {
  const expected = internet.map((t) => [t, t.includes("2001:") ? NODE_ADDRESS[6] : NODE_ADDRESS[4]]);
  assert.deepEqual(await peersSeen(netns, internet), Object.fromEntries(expected));
}

before(async () => {
  world = await buildTopology();
  node = new AgentNode(world);
  await node.start();
  emptyNode = await devices(world.node);
});
after(() => world?.[Symbol.asyncDispose]());

test("VERSION lists what we speak", async () => {
  const { json } = await call("VERSION", { stdin: '{"cniVersion":"1.0.0"}' });
  assert.deepEqual(json, { cniVersion: "1.0.0", supportedVersions: ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] });
});

test("STATUS is content and silent", async () => {
  const { json } = await call("STATUS", {});
  assert.equal(json, undefined);
});

test("ADD, CHECK, DEL: the pod is reachable, seen as described, and gone; each may come twice", async () => {
  const pod = world.addNetns("pod");
  const args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0";
  const attachment = { containerId: "pod-1", netns: pod, args };
  const added = await call("ADD", attachment);
  const { cniVersion, interfaces, ips, routes } = added.json;
  assert.equal(cniVersion, "1.1.0");
  assert.equal(interfaces[1].name, "eth0");
  assert.equal(interfaces[1].sandbox, `/run/netns/${pod}`);
  assert.equal(interfaces[1].mtu, 1500);
  assert.match(ips[0].address, /^10\.244\.1\.\d+\/32$/);
  assert.match(ips[1].address, /^fd00:10:244:1::[0-9a-f]+\/128$/);
  assert.deepEqual(
    routes.map((r: { dst: string }) => r.dst),
    ["0.0.0.0/0", "::/0"],
  );

  const [v4, v6] = ips.map((i: { address: string }) => i.address.split("/")[0]);
  const shown = await world.run(pod, ["ip", "-j", "address", "show", "dev", "eth0"]);
  const [link] = JSON.parse(shown.stdout);
  assert.equal(link.address, interfaces[1].mac);
  const locals = link.addr_info.filter((a: { scope: string }) => a.scope === "global");
  assert.deepEqual(
    locals.map((a: { local: string }) => a.local),
    [v4, v6],
  );
  assert.ok((await devices(world.node)).includes(interfaces[0].name));
  const [endpoint] = await endpoints();
  assert.equal(endpoint?.device, interfaces[0].name);
  assert.deepEqual([endpoint?.namespace, endpoint?.pod], ["default", "web-0"]);

  await assertMasqueraded(pod);
  const kept = [`tcp:${NON_MASQUERADE_ADDRESS[4]}`, `udp:${NON_MASQUERADE_ADDRESS[6]}`];
  assert.deepEqual(await peersSeen(pod, kept), { [kept[0] as string]: v4, [kept[1] as string]: v6 });

  assert.deepEqual((await call("ADD", attachment)).json, added.json);
  await call("CHECK", { ...attachment, config: { prevResult: added.json } });
  await call("DEL", { ...attachment, config: { prevResult: added.json } });
  await call("DEL", attachment);
  await call("DEL", { containerId: "pod-1" });
  assert.deepEqual(await devices(pod), ["lo"]);
  await assertEmpty();
  const check = await node.call("CHECK", { ...attachment, config: { prevResult: added.json } });
  assertError(check, 3, /container pod-1 has no interface eth0/);
  world.removeNetns(pod);
});

test("two interfaces of one container are two attachments", async () => {
  const pod = world.addNetns("two");
  for (const ifName of ["eth0", "net1"]) await call("ADD", { containerId: "two", netns: pod, ifName });
  assert.deepEqual(await devices(pod), ["eth0", "lo", "net1"]);
  await call("DEL", { containerId: "two", netns: pod, ifName: "net1" });
  assert.deepEqual(await devices(pod), ["eth0", "lo"]);
  await assertMasqueraded(pod);
  await call("DEL", { containerId: "two", netns: pod, ifName: "eth0" });
  await assertEmpty();
  world.removeNetns(pod);
});

const broken: [what: string, command: string, report: RegExp][] = [
  ["without its IPv4 address", "address flush dev eth0 scope global", /address/i],
  ["with its device down", "link set eth0 down", /down|route/i],
  ["without its default route", "route del default", /route/i],
  ["without its device", "link del eth0", /eth0|device/i],
];
for (const [what, command, report] of broken) {
  test(`CHECK reports a pod ${what}, and DEL cleans it up`, async () => {
    const pod = world.addNetns("broken");
    const attachment = { containerId: "broken", netns: pod };
    const { json } = await call("ADD", attachment);
    ip(pod, [command]);
    const check = await node.call("CHECK", { ...attachment, config: { prevResult: json } });
    assertError(check, 102, report);
    await call("DEL", attachment);
    await assertEmpty();
    world.removeNetns(pod);
  });
}

for (const cniVersion of ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]) {
  test(`a runtime of version ${cniVersion} gets its format, after the result of an earlier plugin`, async () => {
    const pod = world.addNetns("version");
    const prevResult = { cniVersion, interfaces: [{ name: "lo", sandbox: "x" }], ips: [], dns: {} };
    const { json } = await call("ADD", { containerId: "v", netns: pod, config: { cniVersion, prevResult } });
    assert.equal(json.cniVersion, cniVersion);
    assert.deepEqual(json.interfaces.map((i: { name: string }) => i.name).toSpliced(1, 1), ["lo", "eth0"]);
    const old = cniVersion.startsWith("0.");
    assert.deepEqual(
      json.ips.map((i: { version?: string; interface: number }) => [i.version, i.interface]),
      old
        ? [
            ["4", 2],
            ["6", 2],
          ]
        : [
            [undefined, 2],
            [undefined, 2],
          ],
    );
    assert.equal(json.interfaces[2].mtu, cniVersion === "1.1.0" ? 1500 : undefined);
    await call("DEL", { containerId: "v", netns: pod, config: { cniVersion, prevResult: json } });
    world.removeNetns(pod);
  });
}

const wrong: [what: string, command: string, options: PluginCall, code: number, text: RegExp][] = [
  ["no configuration", "ADD", { containerId: "x", netns: "/run/netns/x", stdin: "" }, 6, /JSON/],
  [
    "a version of the future",
    "ADD",
    { containerId: "x", netns: "x", config: { cniVersion: "3.0.0" } },
    1,
    /3\.0\.0/,
  ],
  ["no container id", "ADD", { netns: "x" }, 4, /CNI_CONTAINERID/],
  ["no namespace", "ADD", { containerId: "x" }, 4, /CNI_NETNS/],
  ["a namespace that is not there", "ADD", { containerId: "x", netns: "hlt-no-such" }, 101, /hlt-no-such/],
  ["a namespace that is a file", "ADD", { containerId: "x", netns: "/etc/hostname" }, 101, /hostname/],
  [
    "an unknown container",
    "CHECK",
    { containerId: "x", netns: "x", config: { prevResult: {} } },
    3,
    /no interface/,
  ],
  ["an unknown command", "FLY", {}, 4, /FLY/],
];
for (const [what, command, options, code, text] of wrong) {
  test(`${command} with ${what} fails with code ${code} and leaves nothing behind`, async () => {
    assertError(await node.call(command, options), code, text);
    await assertEmpty();
  });
}

test("ADD of an interface name that the pod has already fails and leaves nothing behind", async () => {
  const pod = world.addNetns("taken");
  ip(pod, ["link add eth0 type veth peer name eth1"]);
  assertError(await node.call("ADD", { containerId: "taken", netns: pod }), 101, /eth0/);
  await assertEmpty();
  assert.deepEqual(await devices(pod), ["eth0", "eth1", "lo"]);
  world.removeNetns(pod);
});

test("DEL succeeds when the pod's namespace has gone", async () => {
  const pod = world.addNetns("gone");
  await call("ADD", { containerId: "gone", netns: pod });
  world.removeNetns(pod);
  await call("DEL", { containerId: "gone", netns: pod });
  await assertEmpty();
});

test("GC removes what the runtime does not list, of its network only", async () => {
  const pods = ["gc1", "gc2", "gc3"].map((name) => ({ containerId: name, netns: world.addNetns(name) }));
  const [first, second, third] = pods as [PluginCall, PluginCall, PluginCall];
  await call("ADD", first);
  await call("ADD", second);
  await call("ADD", { ...third, config: { name: "other" } });
  const valid = [{ containerID: "gc2", ifname: "eth0" }];
  await call("GC", { config: { "cni.dev/valid-attachments": valid } });
  const left = (await endpoints()).map((e) => e.containerId).sort();
  assert.deepEqual(left, ["gc2", "gc3"]);
  await assertMasqueraded(second.netns ?? "");
  await call("GC", { config: { "cni.dev/valid-attachments": [] } });
  await call("GC", { config: { name: "other", "cni.dev/valid-attachments": [] } });
  await assertEmpty();
  for (const { netns } of pods) world.removeNetns(netns);
});

test("with the agent down pods go on, ADD says what to do, DEL is done by the next agent", async () => {
  const stays = world.addNetns("stays");
  const goes = world.addNetns("goes");
  const added = await call("ADD", { containerId: "stays", netns: stays });
  await call("ADD", { containerId: "goes", netns: goes });
  await node.stop("SIGKILL");
  await assertMasqueraded(stays);

  const late = world.addNetns("late");
  const refused = await node.call("ADD", { containerId: "late", netns: late });
  assertError(refused, 11, /the hookline agent does not answer on this node; start it.*agent\.sock/);
  process.stdout.write(`# ADD with the agent down failed after ${Math.round(refused.ms)} ms\n`);
  assertError(await node.call("STATUS"), 50, /start it/);
  await call("DEL", { containerId: "goes", netns: goes });
  await call("DEL", { containerId: "goes", netns: goes });
  const queue = join(node.runDir, "cni/deletes");
  assert.deepEqual(readdirSync(queue), ["goes@eth0.json"]);
  world.removeNetns(goes);

  await node.start();
  await waitFor("the queued DEL", () => readdirSync(queue).length === 0);
  assert.deepEqual(
    (await endpoints()).map((e) => e.containerId),
    ["stays"],
  );
  await assertMasqueraded(stays);
  await call("CHECK", { containerId: "stays", netns: stays, config: { prevResult: added.json } });
  assert.deepEqual((await call("ADD", { containerId: "stays", netns: stays })).json, added.json);
  await call("ADD", { containerId: "late", netns: late });
  await assertMasqueraded(late);
  for (const containerId of ["stays", "late"]) await call("DEL", { containerId });
  await assertEmpty();
});

test("an ADD that comes while the agent restarts waits for it", async () => {
  const pod = world.addNetns("early");
  const addMeanwhile = async (): Promise<PluginResult> => {
    await node.stop();
    const added = node.call("ADD", { containerId: "early", netns: pod });
    await node.start();
    return added;
  };
  let { status, json } = await addMeanwhile();
  // A busy machine may take longer over the start than the plugin waits for an agent; then it is asked again.
  for (let again = 0; again < 10 && json?.code === 11; again++) ({ status, json } = await addMeanwhile());
  assert.equal(status, 0, JSON.stringify(json));
  await assertMasqueraded(pod);
  await call("DEL", { containerId: "early", netns: pod });
  await assertEmpty();
});
