// SPDX-License-Identifier: Apache-2.0
// Requests that are wrong, hostile or too large: each gets a Status with its code and reason, and the server answers the
// next request as before.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type ApiServer, startApiServer } from "../../src/apiserver/server.ts";
import { waitFor } from "../../src/base/async.ts";
import { silentLog } from "../../src/base/log.ts";
import { type RawAnswer, rawRequest } from "./raw-request.ts";

let folder: string;
let socket: string;
let server: ApiServer;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "hlt-refuse-"));
  socket = join(folder, "api.sock");
  const limits = {
    objectsPerKind: 200,
    watches: 3,
    bodyBytes: 400_000,
    objectBytes: 200_000,
    watchBufferBytes: 300_000,
  };
  server = await startApiServer({ unixSocket: socket, limits, log: silentLog() });
});
after(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

const MAPS = "/api/v1/namespaces/default/configmaps";
const map = (name: string, more: object = {}) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name },
  ...more,
});
const nested = (depth: number) => `${'{"a":'.repeat(depth)}1${"}".repeat(depth)}`;

interface Row {
  what: string;
  method?: string;
  path?: string;
  body?: unknown;
  type?: string | undefined;
  headers?: Record<string, string>;
  code: number;
  reason: string;
  says?: RegExp;
}

const rows: Row[] = [
  {
    what: "truncated JSON",
    body: '{"apiVersion":"v1","kind',
    code: 400,
    reason: "BadRequest",
    says: /not JSON/,
  },
  { what: "an empty body", body: "", code: 400, reason: "BadRequest", says: /not an object/ },
  { what: "a list for a body", body: [], code: 400, reason: "BadRequest", says: /not an object/ },
  { what: "a text for a body", body: '"x"', code: 400, reason: "BadRequest" },
  { what: "null for a body", body: "null", code: 400, reason: "BadRequest" },
  { what: "bytes that are no text", body: "\u0000\u0001\u00ff", code: 400, reason: "BadRequest" },
  {
    what: "YAML for JSON",
    body: "a: 1",
    type: "application/yaml",
    code: 415,
    reason: "UnsupportedMediaType",
    says: /application\/yaml/,
  },
  {
    what: "a form",
    body: "a=1",
    type: "application/x-www-form-urlencoded",
    code: 415,
    reason: "UnsupportedMediaType",
  },
  {
    what: "protobuf that is none",
    body: "k8s",
    type: "application/vnd.kubernetes.protobuf",
    code: 400,
    reason: "BadRequest",
  },
  {
    what: "protobuf cut off",
    body: "k8s\0\n\u0012\n\u0002v1",
    type: "application/vnd.kubernetes.protobuf",
    code: 400,
    reason: "BadRequest",
    says: /protobuf/,
  },
  {
    what: "another kind",
    body: { apiVersion: "v1", kind: "Pod", metadata: { name: "x" } },
    code: 400,
    reason: "BadRequest",
    says: /v1 Pod.*v1 ConfigMap/,
  },
  {
    what: "metadata that is a list",
    body: { metadata: [] },
    code: 422,
    reason: "Invalid",
    says: /metadata: Invalid value/,
  },
  { what: "no name", body: map(""), code: 422, reason: "Invalid", says: /metadata\.name: Required value/ },
  {
    what: "a number for a value",
    body: map("n", { data: { a: 1 } }),
    code: 422,
    reason: "Invalid",
    says: /data\.a: Invalid value: 1/,
  },
  { what: "a nesting of 100000", body: nested(100_000), code: 413, reason: "RequestEntityTooLarge" },
  {
    what: "a nesting of 1000",
    body: nested(1000),
    code: 400,
    reason: "BadRequest",
    says: /nested deeper than 128/,
  },
  {
    what: "lists in lists",
    body: "[".repeat(5000) + "]".repeat(5000),
    code: 400,
    reason: "BadRequest",
    says: /nested deeper/,
  },
  {
    what: "__proto__ in a body",
    body: `{"metadata":{"name":"p","__proto__":{"polluted":1}}}`,
    code: 400,
    reason: "BadRequest",
    says: /metadata: a field must not be named "__proto__"/,
  },
  {
    what: "__proto__ as a label",
    body: `{"metadata":{"name":"p","labels":{"__proto__":"x"}}}`,
    code: 400,
    reason: "BadRequest",
  },
  {
    what: "a huge body",
    body: map("big", { data: { a: "x".repeat(500_000) } }),
    code: 413,
    reason: "RequestEntityTooLarge",
    says: /limit is 400000/,
  },
  {
    what: "a huge body without a length",
    body: map("big", { data: { a: "x".repeat(500_000) } }),
    headers: { "transfer-encoding": "chunked" },
    code: 413,
    reason: "RequestEntityTooLarge",
  },
  {
    what: "a huge object",
    body: map("big", { data: { a: "x".repeat(300_000) } }),
    code: 413,
    reason: "RequestEntityTooLarge",
    says: /ConfigMap big: \d+ bytes, the limit is 200000/,
  },
  {
    what: "many annotations",
    body: map("a", { metadata: { name: "a", annotations: { a: "x".repeat(270_000) } } }),
    code: 422,
    reason: "Invalid",
    says: /metadata\.annotations/,
  },
  ...[
    "../../etc/passwd",
    "a/b",
    "..",
    ".",
    "UPPER",
    "-a",
    "a-",
    "a..b",
    "ü",
    "a\u0000b",
    "x".repeat(254),
    "a b",
    "%2e%2e",
  ].map((name) => ({
    what: `the name ${JSON.stringify(name.slice(0, 20))}`,
    body: map(name),
    code: 422,
    reason: "Invalid",
    says: /metadata\.name/,
  })),
  {
    what: "a namespace that is a path",
    path: "/api/v1/namespaces",
    body: { metadata: { name: "../x" } },
    code: 422,
    reason: "Invalid",
  },
  {
    what: "a namespace that is not there",
    path: "/api/v1/namespaces/%2e%2e/configmaps",
    body: map("x"),
    code: 404,
    reason: "NotFound",
  },
  {
    what: "dots in the path",
    method: "GET",
    path: "/api/v1/namespaces/default/configmaps/../../../../../etc/passwd",
    code: 404,
    reason: "NotFound",
  },
  {
    what: "encoded slashes",
    method: "GET",
    path: `${MAPS}/..%2f..%2fetc%2fpasswd`,
    code: 404,
    reason: "NotFound",
  },
  { what: "bad percent encoding", method: "GET", path: `${MAPS}/%zz`, code: 400, reason: "BadRequest" },
  { what: "a null byte in the path", method: "GET", path: `${MAPS}/a%00b`, code: 404, reason: "NotFound" },
  { what: "an unknown path", method: "GET", path: "/nothing/here", code: 404, reason: "NotFound" },
  {
    what: "an unknown group",
    method: "GET",
    path: "/apis/nope.example.org/v1/things",
    code: 404,
    reason: "NotFound",
  },
  {
    what: "constructor for a kind",
    method: "GET",
    path: "/api/v1/constructor",
    code: 404,
    reason: "NotFound",
  },
  {
    what: "__proto__ for a kind",
    method: "GET",
    path: "/api/v1/namespaces/default/__proto__/x",
    code: 404,
    reason: "NotFound",
  },
  { what: "__proto__ for a name", method: "GET", path: `${MAPS}/__proto__`, code: 404, reason: "NotFound" },
  {
    what: "an unknown subresource",
    method: "GET",
    path: "/api/v1/namespaces/default/pods/x/log",
    code: 404,
    reason: "NotFound",
  },
  {
    what: "a namespaced object without its namespace",
    method: "GET",
    path: "/api/v1/pods/x",
    code: 404,
    reason: "NotFound",
  },
  {
    what: "a namespace on a cluster kind",
    method: "GET",
    path: "/api/v1/namespaces/default/nodes",
    code: 404,
    reason: "NotFound",
  },
  {
    what: "creation in all namespaces",
    path: "/api/v1/configmaps",
    body: map("x"),
    code: 405,
    reason: "MethodNotAllowed",
  },
  { what: "another method", method: "OPTIONS", path: MAPS, code: 405, reason: "MethodNotAllowed" },
  { what: "a method on discovery", method: "DELETE", path: "/apis", code: 405, reason: "MethodNotAllowed" },
  {
    what: "a long URL",
    method: "GET",
    path: `${MAPS}?labelSelector=${"a".repeat(10_000)}`,
    code: 414,
    reason: "RequestURITooLong",
  },
  {
    what: "long headers",
    method: "GET",
    path: MAPS,
    headers: { "x-long": "a".repeat(50_000) },
    code: 414,
    reason: "RequestURITooLong",
  },
  {
    what: "a bad label selector",
    method: "GET",
    path: `${MAPS}?labelSelector=a%20b%20c`,
    code: 400,
    reason: "BadRequest",
    says: /label selector/,
  },
  {
    what: "a bad limit",
    method: "GET",
    path: `${MAPS}?limit=many`,
    code: 400,
    reason: "BadRequest",
    says: /limit/,
  },
  {
    what: "a bad continue token",
    method: "GET",
    path: `${MAPS}?continue=abc`,
    code: 400,
    reason: "BadRequest",
    says: /continue token/,
  },
  {
    what: "a bad version",
    method: "GET",
    path: `${MAPS}?watch=1&resourceVersion=abc`,
    code: 400,
    reason: "BadRequest",
  },
  {
    what: "an old version exactly",
    method: "GET",
    path: `${MAPS}?resourceVersion=5&resourceVersionMatch=Exact`,
    code: 410,
    reason: "Expired",
  },
  {
    what: "an unknown form",
    method: "GET",
    path: MAPS,
    headers: { accept: "text/html" },
    code: 406,
    reason: "NotAcceptable",
  },
  {
    what: "server-side apply",
    method: "PATCH",
    path: `${MAPS}/x`,
    body: "a: 1",
    type: "application/apply-patch+yaml",
    code: 415,
    reason: "UnsupportedMediaType",
    says: /application\/strategic-merge-patch\+json/,
  },
  {
    what: "a strategic patch of a custom resource",
    method: "PATCH",
    path: "/apis/cilium.io/v2/ciliumnodes/x",
    body: {},
    type: "application/strategic-merge-patch+json",
    code: 415,
    reason: "UnsupportedMediaType",
  },
  {
    what: "a patch of nothing",
    method: "PATCH",
    path: `${MAPS}/missing`,
    body: {},
    type: "application/merge-patch+json",
    code: 404,
    reason: "NotFound",
  },
  {
    what: "a bad grace period",
    method: "DELETE",
    path: `${MAPS}/x?gracePeriodSeconds=soon`,
    code: 400,
    reason: "BadRequest",
  },
  {
    what: "deletion of a namespace in use by the server",
    method: "DELETE",
    path: "/api/v1/namespaces/kube-system",
    code: 403,
    reason: "Forbidden",
  },
  {
    what: "a dry run of another sort",
    path: `${MAPS}?dryRun=Some`,
    body: map("x"),
    code: 400,
    reason: "BadRequest",
  },
  {
    what: "unknown fields when strict",
    path: `${MAPS}?fieldValidation=Strict`,
    body: map("x", { dota: {} }),
    code: 400,
    reason: "BadRequest",
    says: /unknown field "dota"/,
  },
  {
    what: "an annotation with a bad key",
    body: map("x", { metadata: { name: "x", annotations: { "a/b/c": "" } } }),
    code: 422,
    reason: "Invalid",
  },
  {
    what: "a CRD of a built-in group",
    path: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    body: {
      metadata: { name: "pods.discovery.k8s.io" },
      spec: {
        group: "discovery.k8s.io",
        scope: "Cluster",
        names: { kind: "Pod", plural: "pods" },
        versions: [],
      },
    },
    code: 422,
    reason: "Invalid",
    says: /spec\.group/,
  },
  {
    what: "a node with a bad CIDR",
    path: "/api/v1/nodes",
    body: { metadata: { name: "n" }, spec: { podCIDR: "10.0.0.0/33" } },
    code: 422,
    reason: "Invalid",
    says: /spec\.podCIDR/,
  },
];

function isStatus(answer: RawAnswer, row: Row): void {
  const { json } = answer;
  assert.equal(json?.kind, "Status", answer.text.slice(0, 300));
  assert.equal(json?.status, "Failure");
  assert.equal(json?.reason, row.reason, answer.text.slice(0, 300));
  assert.ok(answer.text.length < 10_000, "a refusal does not send back what it refuses");
  if (row.says) assert.match(String(json?.message), row.says);
}

for (const row of rows) {
  test(`refuses ${row.what}`, async () => {
    const options = {
      ...("body" in row ? { body: row.body } : {}),
      ...("type" in row ? { type: row.type } : {}),
      ...(row.headers ? { headers: row.headers } : {}),
    };
    const answer = await rawRequest(socket, row.method ?? "POST", row.path ?? MAPS, options);
    isStatus(answer, row);
    assert.equal(answer.code, row.headers?.["x-long"] ? 431 : row.code, answer.text.slice(0, 300));
    assert.equal(({} as { polluted?: unknown }).polluted, undefined);
    assert.equal((await rawRequest(socket, "GET", "/readyz")).text, "ok");
  });
}

test("what is no HTTP gets a Status and the door", async () => {
  for (const bytes of [
    "hello\r\n\r\n",
    "\u0016\u0003\u0001\u0000",
    "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
  ]) {
    const answer = await new Promise<string>((resolve) => {
      let text = "";
      const raw = connect(socket, () => raw.write(bytes));
      raw.on("data", (chunk) => {
        text += chunk;
      });
      raw.on("error", () => {});
      raw.on("close", () => resolve(text));
    });
    assert.match(answer, /^HTTP\/1\.1 400 .*"kind":"Status"/s, JSON.stringify(bytes));
  }
});

test("patches cannot reach prototypes or explode", async () => {
  await rawRequest(socket, "POST", MAPS, { body: map("victim", { data: { a: "x".repeat(1000) } }) });
  const patch = (body: unknown, type: string) =>
    rawRequest(socket, "PATCH", `${MAPS}/victim`, { body, type });
  const json = "application/json-patch+json";
  const copies = Array.from({ length: 30 }, (_, i) => ({ op: "copy", from: "/data", path: `/data/c${i}` }));
  const bad: [body: unknown, type: string][] = [
    [[{ op: "add", path: "/__proto__/polluted", value: 1 }], json],
    [[{ op: "add", path: "/constructor/prototype/polluted", value: 1 }], json],
    [copies, json],
    ['{"__proto__":{"polluted":1}}', "application/merge-patch+json"],
    ['{"metadata":{"__proto__":{"polluted":1}}}', "application/strategic-merge-patch+json"],
    [{ metadata: { name: "other" } }, "application/merge-patch+json"],
    [{ metadata: { resourceVersion: "1" } }, "application/merge-patch+json"],
    [{ metadata: { uid: "another" } }, "application/merge-patch+json"],
    [{ metadata: null }, "application/merge-patch+json"],
    [{ data: { a: "x".repeat(250_000) } }, "application/merge-patch+json"],
  ];
  for (const [body, type] of bad) {
    const answer = await patch(body, type);
    const accepted = JSON.stringify(body) === '{"metadata":null}';
    assert.equal(
      answer.code >= 400,
      !accepted,
      `${JSON.stringify(body).slice(0, 80)}: ${answer.text.slice(0, 200)}`,
    );
    assert.equal(({} as { polluted?: unknown }).polluted, undefined);
  }
  const { json: left } = await rawRequest(socket, "GET", `${MAPS}/victim`);
  assert.deepEqual(left?.data, { a: "x".repeat(1000) });
});

test("the number of objects of a kind is bounded", async () => {
  const path = "/api/v1/namespaces/default/secrets";
  for (let i = 0; i < 200; i++)
    await rawRequest(socket, "POST", path, { body: { metadata: { name: `s${i}` } } });
  const answer = await rawRequest(socket, "POST", path, { body: { metadata: { name: "more" } } });
  assert.equal(answer.code, 403);
  assert.match(String(answer.json?.message), /200 secrets already, the limit/);
  await rawRequest(socket, "DELETE", path);
});

/** Opens a watch and does not read from it. */
function deafWatch(path: string) {
  const raw = connect(socket);
  let closed = false;
  raw.pause();
  raw.write(`GET ${path}?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n`);
  raw.on("error", () => {});
  raw.on("close", () => {
    closed = true;
  });
  return { raw, closed: () => closed };
}

test("a watch that is not read is cut off, others are not", async () => {
  const reader = deafWatch(MAPS);
  reader.raw.resume();
  const deaf = deafWatch(MAPS);
  await rawRequest(socket, "POST", MAPS, { body: map("loud") });
  for (let i = 0; i < 20; i++) {
    const body = { data: { a: String(i).padStart(150_000, "x") } };
    await rawRequest(socket, "PATCH", `${MAPS}/loud`, { body, type: "application/merge-patch+json" });
  }
  deaf.raw.resume();
  await waitFor("the deaf watch to be closed", deaf.closed);
  assert.equal(reader.closed(), false);
  reader.raw.destroy();
  await rawRequest(socket, "DELETE", `${MAPS}/loud`);
});

test("the number of watches is bounded and room comes back", async () => {
  const many = [1, 2, 3].map(() => deafWatch(MAPS));
  const refused = () => rawRequest(socket, "GET", `${MAPS}?watch=1&timeoutSeconds=1`);
  await waitFor("the limit to be reached", async () => (await refused()).code === 429);
  const answer = await refused();
  assert.equal(answer.json?.reason, "TooManyRequests");
  assert.equal(answer.headers["retry-after"], "1");
  for (const { raw } of many) raw.destroy();
  await waitFor("room for a watch", async () => (await refused()).code === 200);
});

test("nothing was written beside the socket", () => {
  assert.deepEqual(readdirSync(folder), ["api.sock"]);
});
