// SPDX-License-Identifier: Apache-2.0
// The agent's socket over a real unix socket: who may open it, what it refuses, and a reader of flows that stalls.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { waitFor } from "../base/async.ts";
import { silentLog } from "../base/log.ts";
import { type Flow, formatEnd } from "../observe/decode.ts";
import { FanOut } from "../observe/fan-out.ts";
import { ask, exchange, followFlows } from "./client.ts";
import type { CniHandler } from "./cni.ts";
import { AgentApiServer } from "./server.ts";

const flows = new FanOut();
const answered: unknown[] = [];
let dir: string;
let socketPath: string;
let server: AgentApiServer;

const view = {
  status: () => ({ usable: 2n ** 64n }),
  health: () => ({ ok: false, text: "starting" }),
  endpoints: () => [],
  endpoint: (id: number) => (id === 7 ? { id } : undefined),
  config: () => ({}),
  nodes: () => [],
  exclusions: () => [],
  metrics: {
    expose: async () => ({ contentType: "text/plain; version=0.0.4", text: "up 1\n" }),
    rows: async () => [{ name: "up", labels: {}, value: 1 }],
  },
  flows,
};
const cni = {
  handle: async (command: string, body: unknown) => {
    answered.push([command, body]);
    return { status: 200, body: {} };
  },
} as unknown as CniHandler;

before(async () => {
  dir = mkdtempSync(join(tmpdir(), "hlt-api-"));
  socketPath = join(dir, "agent.sock");
  server = new AgentApiServer({ socketPath, view, cni, log: silentLog() });
  await server.listen();
});
after(async () => {
  await server.close();
  rmSync(dir, { recursive: true });
});

const flow = (port: number): Flow => ({
  time: "2026-01-01T00:00:00.000Z",
  kind: "new-flow",
  verdict: "FORWARDED",
  hook: "to_net",
  device: "eth0",
  ifindex: 2,
  proto: "TCP",
  source: { address: "10.0.0.2", port, identity: 0, name: "default/web" },
  destination: { address: "198.51.100.10", port: 80, identity: 2, name: "" },
  translated: { source: formatEnd("172.20.0.11", port), destination: "198.51.100.10:80" },
  tcpFlags: "SYN",
  length: 74,
  endpoint: 7,
  reason: 0,
  reasonText: "",
  rule: 9,
  ruleText: "pod traffic that leaves the cluster: masqueraded",
  ruleSource: "",
});

test("the socket is its owner's alone", () => {
  assert.equal(statSync(socketPath).mode & 0o777, 0o600);
});

test("answers: numbers over 2^53 as text, health with 503, one endpoint, none", async () => {
  assert.deepEqual(await ask({ socketPath, path: "/v1/status" }), { usable: "18446744073709551616" });
  assert.equal((await exchange({ socketPath, path: "/v1/health" })).status, 503);
  assert.deepEqual(await ask({ socketPath, path: "/v1/endpoints/7" }), { id: 7 });
  assert.deepEqual(await ask({ socketPath, path: "/v1/metrics" }), [{ name: "up", labels: {}, value: 1 }]);
  await assert.rejects(ask({ socketPath, path: "/v1/endpoints/8" }), { code: "AGENT_REFUSED" });
  await assert.rejects(ask({ socketPath, path: "/v1/banana" }), { message: /there is no such path/ });
});

test("who follows flows of an agent that ends comes to their end", async () => {
  const path = join(dir, "ending.sock");
  const ending = new AgentApiServer({ socketPath: path, view, cni, log: silentLog() });
  await ending.listen();
  const told = followFlows(path);
  const first = told.next();
  await waitFor("the reader", () => flows.clients === 1);
  flows.publish(flow(1));
  assert.equal((await first).done, false);
  const end = told.next();
  await ending.close();
  assert.deepEqual(await end, { done: true, value: undefined });
  await assert.rejects(followFlows(path).next(), { code: "AGENT_UNREACHABLE" });
});

test("a CNI request goes to the handler; too much or no JSON does not", async () => {
  assert.equal((await exchange({ socketPath, path: "/v1/cni/add", body: { a: 1 } })).status, 200);
  assert.deepEqual(answered, [["add", { a: 1 }]]);
  const big = await exchange({ socketPath, path: "/v1/cni/add", body: "x".repeat(2 << 20) });
  assert.equal(big.status, 400);
  assert.equal((big.body as { code: string }).code, "REQUEST_TOO_BIG");
  assert.equal(answered.length, 1);
});

test("no agent behind the socket is said with what to do", async () => {
  const nowhere = join(dir, "nothing.sock");
  await assert.rejects(ask({ socketPath: nowhere, path: "/v1/status" }), {
    code: "AGENT_UNREACHABLE",
    message: /start one with hookline agent/,
  });
});

test("a reader that stalls loses flows, is told how many, and the next reader loses none", async () => {
  const stalled = createConnection(socketPath);
  stalled.pause();
  stalled.write("GET /v1/monitor HTTP/1.1\r\nHost: agent\r\n\r\n");
  const stop = new AbortController();
  const quick = followFlows(socketPath, stop.signal);
  const first = quick.next();
  await waitFor("two readers", () => flows.clients === 2);
  const total = 20_000;
  const seen: number[] = [];
  const reading = (async () => {
    let item = await first;
    for (;;) {
      assert.ok(item.value && "flow" in item.value, "the quick reader lost flows");
      if (seen.push(item.value.flow.source.port) === total) return;
      item = await quick.next();
    }
  })();
  for (let port = 0; port < total; port++) {
    flows.publish(flow(port));
    if (port % 1000 === 999) await waitFor("the quick reader", () => seen.length > port);
  }
  await reading;
  assert.deepEqual([seen.length, seen[0], seen.at(-1)], [total, 0, total - 1]);
  let text = "";
  stalled.setEncoding("utf8").on("data", (chunk) => {
    text += chunk;
  });
  stalled.resume();
  await waitFor("the stalled reader to be told", () => /"lost":\d+,"where":"queue"/.test(text));
  const received = text.match(/"flow":/g)?.length ?? 0;
  const lost = [...text.matchAll(/"lost":(\d+)/g)].reduce((sum, match) => sum + Number(match[1]), 0);
  assert.equal(received + lost, total);
  assert.equal(flows.unread, lost);
  stalled.destroy();
  stop.abort();
  await quick.return(undefined);
  await waitFor("both to leave", () => flows.clients === 0);
});
