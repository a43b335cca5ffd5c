// SPDX-License-Identifier: Apache-2.0
// The official client library against the embedded API server, over the unix socket and over TLS: typed calls, the
// informer, bookmarks, and recovery from 410 Gone.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import {
  type ApiException,
  CoreV1Api,
  CustomObjectsApi,
  DiscoveryV1Api,
  KubeConfig,
  makeInformer,
  type RequestContext,
  type V1ConfigMap,
  type V1Pod,
  Watch,
} from "@kubernetes/client-node";
import { Agent } from "undici";
import { type ApiServer, startApiServer } from "../../src/apiserver/server.ts";
import { waitFor } from "../../src/base/async.ts";
import { silentLog } from "../../src/base/log.ts";
import { rawRequest } from "./raw-request.ts";

/** The library with all its connections made over a unix socket. */
class UnixConfig extends KubeConfig {
  readonly #agent: Agent;

  constructor(socketPath: string) {
    super();
    this.#agent = new Agent({ connect: { socketPath } });
    const cluster = { name: "unix", server: "http://localhost", skipTLSVerify: true };
    this.loadFromClusterAndUser(cluster, { name: "root" });
  }

  override async applySecurityAuthentication(context: RequestContext): Promise<void> {
    await super.applySecurityAuthentication(context);
    context.setDispatcher(this.#agent as never);
  }
}

const pod = (name: string, node?: string): V1Pod => ({
  metadata: { name, labels: { app: name } },
  spec: { containers: [{ name: "c", image: "x" }], ...(node ? { nodeName: node } : {}) },
});

const code = (expected: number) => (thrown: ApiException<unknown>) => {
  assert.equal(thrown.code, expected);
  return true;
};

/** Follows one path with the library's Watch; what it saw and how it ended. */
async function follow(config: KubeConfig, path: string, query: Record<string, string>) {
  const seen: { type: string; object: Record<string, never> & { metadata: Record<string, unknown> } }[] = [];
  let ended = false;
  const watch = await new Watch(config).watch(
    path,
    query,
    (type, object) => seen.push({ type, object }),
    () => {
      ended = true;
    },
  );
  return { seen, stop: () => watch.abort(), ended: () => ended };
}

let folder: string;
let server: ApiServer;
const socketPath = () => join(folder, "run", "api.sock");

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "hlt-client-"));
  server = await startApiServer({
    unixSocket: socketPath(),
    tcp: { host: "127.0.0.1", port: 0, kubeconfig: join(folder, "run", "kubeconfig") },
    limits: { historyEvents: 20, bookmarkMs: 100 },
    log: silentLog(),
  });
});
after(async () => {
  await server.close();
  assert.equal(existsSync(socketPath()), false, "the socket is removed");
  rmSync(folder, { recursive: true, force: true });
});

const endpoints: [name: string, config: () => KubeConfig][] = [
  ["unix socket", () => new UnixConfig(socketPath())],
  [
    "TLS",
    () => {
      const config = new KubeConfig();
      config.loadFromFile(join(folder, "run", "kubeconfig"));
      return config;
    },
  ],
];

for (const [name, configOf] of endpoints) {
  describe(`client library over ${name}`, () => {
    let config: KubeConfig;
    let core: CoreV1Api;
    const namespace = name.split(" ")[0]?.toLowerCase() as string;

    before(async () => {
      config = configOf();
      core = config.makeApiClient(CoreV1Api);
      await core.createNamespace({ body: { metadata: { name: namespace } } });
    });

    test("creates, reads, replaces, patches, deletes", async () => {
      const created = await core.createNamespacedPod({ namespace, body: pod("a") });
      assert.equal(created.status?.phase, "Pending");
      assert.equal(created.spec?.restartPolicy, "Always");
      assert.ok(created.metadata?.uid);
      assert.ok(created.metadata?.creationTimestamp instanceof Date);
      await assert.rejects(core.createNamespacedPod({ namespace, body: pod("a") }), code(409));
      const read = await core.readNamespacedPod({ namespace, name: "a" });
      read.metadata = { ...read.metadata, labels: { app: "changed" } };
      const replaced = await core.replaceNamespacedPod({ namespace, name: "a", body: read });
      assert.deepEqual(replaced.metadata?.labels, { app: "changed" });
      await assert.rejects(core.replaceNamespacedPod({ namespace, name: "a", body: read }), code(409));
      await core.createNamespacedPodBinding({
        namespace,
        name: "a",
        body: { metadata: { name: "a" }, target: { kind: "Node", name: "n1" } },
      });
      assert.equal((await core.readNamespacedPod({ namespace, name: "a" })).spec?.nodeName, "n1");
      await core.deleteNamespacedPod({ namespace, name: "a" });
      await assert.rejects(core.readNamespacedPod({ namespace, name: "a" }), code(404));
    });

    test("lists in pages that show one moment", async () => {
      for (let i = 0; i < 5; i++) {
        const body: V1ConfigMap = { metadata: { name: `page${i}` }, data: { n: String(i) } };
        await core.createNamespacedConfigMap({ namespace, body });
      }
      const first = await core.listNamespacedConfigMap({ namespace, limit: 2 });
      assert.ok(first.metadata?._continue);
      await core.deleteNamespacedConfigMap({ namespace, name: "page3" });
      await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: "page9" } } });
      const rest = await core.listNamespacedConfigMap({ namespace, _continue: first.metadata._continue });
      const names = [...first.items, ...rest.items].map((item) => item.metadata?.name);
      assert.deepEqual(names, ["page0", "page1", "page2", "page3", "page4"]);
      assert.equal(rest.metadata?.resourceVersion, first.metadata.resourceVersion);
      await core.deleteCollectionNamespacedConfigMap({ namespace });
      assert.equal((await core.listNamespacedConfigMap({ namespace })).items.length, 0);
    });

    test("an informer follows what happens", async () => {
      const told: string[] = [];
      const path = `/api/v1/namespaces/${namespace}/pods`;
      await core.createNamespacedPod({ namespace, body: pod("before") });
      const informer = makeInformer(config, path, () => core.listNamespacedPod({ namespace }));
      for (const verb of ["add", "update", "delete"] as const) {
        informer.on(verb, (object: V1Pod) => told.push(`${verb} ${object.metadata?.name}`));
      }
      await informer.start();
      await core.createNamespacedPod({ namespace, body: pod("later") });
      const status = { status: { phase: "Running" } };
      const answer = await rawRequest(socketPath(), "PATCH", `${path}/later/status`, {
        body: status,
        type: "application/merge-patch+json",
      });
      assert.equal(answer.code, 200);
      await core.deleteNamespacedPod({ namespace, name: "before" });
      await waitFor(`three events in ${told}`, () => told.length >= 4);
      await informer.stop();
      assert.deepEqual(told, ["add before", "add later", "update later", "delete before"]);
      assert.equal(informer.get("later", namespace)?.status?.phase, "Running");
    });

    test("a watch from an old version replays, from a forgotten one says 410 and an informer lists again", async () => {
      const path = `/api/v1/namespaces/${namespace}/configmaps`;
      const list = await core.listNamespacedConfigMap({ namespace });
      const version = list.metadata?.resourceVersion as string;
      await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: "x" } } });
      await core.deleteNamespacedConfigMap({ namespace, name: "x" });
      const replay = await follow(config, path, { resourceVersion: version });
      await waitFor("the replay", () => replay.seen.length === 2);
      assert.deepEqual(
        replay.seen.map((event) => event.type),
        ["ADDED", "DELETED"],
      );
      replay.stop();
      for (let i = 0; i < 40; i++) {
        await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: `churn${i}` } } });
      }
      const gone = await follow(config, path, { resourceVersion: version });
      await waitFor("the end of the watch", gone.ended);
      assert.deepEqual(
        gone.seen.map((event) => event.type),
        ["ERROR"],
      );
      assert.equal(gone.seen[0]?.object.code, 410);

      let lists = 0;
      const informer = makeInformer(config, path, async () => {
        lists += 1;
        const fresh = await core.listNamespacedConfigMap({ namespace });
        // The first list pretends to be older than all history, as after a long disconnection.
        if (lists === 1 && fresh.metadata) fresh.metadata.resourceVersion = version;
        return fresh;
      });
      await informer.start();
      await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: "after" } } });
      await waitFor("the object after the second list", () => informer.get("after", namespace) !== undefined);
      assert.equal(lists, 2);
      await informer.stop();
      await core.deleteCollectionNamespacedConfigMap({ namespace });
    });

    test("bookmarks, initial events and timeouts", async () => {
      const path = `/api/v1/namespaces/${namespace}/secrets`;
      await core.createNamespacedSecret({
        namespace,
        body: { metadata: { name: "s" }, stringData: { a: "b" } },
      });
      const watch = await follow(config, path, {
        allowWatchBookmarks: "true",
        sendInitialEvents: "true",
        resourceVersionMatch: "NotOlderThan",
        timeoutSeconds: "2",
      });
      await waitFor("the end of the watch", watch.ended);
      const types = watch.seen.map((event) => event.type);
      assert.deepEqual(types.slice(0, 2), ["ADDED", "BOOKMARK"]);
      const annotations = watch.seen[1]?.object.metadata.annotations as Record<string, string>;
      assert.equal(annotations["k8s.io/initial-events-end"], "true");
      assert.ok(types.length > 3 && types.slice(1).every((type) => type === "BOOKMARK"), types.join(" "));
      assert.ok(Number(watch.seen.at(-1)?.object.metadata.resourceVersion) > 0);
    });

    test("selectors make objects enter and leave a watch", async () => {
      const path = `/api/v1/namespaces/${namespace}/pods`;
      const { metadata } = await core.listNamespacedPod({ namespace });
      const watch = await follow(config, path, {
        resourceVersion: metadata?.resourceVersion as string,
        fieldSelector: "spec.nodeName=n7",
        labelSelector: "app=mover",
      });
      await core.createNamespacedPod({ namespace, body: pod("mover") });
      const merge = (body: object) =>
        rawRequest(socketPath(), "PATCH", `${path}/mover`, { body, type: "application/merge-patch+json" });
      await merge({ spec: { nodeName: "n7" } });
      await merge({ metadata: { annotations: { a: "b" } } });
      await merge({ metadata: { labels: { app: "other" } } });
      await core.deleteNamespacedPod({ namespace, name: "mover" });
      await waitFor("three events", () => watch.seen.length >= 3);
      watch.stop();
      assert.deepEqual(
        watch.seen.map((event) => event.type),
        ["ADDED", "MODIFIED", "DELETED"],
      );
    });

    test("custom resources, with and without a status subresource", async () => {
      const custom = config.makeApiClient(CustomObjectsApi);
      const at = { group: "cilium.io", version: "v2" };
      const endpoint = {
        apiVersion: "cilium.io/v2",
        kind: "CiliumEndpoint",
        metadata: { name: "web" },
        status: {
          id: 7,
          state: "ready",
          identity: { id: 4711, labels: ["k8s:app=web"] },
          networking: { addressing: [{ ipv4: "10.244.1.5", ipv6: "fd00:10:244:1::5" }], node: "172.20.0.11" },
        },
      };
      const endpoints = { ...at, namespace, plural: "ciliumendpoints" };
      const created = await custom.createNamespacedCustomObject({ ...endpoints, body: endpoint });
      assert.deepEqual(created.status, endpoint.status, "Cilium's endpoints are created with their status");
      assert.equal(created.metadata.generation, 1);

      const node = { apiVersion: "cilium.io/v2", kind: "CiliumNode", metadata: { name: `${namespace}-n1` } };
      const spec = {
        addresses: [{ type: "InternalIP", ip: "172.20.0.11" }],
        ipam: { podCIDRs: ["10.244.1.0/24"] },
      };
      const nodes = { ...at, plural: "ciliumnodes" };
      const made = await custom.createClusterCustomObject({
        ...nodes,
        body: { ...node, spec, status: { lost: true } },
      });
      assert.equal(made.status, undefined, "status is written through its subresource");
      const name = node.metadata.name;
      await custom.replaceClusterCustomObjectStatus({
        ...nodes,
        name,
        body: { ...made, spec: {}, status: { ipam: {} } },
      });
      const read = await custom.getClusterCustomObject({ ...nodes, name });
      assert.deepEqual(read.status, { ipam: {} });
      assert.deepEqual(read.spec, spec, "the status subresource changes nothing else");
      assert.equal(read.metadata.generation, 1);
      const slices = await config.makeApiClient(DiscoveryV1Api).listEndpointSliceForAllNamespaces();
      assert.deepEqual(slices.items, []);
    });
  });
}

test("files and endpoints are private", async () => {
  assert.equal(statSync(socketPath()).mode & 0o777, 0o600);
  assert.equal(statSync(join(folder, "run")).mode & 0o777, 0o700);
  assert.equal(statSync(join(folder, "run", "kubeconfig")).mode & 0o777, 0o600);
  const config = new KubeConfig();
  config.loadFromFile(join(folder, "run", "kubeconfig"));
  Object.assign(config.getCurrentUser() as object, { token: "wrong" });
  await assert.rejects(config.makeApiClient(CoreV1Api).listNamespace(), code(401));
});

test("addresses other than loopback need to be asked for, and a real token", async () => {
  const log = silentLog();
  await assert.rejects(startApiServer({ tcp: { host: "0.0.0.0", port: 0 }, log }), { code: "LISTEN_UNSAFE" });
  await assert.rejects(startApiServer({ tcp: { host: "127.0.0.1", port: 0, token: "short" }, log }), {
    code: "LISTEN_UNSAFE",
  });
  await assert.rejects(startApiServer({ unixSocket: socketPath(), log }), { code: "LISTEN" });
});

test("a server that was killed leaves a socket that the next one takes", async () => {
  const path = join(folder, "stale.sock");
  const { spawnSync } = await import("node:child_process");
  const script = `require("node:net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
  spawnSync(process.execPath, ["-e", script]);
  assert.ok(statSync(path).isSocket());
  const next = await startApiServer({ unixSocket: path, log: silentLog() });
  assert.equal((await rawRequest(path, "GET", "/readyz")).text, "ok");
  await next.close();
});
