// SPDX-License-Identifier: Apache-2.0
// How endpoints go: the thread is free while the kernel takes devices away, flows are swept after the last device, and a
// refusal leaves the endpoint as it was.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { listLinks } from "../../kernel/netlink/link.ts";
import { openRtNetlink, type RtNetlink } from "../../kernel/netlink/socket.ts";
import { createNetns, removeNetns } from "../../kernel/netns.ts";
import { EndpointEngine } from "./engine.ts";
import { isPodDevice, type planEndpoints } from "./plan.ts";
import type { EndpointSpec } from "./spec.ts";

const suffix = randomBytes(3).toString("hex");
const nodeName = `hlt-${suffix}-node`;
const podNames = [0, 1, 2].map((i) => `hlt-${suffix}-pod${i}`);
let netlink: RtNetlink;
let stateDir: string;
let engine: EndpointEngine;
/** What came to the data plane, in order. */
let told: string[];
let openNetlink: () => RtNetlink;

before(() => {
  createNetns(nodeName).close();
  netlink = openRtNetlink(nodeName);
});
after(() => {
  netlink.close();
  removeNetns(nodeName);
});

const specOf = (i: number): EndpointSpec => ({
  containerId: `c${i}`,
  ifName: "eth0",
  netns: `/run/netns/${podNames[i]}`,
  network: "net",
  podNamespace: "default",
  podName: `web-${i}`,
  podUid: "",
  ipv4: `10.0.0.${2 + i}`,
  ipv6: `fd00::${2 + i}`,
  mtu: 1400,
});

beforeEach(() => {
  for (const name of podNames) createNetns(name).close();
  stateDir = mkdtempSync(join(tmpdir(), "hlt-"));
  told = [];
  openNetlink = () => openRtNetlink(nodeName);
  engine = new EndpointEngine({ netlink, openNetlink: () => openNetlink(), stateDir });
  engine.connect({
    write: ({ addresses }: ReturnType<typeof planEndpoints>) =>
      told.push(`write ${[...addresses.keys()].filter((address) => !address.includes(":")).join(" ")}`),
    attach: () => undefined,
    detach: () => told.push("detach"),
    sweep: async () => {
      told.push("sweep");
    },
  });
  for (const i of podNames.keys()) engine.add(specOf(i));
  told = [];
});
afterEach(() => {
  for (const name of podNames) removeNetns(name);
  rmSync(stateDir, { recursive: true });
});

const devices = (): string[] => listLinks(netlink).flatMap(({ name }) => (isPodDevice(name) ? [name] : []));

test("the thread goes on while the kernel takes a device away", async () => {
  const files = (): string[] => readdirSync(join(stateDir, "endpoints"));
  const order: string[] = [];
  for (const i of podNames.keys()) {
    setImmediate(() => order.push(`another turn, files ${files()}`));
    const removed = await engine.remove(specOf(i));
    order.push("removed");
    assert.equal(removed?.podName, `web-${i}`);
    assert.equal(devices().length, 2 - i);
    assert.deepEqual(files(), ["1.json", "2.json", "3.json"].slice(i + 1));
  }
  // The kernel may be faster than a turn of a thread that has to wait for a processor, but not three times.
  assert.match(
    order.join("; "),
    /another turn, files (1.json,2.json,3.json|2.json,3.json|3.json); removed/,
    "with its file, until it has gone",
  );
  const writes = ["write 10.0.0.3 10.0.0.4", "write 10.0.0.4", "write "];
  assert.deepEqual(
    told,
    writes.flatMap((write) => [write, "detach", "sweep"]),
  );
  assert.equal(await engine.remove(specOf(0)), undefined);
});

test("endpoints whose devices have gone already go at once, swept after the last", async () => {
  for (const name of podNames) removeNetns(name);
  while (devices().length > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await Promise.all(podNames.map((_, i) => engine.remove(specOf(i))));
  assert.equal(engine.size, 0);
  assert.deepEqual(told.slice(0, 3), ["write 10.0.0.3 10.0.0.4", "write 10.0.0.4", "write "]);
  assert.equal(told.filter((one) => one === "detach").length, 3);
  assert.equal(told.at(-1), "sweep");
});

test("an endpoint whose device cannot be taken away stays as it was, and can be removed later", async () => {
  openNetlink = () => {
    throw new Error("no socket");
  };
  await assert.rejects(engine.remove(specOf(1)), /no socket/);
  assert.equal(engine.find(specOf(1))?.podName, "web-1");
  assert.deepEqual(told, ["write 10.0.0.2 10.0.0.4", "write 10.0.0.2 10.0.0.4 10.0.0.3"]);
  assert.equal(devices().length, 3);
  openNetlink = () => openRtNetlink(nodeName);
  assert.equal((await engine.remove(specOf(1)))?.podName, "web-1");
  assert.equal(devices().length, 2);
});
