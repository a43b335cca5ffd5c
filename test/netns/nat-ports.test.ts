// SPDX-License-Identifier: Apache-2.0
// A pod uses up the ports towards one remote endpoint, with real sockets: the flows beyond the last port are refused, and
// `bpf nat stats`, `bpf nat retries`, the metrics, `status` and the monitor say so. Both families.
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { StatusReport } from "../../src/agent/status.ts";
import type { MetricRow } from "../../src/api/metric.ts";
import { waitFor } from "../../src/base/async.ts";
import { datagramFd } from "../../src/kernel/socket.ts";
import { AgentNode } from "../support/cni-node.ts";
import { buildTopology, INTERNET_ADDRESS, NODE_ADDRESS, type Topology } from "../support/netns.ts";

const HOOKLINE = join(import.meta.dirname, "../../src/bin/hookline.ts");

/** The least that the option allows. */
const RANGE = { first: 42_000, last: 43_023 };
const PORTS = RANGE.last - RANGE.first + 1;
/** Flows beyond that. */
const TOO_MANY = 40;
const REMOTE_PORT = 9;

let world: Topology;
let node: AgentNode;
let pod: string;

before(async () => {
  world = await buildTopology();
  node = new AgentNode(world);
  node.setConfig({ "masquerade-port-range": `${RANGE.first},${RANGE.last}` });
  await node.start();
  pod = (await node.addPod("many")).netns;
});
after(() => world?.[Symbol.asyncDispose]());

const hookline = async (...args: string[]): Promise<string> => {
  const done = await world.run(world.node, [process.execPath, HOOKLINE, "--run-dir", node.runDir, ...args]);
  assert.equal(done.status, 0, done.stderr);
  return done.stdout;
};
const json = async <T>(...args: string[]): Promise<T> => JSON.parse(await hookline(...args, "-o", "json"));

/** One datagram from the pod's socket at a port below the range. */
async function sendFrom(port: number, address: string): Promise<void> {
  const v6 = address.includes(":");
  const socket = createSocket(v6 ? "udp6" : "udp4");
  const fd = datagramFd({ netns: pod, host: v6 ? "::" : "0.0.0.0", port });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      socket.bind({ fd }, () =>
        socket.send("x", REMOTE_PORT, address, (error) => (error ? reject(error) : resolve())),
      );
    });
  } finally {
    socket.close();
  }
}

/** One from each of PORTS + TOO_MANY sockets. */
async function sendMany(address: string): Promise<void> {
  for (let port = 20_000; port < 20_000 + PORTS + TOO_MANY; port++) await sendFrom(port, address);
}

interface Stats {
  proto: string;
  source: string;
  remote: string;
  ports: number;
  refused: number;
  refusedSecondsAgo: number | null;
}

async function metric(name: string, labels: Record<string, string>): Promise<number | undefined> {
  const rows = await node.get<MetricRow[]>("/v1/metrics");
  return rows.find(
    (row) => row.name === name && Object.entries(labels).every(([label, is]) => row.labels[label] === is),
  )?.value;
}

for (const family of [4, 6] as const) {
  const address = INTERNET_ADDRESS[family];
  const remote = family === 4 ? `${address}:${REMOTE_PORT}` : `[${address}]:${REMOTE_PORT}`;
  const source = NODE_ADDRESS[family];

  test(`IPv${family}: flows beyond the last port are refused, and everything says towards whom`, async () => {
    await sendMany(address);
    const of = (rows: Stats[]): Stats | undefined => rows.find((row) => row.remote === remote);
    const stats = of(await json<Stats[]>("bpf", "nat", "stats"));
    assert.ok(stats, `${remote} is listed`);
    assert.deepEqual([stats.proto, stats.source], ["UDP", source]);
    const mine = await json<Stats[]>("bpf", "nat", "stats", `-${family}`);
    assert.ok(of(mine) && mine.every((row) => row.remote.startsWith("[") === (family === 6)));
    // The pod's first packets may wait for the neighbour; sockets of the node may hold a port of the range.
    assert.ok(stats.ports > PORTS - 10 && stats.ports <= PORTS, `${stats.ports} of ${PORTS} in use`);
    assert.equal(stats.refused, PORTS + TOO_MANY - stats.ports);
    assert.ok(stats.refusedSecondsAgo !== null && stats.refusedSecondsAgo < 60);
    const table = await hookline("bpf", "nat", "stats", "--top", "1");
    assert.match(
      table,
      /^PROTO +SOURCE SEEN +REMOTE +PORTS +REFUSED +LAST REFUSED\nUDP +\S+ +\S+ +\d+ +\d+ +\d+s\n$/,
    );

    const labels = { source, remote, proto: "UDP" };
    assert.equal(await metric("hookline_nat_endpoint_ports", labels), stats.ports);
    assert.equal(await metric("hookline_nat_refused_total", labels), stats.refused);
    const share = await metric("cilium_nat_endpoint_max_connection", { family: `ipv${family}` });
    assert.equal(share, stats.ports / PORTS);
    const { exhausted } = await node.get<StatusReport>("/v1/status");
    assert.equal(exhausted.find((row) => row.remote === remote)?.refused, stats.refused);
    const shown = `UDP ${source} -> ${remote}: ${stats.refused} flows refused, the last `;
    assert.ok((await hookline("status")).includes(shown));
    assert.equal(
      await metric("cilium_drop_count_total", {
        reason: "No mapping for NAT masquerade",
        direction: "EGRESS",
      }),
      family === 4 ? stats.refused : stats.refused + ((await metric("hookline_nat_refused_total", {})) ?? 0),
    );
  });

  test(`IPv${family}: retries are counted, shown as Cilium shows them, exported and flushed`, async () => {
    const rows = await json<{ family: string; retries: number; flows: number }[]>(
      "bpf",
      "nat",
      "retries",
      "list",
    );
    const mine = rows.filter((row) => row.family === `ipv${family}`);
    assert.deepEqual(
      mine.map((row) => row.retries),
      Array.from({ length: 33 }, (_, i) => i),
    );
    const flows = mine.reduce((sum, row) => sum + row.flows, 0);
    assert.ok(flows >= PORTS + TOO_MANY);
    assert.ok((mine[0]?.flows ?? 0) > 0 && (mine[32]?.flows ?? 0) >= TOO_MANY);
    assert.equal(await metric("hookline_nat_port_retries_count", { family: `ipv${family}` }), flows);
    const bucket = (le: string) => metric("hookline_nat_port_retries_bucket", { family: `ipv${family}`, le });
    assert.equal(await bucket("0"), mine[0]?.flows);
    assert.equal(await bucket("1"), (mine[0]?.flows ?? 0) + (mine[1]?.flows ?? 0));
    assert.equal(await bucket("+Inf"), flows);
    const lines = (await hookline("bpf", "nat", "retries", "list")).trimEnd().split("\n");
    assert.deepEqual(
      lines,
      rows.map((row) => `${row.retries}:\t${row.flows}`),
    );
    assert.deepEqual(await json("bpf", "nat", "retries", "list", `-${family}`), mine);
  });
}

test("retries flush begins again at 0", async () => {
  const counted = async (): Promise<boolean[]> =>
    (await json<{ flows: number }[]>("bpf", "nat", "retries", "list")).map(({ flows }) => flows > 0);
  assert.equal(await hookline("bpf", "nat", "retries", "flush", "-6"), "");
  const still = await counted();
  assert.deepEqual([still.slice(0, 33).includes(true), still.slice(33).includes(true)], [true, false]);
  assert.equal(await hookline("bpf", "nat", "retries", "flush"), "");
  const lines = (await hookline("bpf", "nat", "retries", "list")).trimEnd().split("\n");
  assert.equal(lines.length, 66);
  assert.ok(lines.every((line) => line.endsWith(":\t0")));
});

test("a flush gives all ports back, with and without an agent", async () => {
  const [address, remote] = [INTERNET_ADDRESS[4], `${INTERNET_ADDRESS[4]}:${REMOTE_PORT}`];
  const refused = async (): Promise<number> =>
    (await json<Stats[]>("bpf", "nat", "stats")).find((row) => row.remote === remote)?.refused ?? 0;
  const open = async (): Promise<void> => {
    const earlier = await refused();
    await hookline("bpf", "nat", "flush", "--force");
    await sendFrom(19_000, address);
    assert.equal(await refused(), earlier);
    assert.equal((await json<unknown[]>("bpf", "nat", "list")).length, 1);
  };
  await open();
  await sendMany(address);
  await node.stop();
  await open();
  await node.start();
});

test("a range in which no port is left is a fault that names it", async () => {
  const config = { "masquerade-port-range": `${RANGE.first},${RANGE.last}` };
  // NodePorts alone may not cover the range; here the tunnel takes the last one, of UDP.
  const taken = { "node-port-range": `${RANGE.first},${RANGE.last - 1}`, "tunnel-port": `${RANGE.last}` };
  node.setConfig({ ...config, ...taken });
  const said = async (): Promise<string[]> =>
    (await node.get<StatusReport>("/v1/status")).faults.filter((fault) =>
      fault.includes("every port is reserved"),
    );
  await waitFor("the fault", async () => (await said()).length > 0);
  const [fault, ...more] = await said();
  assert.match(fault ?? "", /^masquerade-port-range 42000,43023: every port is reserved for UDP /);
  assert.equal(more.length, 0, "TCP has the last one left");
  node.setConfig(config);
  await waitFor("the fault to go", async () => (await said()).length === 0);
});
