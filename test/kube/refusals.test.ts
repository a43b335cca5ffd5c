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
import { MAPS, map, type Row, rows } from "./refusal-rows.ts";

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
