// SPDX-License-Identifier: Apache-2.0
// The agent's list and watch against the embedded API server: what changes is told, what is wrong is kept out, and no
// loss of the server, short or long, loses an object.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { type ApiServer, startApiServer } from "../../src/apiserver/server.ts";
import { waitFor } from "../../src/base/async.ts";
import { silentLog } from "../../src/base/log.ts";
import { formatPrefix, parsePrefix } from "../../src/base/prefix.ts";
import { type ApiObject, KubeClient, statusOf } from "../../src/source/client.ts";
import { decodeConfigMap } from "../../src/source/config-map.ts";
import { decodeNode, type NodeObject } from "../../src/source/node.ts";
import { Watcher, type WatchSpec } from "../../src/source/watch.ts";

const log = silentLog();
let dir: string;
let unixSocket: string;
let server: ApiServer | undefined;
let client: KubeClient;
let watchers: Watcher<unknown>[];

before(() => {
  dir = mkdtempSync(join(tmpdir(), "hlt-watch-"));
  unixSocket = join(dir, "api.sock");
});
after(() => rmSync(dir, { recursive: true }));
beforeEach(async () => {
  server = await startApiServer({ unixSocket, log });
  client = new KubeClient({ api: `unix://${unixSocket}` });
  watchers = [];
});
afterEach(async () => {
  await Promise.all(watchers.map((watcher) => watcher.stop()));
  await client.close();
  await server?.close();
});

function follow<T>(spec: Omit<WatchSpec<T>, "onChange" | "name">): Watcher<T> {
  const watcher = new Watcher<T>(client, { name: "test", onChange: () => undefined, ...spec }, log);
  watchers.push(watcher as Watcher<unknown>);
  watcher.run();
  return watcher;
}

const NODES = "/api/v1/nodes";
const node = (name: string, podCIDR: string) => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name },
  spec: { podCIDR, podCIDRs: [podCIDR] },
});
const followNodes = () => follow({ path: NODES, decode: decodeNode });
const seen = (watcher: Watcher<NodeObject>): string =>
  [...watcher.objects]
    .map(([name, n]) => `${name} ${n.podCidrs[0]?.address}`)
    .sort()
    .join(", ");
const shows = (watcher: ReturnType<typeof followNodes>, expected: string) =>
  waitFor(`"${expected}" instead of "${seen(watcher)}"`, () => watcher.synced && seen(watcher) === expected);

test("objects that are there, come, change and go", async () => {
  await client.create(NODES, node("a", "10.1.0.0/24"));
  const watcher = followNodes();
  await shows(watcher, "a 10.1.0.0");
  await client.create(NODES, node("b", "10.2.0.0/24"));
  await shows(watcher, "a 10.1.0.0, b 10.2.0.0");
  await client.merge(`${NODES}/b`, { metadata: { annotations: { line: "one\u2028two\u2029three" } } });
  await client.merge(`${NODES}/a`, { spec: { podCIDRs: ["10.9.0.0/24"] } });
  await shows(watcher, "a 10.9.0.0, b 10.2.0.0");
  await client.delete(`${NODES}/a`);
  await client.delete(`${NODES}/a`);
  await shows(watcher, "b 10.2.0.0");
  assert.equal(watcher.health().relists, 1);
});

test("Unicode line ends inside an object do not tear its event apart", async () => {
  const maps = "/api/v1/namespaces/kube-system/configmaps";
  const watcher = follow({ path: maps, decode: decodeConfigMap });
  await waitFor("the first list", () => watcher.synced);
  const data = { text: "one\u2028two\u2029three" };
  await client.create(maps, { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "odd" }, data });
  await waitFor("the object", () => watcher.objects.get("kube-system/odd")?.data.get("text") === data.text);
});

test("an object that cannot be used keeps its last good version and is told", async () => {
  const maps = "/api/v1/namespaces/kube-system/configmaps";
  const cidr = (text: string) => ({ data: { cidr: text } });
  const decode = (object: ApiObject) =>
    formatPrefix(parsePrefix(decodeConfigMap(object).data.get("cidr") ?? ""));
  await client.create(maps, {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "a" },
    ...cidr("10.0.0.0/8"),
  });
  const watcher = follow({ path: maps, decode });
  const value = () => watcher.objects.get("kube-system/a");
  await waitFor("the good version", () => value() === "10.0.0.0/8");
  await client.merge(`${maps}/a`, cidr("10.0.0.0/33"));
  await waitFor("the fault", () => watcher.faults.length === 1);
  assert.equal(watcher.faults[0]?.detail, '"10.0.0.0/33": prefix length over 32');
  assert.equal(value(), "10.0.0.0/8");
  await client.merge(`${maps}/a`, cidr("11.0.0.0/8"));
  await waitFor("the next good version", () => value() === "11.0.0.0/8");
  assert.deepEqual(watcher.faults, []);
});

test("the server goes away and comes back with other objects", async () => {
  await client.create(NODES, node("a", "10.1.0.0/24"));
  const watcher = followNodes();
  await shows(watcher, "a 10.1.0.0");
  await server?.close();
  await waitFor("the loss to be noticed", () => !watcher.health().connected);
  assert.equal(seen(watcher), "a 10.1.0.0", "what is known stays in force");
  server = await startApiServer({ unixSocket, log });
  await client.create(NODES, node("b", "10.2.0.0/24"));
  await shows(watcher, "b 10.2.0.0");
  await waitFor("health", () => watcher.health().connected && watcher.health().lastError === undefined);
});

test("a kind that the server does not have counts as empty only where it may be missing", async () => {
  const path = "/apis/example.com/v1/things";
  const optional = follow({ path, optional: true, decode: () => 1 });
  const needed = follow({ path, decode: () => 1 });
  await waitFor("the optional one", () => optional.synced);
  await waitFor("the needed one to complain", () => needed.health().lastError !== undefined);
  assert.equal(needed.synced, false);
});

test("a field selector limits what is followed", async () => {
  const maps = "/api/v1/namespaces/kube-system/configmaps";
  for (const name of ["one", "two"]) {
    await client.create(maps, { apiVersion: "v1", kind: "ConfigMap", metadata: { name }, data: { name } });
  }
  const query = { fieldSelector: "metadata.name=two" };
  const watcher = follow({ path: maps, query, decode: decodeConfigMap });
  await waitFor("the first list", () => watcher.synced);
  assert.deepEqual([...watcher.objects.keys()], ["kube-system/two"]);
});

test("refusals keep the server's status and words; no server is another fault", async () => {
  await assert.rejects(client.get(`${NODES}/nobody`), (thrown) => {
    assert.equal(statusOf(thrown), 404);
    assert.match(String(thrown), /nodes "nobody" not found/);
    return true;
  });
  const nowhere = new KubeClient({ api: `unix://${dir}/nothing.sock` });
  await assert.rejects(nowhere.get(NODES), { code: "API_UNREACHABLE", message: /nothing\.sock.*ENOENT/ });
  await nowhere.close();
  assert.throws(() => new KubeClient({ api: "ftp://x" }), { code: "API_ADDRESS" });
  assert.throws(() => new KubeClient({ api: "unix://run/x" }), { code: "API_ADDRESS" });
});
