// SPDX-License-Identifier: Apache-2.0
// Killing the agent costs nothing: twenty times kill -9 and a new agent that takes the maps and programs over, under
// old and new connections of both families, without a lost packet, a retransmission or a changed translation.
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import {
  type Finished,
  finished,
  hookline,
  labName,
  output,
  restartAgent,
  startHookline,
} from "../support/lab.ts";
import type { TrafficReport } from "../support/traffic.ts";

const RESTARTS = 20;
const TRAFFIC = join(import.meta.dirname, "../support/traffic.ts");
const ECHO = ["7000", "198.51.100.10", "2001:db8:100::10", "203.0.113.10"];
const lab = labName();

/** Starts traffic in the first pod; resolves when it flows. */
async function startTraffic(): Promise<{ child: ChildProcess; end: Promise<Finished> }> {
  const command = ["exec", "--name", lab, "pod-1-1", "--", process.execPath, TRAFFIC, ...ECHO];
  const child = startHookline(["lab", ...command]);
  const end = finished(child);
  const started = once(child.stdout as NodeJS.ReadableStream, "data");
  const ended = end.then(({ stderr }) => {
    throw new Error(`the traffic ended before it began: ${stderr}`);
  });
  await Promise.race([started, ended]);
  ended.catch(() => undefined);
  return { child, end };
}

describe(`${RESTARTS} restarts under traffic, lab ${lab}`, () => {
  let report: TrafficReport;

  before(async () => {
    await output("lab", "up", "--name", lab, "--nodes", "1", "--pods-per-node", "1");
    const { child, end } = await startTraffic();
    for (let i = 0; i < RESTARTS; i++) await restartAgent(lab, "node1");
    child.stdin?.end();
    const { stdout, stderr } = await end;
    assert.notEqual(stdout, "", stderr);
    report = JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
  });
  after(async () => {
    await hookline("lab", "down", "--name", lab);
  });

  test("traffic flowed all the time", () => {
    assert.equal(report.longLived, 9);
    assert.ok(report.lines.sent > 1000 && report.connections.opened > 100, JSON.stringify(report));
  });
  test("every long-lived connection lived, every line came back in order", () => {
    assert.deepEqual(report.longLivedBroken, []);
    assert.equal(report.lines.echoed, report.lines.sent);
  });
  test("every new connection was made", () => {
    assert.deepEqual(report.connections.failed, []);
  });
  test("every datagram came back, no TCP segment was lost", () => {
    assert.equal(report.datagrams.echoed, report.datagrams.sent);
    assert.equal(report.retransmitted, 0);
  });
  test("the long-lived connections kept their translation", async () => {
    const listed = await output("--lab", lab, "--node", "node1", "bpf", "nat", "list", "-o", "json");
    const rows: { destination: string; translatedSource: string }[] = JSON.parse(listed);
    const alive = new Set(rows.filter((r) => r.destination.endsWith(":7000")).map((r) => r.translatedSource));
    // The first six go to destinations that are masqueraded: three per family.
    for (const port of report.ports.slice(0, 6)) {
      const found = [`172.20.0.11:${port}`, `[fd00:20::11]:${port}`].some((source) => alive.has(source));
      assert.ok(found, `no record with port ${port} that the server saw at the beginning`);
    }
  });
});
