// SPDX-License-Identifier: Apache-2.0
// Metrics of a real agent with real traffic: what pods send and what is dropped appear in the counters of both families,
// fill is what the kernel counts, the endpoint follows its option, and `bpf nat flush` leaves nothing behind.
import assert from "node:assert/strict";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { parse, stringify } from "yaml";
import type { EndpointReport, StatusReport } from "../../src/agent/status.ts";
import type { MetricRow } from "../../src/api/metric.ts";
import { METRICS } from "../../src/api/metrics-table.ts";
import { waitFor } from "../../src/base/async.ts";
import { FlowState } from "../../src/maps/gen/verdict.ts";
import { openInner } from "../../src/maps/table.ts";
import { thisMachine } from "../../tools/setup/needs.ts";
import { ask, peersSeen } from "../support/ask.ts";
import { FrameSocket } from "../support/cable.ts";
import { AgentNode } from "../support/cni-node.ts";
import { cut } from "../support/fragments.ts";
import { buildTopology, INTERNET_ADDRESS, ip, NODE_ADDRESS, type Topology } from "../support/netns.ts";
import { eth } from "../support/packet.ts";

const HOOKLINE = join(import.meta.dirname, "../../src/bin/hookline.ts");
const PORT = 9962;

let world: Topology;
let node: AgentNode;
let pod: string;
let endpoint: EndpointReport;
const initial: Record<string, string> = {};

/** The ConfigMap with these values over those of the beginning, replaced as Kubernetes does. */
function setConfig(values: Record<string, string>): void {
  const path = join(node.manifestsDir, "config.yaml");
  const object = parse(readFileSync(path, "utf8"));
  // Closed flows are there until they have been counted.
  if (Object.keys(initial).length === 0)
    Object.assign(initial, object.data, { "bpf-ct-timeout-regular-tcp-fin": "1h" });
  writeFileSync(`${path}.draft`, stringify({ ...object, data: { ...initial, ...values } }));
  renameSync(`${path}.draft`, path);
}

before(async () => {
  world = await buildTopology();
  node = new AgentNode(world);
  setConfig({});
  await node.start();
  pod = world.addNetns("pod");
  const args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web";
  const added = await node.call("ADD", { containerId: "web", netns: pod, args });
  assert.equal(added.status, 0, JSON.stringify(added.json));
  [endpoint] = (await node.get<EndpointReport[]>("/v1/endpoints")) as [EndpointReport];
});
after(() => world?.[Symbol.asyncDispose]());

const status = (): Promise<StatusReport> => node.get<StatusReport>("/v1/status");
const rows = (): Promise<MetricRow[]> => node.get<MetricRow[]>("/v1/metrics");

/** The value of a metric with these labels; 0 if there is none yet, as a counter's beginning. */
async function metric(name: string, labels: Record<string, string> = {}): Promise<number> {
  return sumOf(await rows(), name, labels);
}

function sumOf(all: readonly MetricRow[], name: string, labels: Record<string, string> = {}): number {
  const found = all.filter(
    (row) => row.name === name && Object.entries(labels).every(([label, is]) => row.labels[label] === is),
  );
  return found.reduce((sum, row) => sum + row.value, 0);
}

/** Runs the CLI against this node's agent. */
const hookline = (...args: string[]) =>
  world.run(world.node, [process.execPath, HOOKLINE, "--run-dir", node.runDir, ...args]);

for (const family of [4, 6] as const) {
  test(`IPv${family}: traffic grows the counters of both directions, packets and bytes`, async () => {
    const read = () =>
      Promise.all(
        ["EGRESS", "INGRESS"].flatMap((direction) => [
          metric("cilium_forward_count_total", { direction }),
          metric("cilium_forward_bytes_total", { direction }),
        ]),
      );
    const earlier = await read();
    const target = `tcp:${INTERNET_ADDRESS[family]}`;
    assert.deepEqual(await peersSeen(pod, [target]), { [target]: NODE_ADDRESS[family] });
    const later = await read();
    // A handshake, a question, an answer: at least two packets of at least 54 bytes each way.
    const least = [2, 108, 2, 108];
    later.forEach((value, i) => {
      assert.ok(value - (earlier[i] ?? 0) >= (least[i] ?? 0), `${earlier} to ${later}`);
    });
  });

  test(`IPv${family}: a packet with a source that is not the pod's is a drop with its reason`, async () => {
    const wrong = family === 4 ? "10.244.1.250" : "fd00:10:244:1::250";
    ip(pod, [`address add ${wrong}/${family === 4 ? 32 : 128} dev eth0${family === 6 ? " nodad" : ""}`]);
    const labels = { reason: "Invalid source ip", direction: "EGRESS" };
    const drops = () => metric("cilium_drop_count_total", labels);
    const bytes = () => metric("cilium_drop_bytes_total", labels);
    const earlier = { drops: await drops(), bytes: await bytes() };
    await ask(pod, `udp:${INTERNET_ADDRESS[family]}@${wrong}`, { patienceMs: 100 });
    await waitFor("the drop", async () => (await drops()) === earlier.drops + 1);
    assert.ok((await bytes()) > earlier.bytes);
    assert.equal(
      await metric("hookline_hook_packets_total", { hook: "from_pod", reason: "Invalid source ip" }),
      earlier.drops + 1,
    );
    ip(pod, [`address del ${wrong}/${family === 4 ? 32 : 128} dev eth0`]);
  });
}

for (const family of [4, 6] as const) {
  test(`IPv${family}: a fragment whose first never comes is held, then given up by the agent and counted as dropped`, async () => {
    const labels = { reason: "First logical datagram fragment not found", direction: "EGRESS" };
    const read = () =>
      Promise.all([
        metric("hookline_fragments_held_total"),
        metric("hookline_fragments_ended_total", { outcome: "given_up" }),
        metric("cilium_drop_count_total", labels),
        metric("hookline_fragments_waiting"),
      ]);
    const [held = 0, ended = 0, dropped = 0] = await read();
    const link = eth("02:00:00:00:00:01", "02:00:00:00:00:02");
    const way = { link, src: endpoint[`ipv${family}`], dst: INTERNET_ADDRESS[family], id: 7 };
    const [, later] = cut(
      family,
      way,
      (on) => on.udp({ sport: 7, dport: 7 }).payload(new Uint8Array(1000)),
      800,
    );
    using socket = new FrameSocket(pod, "eth0");
    socket.send(later as Uint8Array);
    await waitFor("the hold", async () => (await read())[0] === held + 1);
    await waitFor("the end", async () => (await read())[1] === ended + 1);
    assert.deepEqual(await read(), [held + 1, ended + 1, dropped + 1, 0]);
  });
}

test("flows, entries, addresses and pods are what is there", async () => {
  const [flows, ...more] = openInner(node.bpfRoot, "flows");
  assert.ok(flows !== undefined && more.length === 0);
  const all = await rows();
  const { live, dead, entries, pressure, capacity } = {
    live: sumOf(all, "hookline_flow_records", { state: "live" }),
    dead: sumOf(all, "hookline_flow_records", { state: "dead" }),
    entries: sumOf(all, "hookline_map_entries", { map_name: "flows" }),
    pressure: sumOf(all, "cilium_bpf_map_pressure", { map_name: "flows" }),
    capacity: sumOf(all, "cilium_bpf_map_capacity", { map_group: "flows" }),
  };
  assert.ok(live >= 2, "a live flow of each family");
  assert.equal(live + dead, entries);
  assert.equal(entries, flows.count());
  assert.equal(capacity, flows.maxEntries);
  assert.equal(pressure, entries / capacity);
  flows.close();
  assert.equal(await metric("cilium_endpoint"), 1);
  assert.equal(await metric("cilium_endpoint_state", { endpoint_state: "ready" }), 1);
  assert.equal(await metric("cilium_ip_addresses", { family: "ipv4" }), 1);
  assert.equal(await metric("hookline_ipam_in_use", { cidr: "10.244.1.0/24" }), 1);
  assert.equal(await metric("hookline_ipam_in_use", { cidr: "fd00:10:244:1::/64" }), 1);
  const { usable } = (await status()).ipam.ipv4;
  assert.equal(await metric("hookline_ipam_available", { cidr: "10.244.1.0/24" }), Number(usable) - 1);
  assert.equal(await metric("hookline_map_entries", { map_name: "endpoint_addrs" }), 2);
  assert.equal(await metric("hookline_watch_connected", { kind: "nodes" }), 1);
  assert.equal(await metric("hookline_device_attached", { device: "eth0" }), 1);
  assert.equal(await metric("hookline_agent_ready"), 1);
  assert.equal(await metric("hookline_config_faults"), 0);
});

test("a refused value is a config fault, and the endpoint's option is followed", async () => {
  const get = () => world.run(world.node, ["curl", "-sS", "-m5", `http://127.0.0.1:${PORT}/metrics`]);
  assert.notEqual((await get()).status, 0, "off by default");
  const bySocket = ["curl", "-sS", "--unix-socket", join(node.runDir, "agent.sock"), "http://agent/metrics"];
  assert.match((await world.run(world.node, bySocket)).stdout, /^cilium_endpoint 1$/m);
  setConfig({ "prometheus-serve-addr": "here:9962" });
  await waitFor("the config fault", async () => (await metric("hookline_config_faults")) === 1);
  setConfig({ "prometheus-serve-addr": `:${PORT}` });
  await waitFor("the endpoint", async () => (await get()).status === 0);
  const { stdout } = await get();
  for (const { name, type } of METRICS) assert.ok(stdout.includes(`# TYPE ${name} ${type}\n`), name);
  assert.match(stdout, /^cilium_drop_count_total\{reason="Invalid source ip",direction="EGRESS"\} 2$/m);
  // One value per metric and labels, each a number: nothing of an earlier scrape stays.
  const lines = stdout.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  assert.equal(new Set(lines.map((line) => line.replace(/ \S+$/, ""))).size, lines.length);
  for (const line of lines) assert.match(line, / (-?\d+(\.\d+)?(e[+-]\d+)?)$/, line);
  const path = (name: string) =>
    world.run(world.node, ["curl", "-s", "-o/dev/null", "-w%{http_code}", `http://127.0.0.1:${PORT}${name}`]);
  assert.equal((await path("/v1/status")).stdout, "404", "nothing else of the agent is there");
  const outside = `http://${NODE_ADDRESS[4]}:${PORT}/metrics`;
  assert.notEqual((await world.run(world.outside, ["curl", "-sS", "-m2", outside])).status, 0);
  setConfig({ "prometheus-serve-addr": `0.0.0.0:${PORT}` });
  await waitFor(
    "the endpoint from outside",
    async () => (await world.run(world.outside, ["curl", "-sS", "-m2", outside])).status === 0,
  );
  setConfig({});
  await waitFor("the endpoint to go", async () => (await get()).status !== 0);
});

test("an address that cannot be had is a fault, and no more", async () => {
  setConfig({ "prometheus-serve-addr": "192.0.2.1:9962" });
  await waitFor("the fault", async () =>
    (await status()).faults.some((fault) =>
      fault.startsWith("prometheus-serve-addr: metrics cannot be served"),
    ),
  );
  assert.equal((await status()).overall.state, "warning");
  setConfig({});
  await waitFor("the fault to go", async () => (await status()).faults.length === 0);
});

test("metrics list: the agent's values by pattern, for people and programs", async () => {
  const table = await hookline("metrics", "list", "-p", "^cilium_endpoint");
  assert.equal(table.status, 0, table.stderr);
  assert.match(
    table.stdout,
    /^METRIC +LABELS +VALUE\ncilium_endpoint +- +1\ncilium_endpoint_state +endpoint_state=not-ready +0\n/,
  );
  const json = await hookline("metrics", "list", "-p", "^cilium_endpoint$", "-o", "json");
  assert.deepEqual(JSON.parse(json.stdout), [{ name: "cilium_endpoint", labels: {}, value: 1 }]);
  const wrong = await hookline("metrics", "list", "-p", "(");
  assert.equal(wrong.status, 2);
});

/** Records of the flow table; with `translated` only those. */
function records(translated = false): number {
  const tables = openInner(node.bpfRoot, "flows");
  const all = tables.flatMap((table) => [...table.entries()]);
  for (const table of tables) table.close();
  return all.filter(([, flow]) => !translated || (flow.state & FlowState.FLOW_XSOURCE) !== 0).length;
}

function replies(): number {
  const tables = openInner(node.bpfRoot, "replies");
  const count = tables.reduce((sum, table) => sum + table.count(), 0);
  for (const table of tables) table.close();
  return count;
}

test("bpf nat flush removes translated flows with their index, and new flows come through", async () => {
  const targets = [`udp:${INTERNET_ADDRESS[4]}`, `udp:${INTERNET_ADDRESS[6]}`];
  const expected = Object.fromEntries(targets.map((target, i) => [target, NODE_ADDRESS[i === 0 ? 4 : 6]]));
  assert.deepEqual(await peersSeen(pod, targets), expected);
  assert.ok(records(true) >= 2 && replies() >= 2);
  const asked = await hookline("bpf", "nat", "flush");
  assert.equal(asked.status, 2, "without a terminal it wants --force");
  assert.ok(records(true) >= 2);
  const flushed = await hookline("bpf", "nat", "flush", "--force");
  assert.equal(flushed.status, 0, flushed.stderr);
  assert.match(flushed.stdout, /^\d+ translated flows removed\n$/);
  assert.ok(Number.parseInt(flushed.stdout, 10) >= 2);
  assert.equal(records(true), 0);
  assert.equal(replies(), 0);
  assert.deepEqual(await peersSeen(pod, targets), expected);
});

test("bpf ct flush removes all flows, also without an agent", async () => {
  assert.equal(endpoint.state, "ready");
  assert.ok(records() >= 2);
  await node.stop();
  const dead = await hookline("bpf", "ct", "flush", "--force");
  assert.equal(dead.status, 0, dead.stderr);
  assert.match(dead.stdout, /^\d+ flows removed\n$/);
  assert.ok(Number.parseInt(dead.stdout, 10) >= 2);
  assert.equal((await hookline("bpf", "ct", "list")).stdout.trim().split("\n").length, 1, "only the header");
  assert.deepEqual([records(), replies()], [0, 0], "no sweep is waited for");
  await node.start();
});

/** Expressions of the example dashboard, its variables given values, and of the page's table of alerts. */
function expressions(): string[] {
  const read = (path: string): string => readFileSync(join(import.meta.dirname, "../..", path), "utf8");
  const { panels } = JSON.parse(read("examples/grafana/hookline.json")) as {
    panels: { targets: { expr: string }[] }[];
  };
  const shown = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
  const alerts = [...read("docs/user/metrics.md").matchAll(/^\| `([^`]* (?:>|==) [^`]*)`/gm)].map(
    ([, expr = ""]) => expr,
  );
  assert.ok(shown.length > 0 && alerts.length > 0);
  return [...shown, ...alerts].map((expr) =>
    expr.replaceAll("$instance", ".*").replaceAll("$__rate_interval", "5m"),
  );
}

// Debian's package of it is 100 MB and starts a server: set-up does not install it.
const promtool = thisMachine().program(/^promtool$/) ? false : "without promtool (package prometheus)";
test("Prometheus' own parser takes the metrics and every expression that we offer", {
  skip: promtool,
}, async () => {
  const scraped = await world.run(world.node, [
    ...["curl", "-sS", "--unix-socket", join(node.runDir, "agent.sock")],
    "http://agent/metrics",
  ]);
  const metrics = await world.run(world.node, ["promtool", "check", "metrics"], { input: scraped.stdout });
  assert.deepEqual([metrics.status, metrics.stdout, metrics.stderr], [0, "", ""]);
  const rules = expressions().map((expr, i) => ({ record: `expression:${i}`, expr }));
  const file = join(world.dir, "rules.json");
  writeFileSync(file, JSON.stringify({ groups: [{ name: "hookline", rules }] }));
  const checked = await world.run(world.node, ["promtool", "check", "rules", file]);
  assert.equal(checked.status, 0, checked.stderr);
  assert.match(checked.stdout, new RegExp(`${rules.length} rules found`));
});
