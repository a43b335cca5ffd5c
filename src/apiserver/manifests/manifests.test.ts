// SPDX-License-Identifier: Apache-2.0
// A folder of manifests as the API server follows it: files that come, change, go and break; what waits for its kind or
// namespace; symbolic links as mounted ConfigMaps have them; hostile YAML.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, beforeEach, test } from "node:test";
import { sleep, waitFor } from "../../base/async.ts";
import { silentLog } from "../../base/log.ts";
import { PLAIN_WRITE } from "../core/accept.ts";
import { Remover } from "../core/remover.ts";
import { type Core, newCore, Writer } from "../core/writer.ts";
import type { KubeObject } from "../json.ts";
import { KINDS } from "../kinds/kinds.ts";
import { DEFAULT_LIMITS } from "../limits.ts";
import { Registry } from "../registry.ts";
import { builtinDefinitions } from "../schema/builtin.ts";
import { Clock } from "../store/collection.ts";
import { AppliedManifests } from "./applied.ts";
import { ManifestFolder } from "./folder.ts";
import { readManifest } from "./read.ts";
import { threeWay } from "./three-way.ts";

const LIMITS = { ...DEFAULT_LIMITS, rescanMs: 200, manifestBytes: 100_000, manifestDocuments: 50 };
const definitions = await builtinDefinitions(KINDS.map((kind) => kind.model));
const root = mkdtempSync(join(tmpdir(), "hlt-manifests-"));
after(() => rmSync(root, { recursive: true, force: true }));

let core: Core;
let writer: Writer;
let folder: ManifestFolder;
let path: string;
let turn = 0;

beforeEach(() => {
  core = newCore(new Registry(new Clock(), LIMITS), LIMITS);
  core.definitions = definitions;
  const remover = new Remover(core, false);
  writer = new Writer(core, (resource, item) => remover.remove(resource, item));
  const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: "default" } };
  writer.plant(core.registry.builtin("namespaces"), namespace);
  path = join(root, `folder${turn++}`);
  mkdirSync(path);
  const applied = new AppliedManifests(core.registry, writer, remover);
  folder = new ManifestFolder(path, applied, LIMITS, silentLog());
  core.registry.onChange(() => folder.retry());
});
afterEach(() => folder.close());

const write = (file: string, text: string) => writeFileSync(join(path, file), text);
const find = (plural: string, name: string, namespace = "default") =>
  core.registry
    .kinds()
    .find((r) => r.plural === plural)
    ?.collection.get(namespace, name)?.object;
const dataOf = (name: string) => find("configmaps", name)?.data;
const map = (name: string, value: string, more = "") =>
  `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}${more}}\ndata: {a: "${value}"}\n`;
const until = (what: string, probe: () => boolean) => waitFor(what, probe);
const faultLines = () => folder.faults.map((f) => `${f.file}|${f.document}|${f.object}|${f.path}|${f.why}`);

test("files are loaded, followed when they change, and their objects deleted with them", async () => {
  write("a.yaml", `${map("one", "1")}---\n${map("two", "1")}`);
  write(
    "b.json",
    JSON.stringify({
      apiVersion: "v1",
      kind: "List",
      items: [{ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "three" } }],
    }),
  );
  write("notes.txt", "not a manifest");
  write(".hidden.yaml", map("hidden", "1"));
  await folder.start();
  assert.deepEqual(faultLines(), []);
  assert.deepEqual([dataOf("one"), dataOf("two")], [{ a: "1" }, { a: "1" }]);
  assert.ok(find("configmaps", "three"));
  assert.equal(find("configmaps", "hidden"), undefined);
  assert.equal(find("configmaps", "one")?.metadata.annotations?.["hookline.io/manifest"], "a.yaml");

  write("a.yaml", map("one", "2"));
  await until("the change", () => JSON.stringify(dataOf("one")) === '{"a":"2"}');
  assert.equal(find("configmaps", "two"), undefined, "an object that left the file is deleted");
  write("c.yml", map("four", "1"));
  await until("the new file", () => find("configmaps", "four") !== undefined);
  unlinkSync(join(path, "c.yml"));
  await until("the deletion", () => find("configmaps", "four") === undefined);
});

test("a broken file leaves its last good state in force, and says file, document and path", async () => {
  write("a.yaml", `${map("one", "1")}---\n${map("two", "1")}`);
  await folder.start();
  const broken: [text: string, fault: RegExp][] = [
    [`${map("one", "2")}---\nkind: [`, /^a\.yaml\|2\|\|\|line \d+ column \d+: /],
    [
      `${map("one", "2")}---\n${map("two", "2").replace('"2"', "2")}`,
      /^a\.yaml\|2\|ConfigMap two\|data\.a\|Invalid value: 2/,
    ],
    [
      `${map("one", "2")}---\n${map("two", "2").replace("\ndata", "\ndota")}`,
      /^a\.yaml\|2\|ConfigMap two\|dota\|.*unknown field/,
    ],
    [
      `${map("one", "2")}---\nkind: ConfigMap\nmetadata: {name: x}\n`,
      /^a\.yaml\|2\|ConfigMap x\|apiVersion\|Required/,
    ],
    [
      `apiVersion: v1\nkind: List\nitems:\n- ${JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "UP" } })}`,
      /^a\.yaml\|1\|ConfigMap UP\|items\[0\]\.metadata\.name\|/,
    ],
    [`${map("one", "2")}---\n${map("one", "3")}`, /^a\.yaml\|2\|ConfigMap one\|\|is in this file already/],
    [`${map("one", "2")}---\njust a text`, /^a\.yaml\|2\|\|\|is not an object/],
  ];
  for (const [text, fault] of broken) {
    write("a.yaml", text);
    await until(`${fault} in ${faultLines()}`, () => faultLines().some((line) => fault.test(line)));
    assert.deepEqual([dataOf("one"), dataOf("two")], [{ a: "1" }, { a: "1" }]);
  }
  write("a.yaml", `${map("one", "9")}---\n${map("two", "1")}`);
  await until("the good file", () => JSON.stringify(dataOf("one")) === '{"a":"9"}');
  assert.deepEqual(faultLines(), []);
});

test("two files cannot say the same object", async () => {
  write("a.yaml", map("one", "1"));
  write("b.yaml", map("one", "2"));
  await folder.start();
  assert.deepEqual(faultLines(), ["b.yaml|1|ConfigMap one||is in a.yaml already"]);
  assert.deepEqual(dataOf("one"), { a: "1" });
});

const CRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: lamps.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {plural: lamps, kind: Lamp}
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {watts: {type: integer}}}}}}}
`;
const LAMP = "apiVersion: example.org/v1\nkind: Lamp\nmetadata: {name: one}\nspec: {watts: 5}\n";

test("objects wait for their kind and their namespace, in whatever order these come", async () => {
  write("a.yaml", LAMP);
  write("b.yaml", map("inside", "1", ", namespace: team"));
  await folder.start();
  assert.match(
    faultLines()[0] ?? "",
    /^a\.yaml\|1\|Lamp one\|kind\|no kind Lamp in example.org\/v1; waiting/,
  );
  assert.match(
    faultLines()[1] ?? "",
    /^b\.yaml\|1\|ConfigMap team\/inside\|metadata.namespace\|namespaces "team" not found/,
  );
  assert.ok(folder.faults.every((fault) => fault.waiting));
  write("z.yaml", `apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n---\n${CRD}`);
  await until(
    "both",
    () => find("lamps", "one") !== undefined && find("configmaps", "inside", "team") !== undefined,
  );
  await until("no fault", () => faultLines().length === 0);
  unlinkSync(join(path, "z.yaml"));
  await until("the namespace to go", () => find("configmaps", "inside", "team") === undefined);
});

test("a CRD and its objects in one file, in the wrong order", async () => {
  write("a.yaml", `${LAMP}---\n${CRD}`);
  await folder.start();
  assert.deepEqual(find("lamps", "one")?.spec, { watts: 5 });
  assert.deepEqual(faultLines(), []);
});

test("what others wrote stays when a manifest changes", async () => {
  const pod = (label: string) =>
    `apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {${label}}}\nspec: {containers: [{name: c}]}\n`;
  write("a.yaml", pod("app: web, old: x"));
  await folder.start();
  const address = { resource: core.registry.builtin("pods"), namespace: "default", name: "web" };
  const label = (o: KubeObject) => ({
    ...o,
    metadata: { ...o.metadata, labels: { ...o.metadata.labels, kubectl: "y" } },
  });
  writer.patch(address, "", label, { ...PLAIN_WRITE });
  writer.patch(address, "status", (o) => ({ ...o, status: { phase: "Running" } }), { ...PLAIN_WRITE });
  write("a.yaml", pod("app: web2"));
  await until("the label", () => find("pods", "web")?.metadata.labels?.app === "web2");
  assert.deepEqual(find("pods", "web")?.metadata.labels, { app: "web2", kubectl: "y" });
  assert.deepEqual(find("pods", "web")?.status, { phase: "Running" });
});

test("a node brings its status along", async () => {
  write(
    "n.yaml",
    "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {addresses: [{type: InternalIP, address: 1.2.3.4}]}\n",
  );
  await folder.start();
  assert.deepEqual(find("nodes", "n1", "")?.status, {
    addresses: [{ type: "InternalIP", address: "1.2.3.4" }],
  });
});

test("a mounted ConfigMap is swapped by its symbolic link", async () => {
  const version = (name: string, value: string) => {
    mkdirSync(join(path, name));
    writeFileSync(join(path, name, "a.yaml"), map("one", value));
  };
  version("..v1", "1");
  symlinkSync("..v1", join(path, "..data"));
  symlinkSync("..data/a.yaml", join(path, "a.yaml"));
  await folder.start();
  assert.deepEqual(dataOf("one"), { a: "1" });
  version("..v2", "2");
  symlinkSync("..v2", join(path, "..data_tmp"));
  renameSync(join(path, "..data_tmp"), join(path, "..data"));
  await until("the swapped content", () => JSON.stringify(dataOf("one")) === '{"a":"2"}');
});

test("a folder that is not there yet, or is replaced, is followed when it comes", async () => {
  rmSync(path, { recursive: true });
  await folder.start();
  assert.match(faultLines()[0] ?? "", /^\.\|0\|\|\|cannot be read: ENOENT/);
  mkdirSync(path);
  write("a.yaml", map("one", "1"));
  await until("the file", () => find("configmaps", "one") !== undefined);
  assert.deepEqual(faultLines(), []);
  renameSync(path, `${path}.old`);
  await sleep(500);
  assert.deepEqual(dataOf("one"), { a: "1" }, "a folder that cannot be read changes nothing");
  mkdirSync(path);
  write("a.yaml", map("one", "2"));
  await until("the new folder's file", () => JSON.stringify(dataOf("one")) === '{"a":"2"}');
});

test("what is no regular file, too large or too much is refused", async () => {
  execFileSync("mkfifo", [join(path, "fifo.yaml")]);
  mkdirSync(join(path, "folder.yaml"));
  write("large.yaml", `# ${"x".repeat(200_000)}`);
  write("many.yaml", Array.from({ length: 60 }, (_, i) => map(`m${i}`, "1")).join("---\n"));
  write("good.yaml", map("good", "1"));
  await folder.start();
  const why = Object.fromEntries(folder.faults.map((fault) => [fault.file, fault.why]));
  assert.equal(why["fifo.yaml"], "is not a regular file");
  assert.equal(why["folder.yaml"], "is not a regular file");
  assert.match(why["large.yaml"] ?? "", /the limit is 100000/);
  assert.match(why["many.yaml"] ?? "", /more than 50 objects/);
  assert.ok(find("configmaps", "good"));
});

const aliases = Array.from(
  { length: 12 },
  (_, i) => `a${i + 1}: &a${i + 1} [${Array(10).fill(`*a${i}`).join(",")}]`,
);
const hostile: [what: string, text: string, fault: RegExp][] = [
  ["an alias bomb", `a0: &a0 [x]\n${aliases.join("\n")}\n`, /alias/],
  [
    "aliases below the library's limit",
    `a: &a [${Array(60).fill("x").join(",")}]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\n`,
    /apiVersion|values/,
  ],
  ["a deep nesting", "[".repeat(20_000), /.+/],
  ["a nesting under the parser's limit", `a: ${"[".repeat(200)}${"]".repeat(200)}`, /nested deeper than 128/],
  [
    "__proto__",
    'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {"__proto__": "y"}\n',
    /__proto__/,
  ],
  ["a number that JSON has not", "apiVersion: v1\nkind: X\nmetadata: {name: a}\nspec: {v: .nan}\n", /finite/],
  ["a repeated key", "a: 1\na: 2\n", /unique/],
  ["binary data", "\u0000\u0001\u0002", /.+/],
  ["a cycle", "a: &a {b: *a}\n", /.+/],
];
for (const [what, text, fault] of hostile) {
  test(`YAML with ${what} is refused`, () => {
    const { documents, faults } = readManifest("x.yaml", text, LIMITS);
    assert.deepEqual(documents, []);
    assert.match(faults.map((f) => `${f.path} ${f.why}`).join("; "), fault);
    assert.equal(({} as { y?: unknown }).y, undefined);
  });
}

test("three-way merge removes what the manifest dropped and keeps what others set", () => {
  const last = { spec: { a: 1, b: { c: 1, d: 2 }, list: [1, 2] } };
  const next = { spec: { a: 2, b: { c: 1 }, list: [3] } };
  const live = { spec: { a: 1, b: { c: 1, d: 2, theirs: 3 }, list: [1, 2], added: true }, status: { x: 1 } };
  const before = structuredClone(live);
  assert.deepEqual(threeWay(last, next, live), {
    spec: { a: 2, b: { c: 1, theirs: 3 }, list: [3], added: true },
    status: { x: 1 },
  });
  assert.deepEqual(live, before);
});
