// SPDX-License-Identifier: Apache-2.0
// A real container runtime on our CNI plugin: podman with runc and a busybox root file system, no image, no network.
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { after, before, test } from "node:test";
import { listNetns } from "../../src/kernel/netns.ts";
import { AgentNode } from "../support/cni-node.ts";
import {
  buildTopology,
  INTERNET_ADDRESS,
  NODE_ADDRESS,
  NON_MASQUERADE_ADDRESS,
  type Topology,
} from "../support/netns.ts";
import { missingPackages, Podman } from "../support/podman.ts";

const missing = missingPackages();
const skip = missing.length > 0 && `needs ${missing.join(", ")}: apt-get install ${missing.join(" ")}`;

interface Addresses {
  ipv4: string;
  ipv6: string;
}

/** Global addresses in the output of `ip -o addr` of busybox. */
function addressesIn(text: string): Addresses {
  const find = (pattern: RegExp): string => pattern.exec(text)?.[1] ?? "";
  return {
    ipv4: find(/eth0 +inet (10\.244\.1\.\d+)\/32/),
    ipv6: find(/eth0 +inet6 (fd00:10:244:1::[0-9a-f]+)\/128/),
  };
}

/** Prints what the server at each address saw, one JSON line each. Not `wget -T`: the static busybox crashes on it. */
function wget(...addresses: string[]): string {
  const hosts = addresses.map((a) => (a.includes(":") ? `[${a}]` : a));
  return hosts.map((host) => `timeout 20 wget -q -O - http://${host}/`).join(" && ");
}

function peersIn(text: string): string[] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line).peer);
}

let world: Topology;
let node: AgentNode;
let podman: Podman;
/** What is there before the first container and must be there again after the last. */
let before1st: Record<string, unknown>;

async function traces(): Promise<Record<string, unknown>> {
  const links = await world.run(world.node, ["ip", "-o", "link"]);
  const routes = await world.run(world.node, ["ip", "-o", "route", "show", "table", "all"]);
  const routes6 = await world.run(world.node, ["ip", "-o", "-6", "neigh", "show", "nud", "permanent"]);
  const cache = "/var/lib/cni/results";
  const podRoutes = routes.stdout.split("\n").filter((line) => /10\.244\.1\.|fd00:10:244:1:/.test(line));
  return {
    links: links.stdout.split("\n").map((line) => line.split(":")[1]?.trim()),
    podRoutes,
    neighbours: routes6.stdout,
    endpoints: await node.get("/v1/endpoints"),
    ipam: (await node.get<{ ipam: unknown }>("/v1/status")).ipam,
    namespaces: listNetns().filter((name) => name.startsWith("netns-")),
    cached: existsSync(cache) ? readdirSync(cache).filter((name) => name.startsWith("hookline-")) : [],
  };
}

before(async () => {
  if (skip) return;
  world = await buildTopology();
  node = new AgentNode(world);
  podman = new Podman(node);
});
after(async () => {
  await podman?.podman("rm", "--all", "--force", "--time", "0");
  await world?.[Symbol.asyncDispose]();
});

test("without an agent podman prints what to do", { skip }, async () => {
  const { status, stderr } = await podman.run(["--rm"], ["true"]);
  assert.notEqual(status, 0);
  assert.match(stderr, /the hookline agent does not answer on this node; start it/);
});

test("a container has addresses of both families and reaches the outside masqueraded", { skip }, async () => {
  await node.start();
  before1st = await traces();
  const outside = [
    INTERNET_ADDRESS[4],
    INTERNET_ADDRESS[6],
    NON_MASQUERADE_ADDRESS[4],
    NON_MASQUERADE_ADDRESS[6],
  ];
  const script = `ip -o addr; ${wget(...outside)}`;
  const { status, stdout, stderr } = await podman.run(["--rm"], ["sh", "-c", script]);
  assert.equal(status, 0, stdout + stderr);
  const own = addressesIn(stdout);
  assert.match(own.ipv4, /^10\./, stdout);
  assert.match(own.ipv6, /^fd00:/, stdout);
  assert.deepEqual(peersIn(stdout), [NODE_ADDRESS[4], NODE_ADDRESS[6], own.ipv4, own.ipv6]);
  assert.deepEqual(await traces(), before1st, "the container left something behind");
});

test("a container that stops and starts again under its id gets its network again", { skip }, async () => {
  const created = await podman.run(["--detach", "--name", "again"], ["sleep", "3600"]);
  assert.equal(created.status, 0, created.stderr);
  const script = `ip -o addr; ${wget(INTERNET_ADDRESS[4], INTERNET_ADDRESS[6])}`;
  const first = await podman.podman("exec", "again", "sh", "-c", script);
  assert.deepEqual(peersIn(first.stdout), [NODE_ADDRESS[4], NODE_ADDRESS[6]], first.stderr);
  const stopped = await podman.podman("stop", "--time", "0", "again");
  assert.equal(stopped.status, 0, stopped.stderr);
  const started = await podman.podman("start", "again");
  assert.equal(started.status, 0, started.stderr);
  const second = await podman.podman("exec", "again", "sh", "-c", script);
  assert.deepEqual(peersIn(second.stdout), [NODE_ADDRESS[4], NODE_ADDRESS[6]], second.stderr);
  assert.notEqual(addressesIn(second.stdout).ipv4, addressesIn(first.stdout).ipv4, "reused at once");
});

test("a container removed while the agent is down is gone when the agent is back", { skip }, async () => {
  await node.stop("SIGKILL");
  const alone = await podman.podman(
    "exec",
    "again",
    "sh",
    "-c",
    wget(INTERNET_ADDRESS[4], INTERNET_ADDRESS[6]),
  );
  assert.deepEqual(peersIn(alone.stdout), [NODE_ADDRESS[4], NODE_ADDRESS[6]], alone.stderr);
  const removed = await podman.podman("rm", "--force", "--time", "0", "again");
  assert.equal(removed.status, 0, removed.stderr);
  await node.start();
  assert.deepEqual(await traces(), before1st);
});
