// SPDX-License-Identifier: Apache-2.0
// Writes and deletions without HTTP: what the server owns in an object, finalizers, owners, namespaces, CRDs, addresses.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import type { KubeObject } from "../json.ts";
import { KINDS } from "../kinds/kinds.ts";
import { DEFAULT_LIMITS } from "../limits.ts";
import { Registry, type Resource } from "../registry.ts";
import { builtinDefinitions } from "../schema/builtin.ts";
import { Clock } from "../store/collection.ts";
import { PLAIN_WRITE } from "./accept.ts";
import { PLAIN_DELETE, Remover } from "./remover.ts";
import { type Core, newCore, Writer } from "./writer.ts";

const definitions = await builtinDefinitions(KINDS.map((kind) => kind.model));
let core: Core;
let writer: Writer;
let remover: Remover;

beforeEach(() => start(false));

function start(podGrace: boolean): void {
  core = newCore(new Registry(new Clock(), DEFAULT_LIMITS), DEFAULT_LIMITS);
  core.definitions = definitions;
  remover = new Remover(core, podGrace);
  writer = new Writer(core, (resource, item) => remover.remove(resource, item));
  writer.plant(kind("namespaces"), { apiVersion: "v1", kind: "Namespace", metadata: { name: "default" } });
}

const kind = (plural: string): Resource => core.registry.builtin(plural);
const options = () => ({ ...PLAIN_WRITE, warnings: [] as string[] });
const create = (plural: string, object: object, namespace: string | undefined = "default") =>
  writer.create(
    kind(plural),
    kind(plural).namespaced ? namespace : undefined,
    structuredClone(object),
    options(),
  );
const at = (plural: string, name: string, namespace: string | undefined = "default") => ({
  resource: kind(plural),
  namespace: kind(plural).namespaced ? namespace : undefined,
  name,
});
const change = (plural: string, name: string, edit: (object: KubeObject) => void, subresource = "") =>
  writer.patch(
    at(plural, name),
    subresource,
    (object) => {
      edit(object);
      return object;
    },
    options(),
  );
const exists = (plural: string, name: string, namespace: string | undefined = "default") =>
  kind(plural).collection.get(kind(plural).namespaced ? namespace : undefined, name) !== undefined;
const map = (name: string, metadata: object = {}) => ({ metadata: { name, ...metadata } });
const pod = (name: string, spec: object = {}, metadata: object = {}) => ({
  metadata: { name, ...metadata },
  spec: { containers: [{ name: "c" }], ...spec },
});

test("the server owns identity, times, generation and status", () => {
  const lie = {
    uid: "mine",
    creationTimestamp: "2000-01-01T00:00:00Z",
    generation: 9,
    deletionTimestamp: "2000-01-01T00:00:00Z",
  };
  const made = create("pods", { ...pod("a", {}, lie), status: { phase: "Running" } });
  assert.notEqual(made.metadata.uid, "mine");
  assert.equal(made.metadata.generation, 1);
  assert.equal(made.metadata.deletionTimestamp, undefined);
  assert.deepEqual((made.status as { phase: string }).phase, "Pending");
  const changed = change("pods", "a", (o) => {
    Object.assign(o.metadata, { ...lie, uid: made.metadata.uid });
    o.status = { phase: "Failed" };
    (o.spec as { priority: number }).priority = 5;
  });
  assert.equal(changed.metadata.creationTimestamp, made.metadata.creationTimestamp);
  assert.equal(changed.metadata.generation, 2);
  assert.equal((changed.status as { phase: string }).phase, "Pending");
  const status = change(
    "pods",
    "a",
    (o) => {
      o.status = { phase: "Running" };
      (o.spec as { priority: number }).priority = 6;
    },
    "status",
  );
  assert.equal((status.status as { phase: string }).phase, "Running");
  assert.equal((status.spec as { priority: number }).priority, 5);
  assert.equal(status.metadata.generation, 2);
});

test("a write that changes nothing makes no version", () => {
  const made = create("configmaps", map("a"));
  const version = core.registry.builtin("configmaps").collection.version;
  assert.equal(change("configmaps", "a", () => {}).metadata.resourceVersion, made.metadata.resourceVersion);
  assert.equal(kind("configmaps").collection.version, version);
});

test("a dry run checks and stores nothing", () => {
  const dry = { ...options(), dryRun: true };
  assert.equal(writer.create(kind("configmaps"), "default", map("a"), dry).metadata.name, "a");
  assert.equal(exists("configmaps", "a"), false);
  assert.throws(() => writer.create(kind("configmaps"), "default", map("A"), dry), { code: "API_INVALID" });
});

test("generateName makes names that are free and valid", () => {
  const names = [1, 2, 3].map(() => create("configmaps", { metadata: { generateName: "x-" } }).metadata.name);
  assert.equal(new Set(names).size, 3);
  for (const name of names) assert.match(name, /^x-[a-z0-9]{5}$/);
});

test("an object with finalizers stays, marked, until the last one goes", () => {
  create("configmaps", map("a", { finalizers: ["example.org/x", "example.org/y"] }));
  const { object, gone } = remover.delete(at("configmaps", "a"), PLAIN_DELETE);
  assert.equal(gone, false);
  assert.ok(object.metadata.deletionTimestamp);
  change("configmaps", "a", (o) => {
    o.metadata.finalizers = ["example.org/y"];
  });
  assert.equal(exists("configmaps", "a"), true);
  change("configmaps", "a", (o) => {
    o.metadata.finalizers = [];
  });
  assert.equal(exists("configmaps", "a"), false);
});

test("preconditions guard a deletion", () => {
  const { metadata } = create("configmaps", map("a"));
  assert.throws(() => remover.delete(at("configmaps", "a"), { ...PLAIN_DELETE, uid: "other" }), {
    code: "API_CONFLICT",
  });
  assert.throws(() => remover.delete(at("configmaps", "a"), { ...PLAIN_DELETE, resourceVersion: "1" }), {
    code: "API_CONFLICT",
  });
  remover.delete(at("configmaps", "a"), {
    ...PLAIN_DELETE,
    uid: metadata.uid,
    resourceVersion: metadata.resourceVersion,
  });
  assert.equal(exists("configmaps", "a"), false);
});

test("what loses its last owner goes with it, unless it is orphaned", () => {
  const owner = (object: KubeObject) => ({
    apiVersion: "v1",
    kind: "Pod",
    name: object.metadata.name,
    uid: object.metadata.uid,
  });
  const a = create("pods", pod("a"));
  const b = create("pods", pod("b"));
  const child = create("configmaps", map("child", { ownerReferences: [owner(a)] }));
  create("configmaps", map("grandchild", { ownerReferences: [{ ...owner(child), kind: "ConfigMap" }] }));
  create("configmaps", map("shared", { ownerReferences: [owner(a), owner(b)] }));
  remover.delete(at("pods", "a"), PLAIN_DELETE);
  assert.equal(exists("configmaps", "child"), false);
  assert.equal(exists("configmaps", "grandchild"), false);
  assert.equal(exists("configmaps", "shared"), true);
  remover.delete(at("pods", "b"), { ...PLAIN_DELETE, orphan: true });
  assert.equal(exists("configmaps", "shared"), true);
});

test("a namespace goes when all that is in it has gone", () => {
  create("namespaces", { metadata: { name: "team" } });
  create("configmaps", map("plain"), "team");
  create("configmaps", map("held", { finalizers: ["example.org/x"] }), "team");
  assert.equal(remover.delete(at("namespaces", "team"), PLAIN_DELETE).gone, false);
  assert.equal(exists("configmaps", "plain", "team"), false);
  const namespace = kind("namespaces").collection.get(undefined, "team")?.object;
  assert.deepEqual(namespace?.status, { phase: "Terminating" });
  assert.throws(() => create("configmaps", map("new"), "team"), { code: "API_FORBIDDEN" });
  const released = (object: KubeObject) => ({ ...object, metadata: { ...object.metadata, finalizers: [] } });
  writer.patch(at("configmaps", "held", "team"), "", released, options());
  assert.equal(exists("namespaces", "team"), false);
});

test("with a pod runner, pods on a node stay until it is done", () => {
  start(true);
  create("pods", pod("bound", { nodeName: "n1" }));
  create("pods", pod("unbound"));
  assert.equal(remover.delete(at("pods", "unbound"), PLAIN_DELETE).gone, true);
  const { gone, object } = remover.delete(at("pods", "bound"), PLAIN_DELETE);
  assert.equal(gone, false);
  assert.equal(object.metadata.deletionGracePeriodSeconds, 30);
  assert.equal(remover.delete(at("pods", "bound"), { ...PLAIN_DELETE, gracePeriodSeconds: 0 }).gone, true);
});

test("a pod is bound once", () => {
  create("pods", pod("a"));
  writer.bind(at("pods", "a"), { target: { name: "n1" } }, options());
  assert.throws(() => writer.bind(at("pods", "a"), { target: { name: "n2" } }, options()), {
    code: "API_CONFLICT",
  });
  assert.throws(
    () => change("pods", "a", (o) => Object.assign(o.spec as object, { nodeName: "n2" })),
    /bound to n1/,
  );
});

const crd = (plural: string, kindName: string, versions: object[] = []) => ({
  metadata: { name: `${plural}.example.org` },
  spec: {
    group: "example.org",
    scope: "Namespaced",
    names: { plural, kind: kindName },
    versions: [
      {
        name: "v1",
        served: true,
        storage: true,
        schema: {
          openAPIV3Schema: {
            type: "object",
            properties: { spec: { type: "object", properties: { a: { type: "integer" } } } },
          },
        },
      },
      ...versions,
    ],
  },
});

test("a CRD serves its versions over one set of objects, and takes them along when it goes", () => {
  const second = { ...(crd("x", "X").spec.versions[0] as object), name: "v2", storage: false };
  const made = create("customresourcedefinitions", crd("lamps", "Lamp", [second]));
  assert.deepEqual((made.status as { storedVersions: string[] }).storedVersions, ["v1"]);
  const v1 = core.registry.find("example.org", "v1", "lamps") as Resource;
  const v2 = core.registry.find("example.org", "v2", "lamps") as Resource;
  writer.create(v1, "default", { metadata: { name: "a" }, spec: { a: 1, unknown: 2 } }, options());
  const item = v2.collection.get("default", "a");
  assert.deepEqual(item?.object.spec, { a: 1 }, "unknown fields are pruned");
  const changed = writer.patch(
    { resource: v2, namespace: "default", name: "a" },
    "",
    (o) => ({ ...o, spec: { a: 2 } }),
    options(),
  );
  assert.equal(changed.apiVersion, "example.org/v2");
  assert.equal(changed.metadata.generation, 2);
  let closedCalls = 0;
  v1.collection.subscribe({ event: () => {}, closed: () => void closedCalls++ });
  remover.delete(at("customresourcedefinitions", "lamps.example.org"), PLAIN_DELETE);
  assert.equal(core.registry.find("example.org", "v1", "lamps"), undefined);
  assert.equal(closedCalls, 1);
});

test("two CRDs cannot share a name; bad schemas are refused with their path", () => {
  create("customresourcedefinitions", crd("lamps", "Lamp"));
  assert.throws(
    () => create("customresourcedefinitions", crd("lanterns", "Lamp")),
    /"Lamp" is in use by lamps.example.org/,
  );
  const bad = crd("torches", "Torch");
  const [version] = bad.spec.versions as { schema: { openAPIV3Schema: { properties: object } } }[];
  if (version)
    version.schema.openAPIV3Schema.properties = { p: { type: "string", pattern: "(" }, r: { $ref: "#/x" } };
  assert.throws(
    () => create("customresourcedefinitions", bad),
    /properties\[p\]\.pattern.*properties\[r\]\.\$ref/,
  );
});

test("CEL rules are kept and a warning says that nobody evaluates them", () => {
  const rules = crd("lamps", "Lamp");
  Object.assign(rules.spec.versions[0] as object, {
    schema: { openAPIV3Schema: { type: "object", "x-kubernetes-validations": [{ rule: "true" }] } },
  });
  const warned = options();
  writer.create(kind("customresourcedefinitions"), undefined, rules, warned);
  assert.match(warned.warnings.join(), /not evaluated/);
});

const service = (name: string, spec: object) => ({
  metadata: { name },
  spec: { ports: [{ port: 80 }], ...spec },
});
const ips = (object: KubeObject) => (object.spec as { clusterIPs: string[] }).clusterIPs;
const ports = (object: KubeObject) =>
  (object.spec as { ports: { nodePort?: number }[] }).ports.map((p) => p.nodePort);

test("services get addresses and node ports that are free, and keep them", () => {
  const a = create("services", service("a", {}));
  const b = create("services", service("b", { ipFamilyPolicy: "RequireDualStack", type: "NodePort" }));
  assert.deepEqual(ips(a), ["10.96.0.2"]);
  assert.deepEqual(ips(b), ["10.96.0.3", "fd00:10:96::2"]);
  assert.deepEqual(ports(b), [30000]);
  const replaced = writer.update(at("services", "b"), "", service("b", { type: "NodePort" }), options());
  assert.deepEqual(ips(replaced), ["10.96.0.3", "fd00:10:96::2"]);
  assert.deepEqual(ports(replaced), [30000]);
  assert.deepEqual(ips(create("services", service("c", { clusterIP: "10.96.7.7" }))), ["10.96.7.7"]);
  assert.throws(() => create("services", service("d", { clusterIP: "10.96.7.7" })), /already allocated/);
  assert.throws(
    () => create("services", service("d", { type: "NodePort", ports: [{ port: 1, nodePort: 30000 }] })),
    /already allocated/,
  );
  assert.deepEqual(ips(create("services", service("headless", { clusterIP: "None" }))), ["None"]);
  assert.deepEqual(ips(create("services", service("six", { ipFamilies: ["IPv6"] }))), ["fd00:10:96::3"]);
});

test("secrets fold stringData into data", () => {
  const made = create("secrets", { metadata: { name: "s" }, stringData: { a: "b" } });
  assert.deepEqual(made.data, { a: "Yg==" });
  assert.equal(made.stringData, undefined);
  assert.equal(made.type, "Opaque");
  assert.throws(
    () => create("secrets", { metadata: { name: "t" }, data: { a: "not base64!" } }),
    /data\.a.*not base64/,
  );
});
