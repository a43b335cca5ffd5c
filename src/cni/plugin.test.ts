// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { createServer as createRawServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { queuedDeletes } from "../api/cni-deletes.ts";
import { CNI_CONFLIST, installCni } from "../api/cni-install.ts";
import { runPlugin } from "./plugin.ts";

let runDir: string;
const servers: { close(): unknown }[] = [];
const limits = { connectMs: 10_000, answerMs: 10_000 };
/** For agents that never come, or never answer. */
const brief = { connectMs: 300, answerMs: 300 };

beforeEach(() => {
  runDir = mkdtempSync(join(tmpdir(), "hlt-cni-"));
});
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  rmSync(runDir, { recursive: true, force: true });
});

const env = (command: string): Record<string, string> => ({
  CNI_COMMAND: command,
  CNI_CONTAINERID: "c1",
  CNI_NETNS: "/run/netns/x",
  CNI_IFNAME: "eth0",
});

function stdin(extra: Record<string, unknown> = {}): string {
  return JSON.stringify({ cniVersion: "1.1.0", name: "net", type: "hookline", runDir, ...extra });
}

interface Seen {
  url: string;
  body: { containerId: string };
}

/** A socket that answers every request with the same status and text, and remembers what it saw. */
async function answering(status: number, text: string): Promise<Seen[]> {
  const seen: Seen[] = [];
  const server: Server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => {
      seen.push({ url: request.url ?? "", body: JSON.parse(body) });
      response.writeHead(status, { "content-type": "application/json" }).end(text);
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(join(runDir, "agent.sock"), resolve));
  return seen;
}

test("ADD prints what the agent answers", async () => {
  const seen = await answering(200, '{"cniVersion":"1.1.0","ips":[]}');
  const outcome = await runPlugin(env("ADD"), stdin(), limits);
  assert.deepEqual(outcome, { stdout: '{"cniVersion":"1.1.0","ips":[]}', exitCode: 0 });
  assert.equal(seen[0]?.url, "/v1/cni/add");
  assert.equal(seen[0]?.body.containerId, "c1");
});

for (const command of ["DEL", "STATUS"]) {
  test(`${command} prints nothing when the agent is content`, async () => {
    await answering(200, "{}");
    assert.deepEqual(await runPlugin(env(command), stdin(), limits), { stdout: "", exitCode: 0 });
  });
}

test("an error of the agent becomes an error object in the runtime's version", async () => {
  await answering(503, '{"code":100,"msg":"no free address","details":"x"}');
  const outcome = await runPlugin(env("ADD"), stdin({ cniVersion: "0.4.0" }), limits);
  assert.equal(outcome.exitCode, 1);
  assert.deepEqual(JSON.parse(outcome.stdout), {
    cniVersion: "0.4.0",
    code: 100,
    msg: "no free address",
    details: "x",
  });
});

for (const [status, text] of [
  [500, "{}"],
  [200, "<html>"],
] as const) {
  test(`an answer of ${status} ${text} is an I/O error`, async () => {
    await answering(status, text);
    const outcome = await runPlugin(env("ADD"), stdin(), limits);
    assert.equal(outcome.exitCode, 1);
    assert.equal(JSON.parse(outcome.stdout).code, 5);
  });
}

for (const [command, code] of [
  ["ADD", 11],
  ["GC", 11],
  ["STATUS", 50],
] as const) {
  test(`${command} without an agent fails with code ${code} and says what to do`, async () => {
    const outcome = await runPlugin(env(command), stdin({ "cni.dev/valid-attachments": [] }), brief);
    assert.equal(outcome.exitCode, 1);
    const error = JSON.parse(outcome.stdout);
    assert.equal(error.code, code);
    assert.match(error.msg, /start it \(hookline agent\)/);
    assert.match(error.details, /agent\.sock.*ENOENT/);
  });
}

test("ADD waits for an agent that is starting", async () => {
  const outcome = runPlugin(env("ADD"), stdin(), limits);
  await new Promise((resolve) => setTimeout(resolve, 150));
  await answering(200, "{}");
  assert.deepEqual(await outcome, { stdout: "{}", exitCode: 0 });
});

test("an agent that dies before it answers is asked again", async () => {
  let connections = 0;
  const server = createRawServer((socket) => {
    connections++;
    socket.once("data", () => {
      if (connections === 1) socket.destroy();
      else socket.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(join(runDir, "agent.sock"), resolve));
  assert.deepEqual(await runPlugin(env("ADD"), stdin(), limits), { stdout: "{}", exitCode: 0 });
  assert.equal(connections, 2);
});

test("DEL without an agent is stored for it, for root only, once", async () => {
  const id = "a.b_c-d";
  for (let i = 0; i < 2; i++) {
    const outcome = await runPlugin({ ...env("DEL"), CNI_CONTAINERID: id }, stdin(), brief);
    assert.deepEqual(outcome, { stdout: "", exitCode: 0 });
  }
  const dir = join(runDir, "cni/deletes");
  assert.deepEqual(readdirSync(dir), ["a.b_c-d@eth0.json"]);
  assert.equal(statSync(dir).mode & 0o777, 0o700);
  assert.equal(statSync(join(dir, "a.b_c-d@eth0.json")).mode & 0o777, 0o600);
  const [queued] = queuedDeletes(runDir);
  assert.equal(queued?.request?.containerId, id);
  assert.equal(queued?.request?.config.name, "net");
});

test("a silent agent does not hold a DEL up", async () => {
  const server = createRawServer(() => {});
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(join(runDir, "agent.sock"), resolve));
  assert.equal((await runPlugin(env("DEL"), stdin(), brief)).exitCode, 0);
  assert.equal(queuedDeletes(runDir).length, 1);
});

test("a DEL that cannot be stored fails", async () => {
  writeFileSync(join(runDir, "cni"), "");
  const outcome = await runPlugin(env("DEL"), stdin(), brief);
  assert.equal(outcome.exitCode, 1);
  assert.equal(JSON.parse(outcome.stdout).code, 5);
});

test("the log file gets one line per call, for root only", async () => {
  const logFile = join(runDir, "cni.log");
  await runPlugin(env("STATUS"), stdin({ logFile }), brief);
  const line = JSON.parse(readFileSync(logFile, "utf8"));
  assert.equal(line.command, "STATUS");
  assert.equal(line.error.code, 50);
  assert.equal(statSync(logFile).mode & 0o777, 0o600);
});

test("the installed plugin runs, and its configuration list offers every version", () => {
  const paths = installCni({
    binDir: join(runDir, "it's bin"),
    confDir: join(runDir, "conf"),
    runDir,
    nodePath: process.execPath,
    bundlePath: join(import.meta.dirname, "../bin/cni.ts"),
  });
  const list = JSON.parse(readFileSync(join(runDir, "conf", CNI_CONFLIST), "utf8"));
  assert.equal(paths.conflist, join(runDir, "conf", CNI_CONFLIST));
  assert.equal(list.cniVersion, "1.0.0");
  assert.ok(list.cniVersions.includes("1.1.0"));
  assert.deepEqual(list.plugins, [{ type: "hookline", runDir }]);
  assert.deepEqual(readdirSync(join(runDir, "conf")), [CNI_CONFLIST]);

  const version = spawnSync(paths.plugin, { env: { CNI_COMMAND: "VERSION" }, input: "", encoding: "utf8" });
  assert.equal(version.status, 0, version.stderr);
  assert.deepEqual(JSON.parse(version.stdout).supportedVersions, ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]);

  const bad = spawnSync(paths.plugin, { env: { CNI_COMMAND: "ADD" }, input: "{", encoding: "utf8" });
  assert.equal(bad.status, 1);
  assert.equal(JSON.parse(bad.stdout).code, 6);
});
