// SPDX-License-Identifier: Apache-2.0
// The lists of the CLI over a real agent's maps: what pods did is found by every way to ask for it, lists come in one
// order, and a large table is listed without being held as text, also into a pipe that nobody reads.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { listFlows } from "../../src/cli/flow-list.ts";
import { type FlowRow, natLines } from "../../src/cli/flows.ts";
import { openDatapath } from "../../src/loader/datapath.ts";
import type { Flow, FlowKey } from "../../src/maps/gen/types.ts";
import { FlowState, Hook, MasqueradeRule } from "../../src/maps/gen/verdict.ts";
import { openInner, openPinned } from "../../src/maps/table.ts";
import { nowTicks } from "../../src/maps/ticks.ts";
import { peersSeen } from "../support/ask.ts";
import { AgentNode } from "../support/cni-node.ts";
import { ALL_ON, OBJECT } from "../support/datapath.ts";
import { buildTopology, type Finished, INTERNET_ADDRESS, type Topology } from "../support/netns.ts";

const HOOKLINE = join(import.meta.dirname, "../../src/bin/hookline.ts");
/** Records of the large table: as rows they take more than the heap that the command is given. */
const MANY = 200_000;
const HEAP_MB = 64;

let world: Topology;
let node: AgentNode;
const address: Record<string, Record<4 | 6, string>> = {};

before(async () => {
  world = await buildTopology();
  node = new AgentNode(world);
  // No flow ends before it has been listed.
  const forLong = ["any", "tcp", "tcp-syn", "tcp-fin"].flatMap((of) => [
    `--bpf-ct-timeout-regular-${of}`,
    "1h",
  ]);
  await node.start("--bpf-ct-global-tcp-max", String(MANY * 2), ...forLong);
  for (const name of ["web", "db"]) {
    const { netns, address: of } = await node.addPod(name);
    address[name] = of;
    const targets = Object.values(INTERNET_ADDRESS).flatMap((host) => [`tcp:${host}`, `udp:${host}`]);
    await peersSeen(netns, targets);
  }
});
after(() => world?.[Symbol.asyncDispose]());

const hookline = (...args: string[]): string[] => [
  process.execPath,
  HOOKLINE,
  "--run-dir",
  node.runDir,
  ...args,
];

async function cli(...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await world.run(world.node, hookline(...args));
  assert.equal(status, 0, stderr);
  return stdout;
}

async function flows(...args: string[]): Promise<FlowRow[]> {
  return JSON.parse(await cli("bpf", "flow", "list", "-o", "json", ...args));
}

test("flows are found by pod, address, port, protocol and state, out of real traffic", async () => {
  const all = await flows();
  assert.equal(all.length, 8, JSON.stringify(all));
  const web = await flows("--pod", "default/web", "--protocol", "udp");
  assert.deepEqual(
    web.map((f) => f.source.replace(/:\d+$/, "")).sort(),
    [address.web?.[4], `[${address.web?.[6]}]`].sort(),
  );
  assert.ok(web.every((f) => f.proto === "UDP" && f.masqueraded && f.rule === MasqueradeRule.MASQ_POD));
  const [one] = await flows("--from-ip", address.db?.[4] ?? "", "--protocol", "tcp", "-4");
  assert.ok(one);
  const port = /\d+$/.exec(one.source)?.[0] ?? "";
  const [same] = await flows("--from-port", port, "--to-ip", "198.51.100.0/24", "--from-pod", "db");
  assert.equal(same?.source, one.source);
  assert.deepEqual(await flows("--traffic-direction", "ingress"), []);
  const inEndpoint = await flows(String(one.endpoint));
  assert.deepEqual(
    [inEndpoint.length, new Set(inEndpoint.map((f) => f.endpoint))],
    [4, new Set([one.endpoint])],
  );
  assert.equal((await flows("global")).length, 8);
});

test("bpf nat list prints Cilium's lines, of the flows that are asked for", async () => {
  const text = await cli(
    "bpf",
    "nat",
    "list",
    "--to-ip",
    INTERNET_ADDRESS[6],
    "--protocol",
    "tcp",
    "--pod",
    "web",
  );
  const [out = "", back = "", ...rest] = text.trimEnd().split("\n");
  assert.deepEqual(rest, []);
  const [v6, server] = [address.web?.[6], INTERNET_ADDRESS[6]];
  const shape =
    /^TCP OUT \[(.*)\]:(\d+) -> \[(.*)\]:7 XLATE_SRC \[fd00:20::11\]:(\d+) Created=\d+sec ago NeedsCT=0$/;
  const [, source, port, destination, seen] = shape.exec(out) ?? [];
  assert.deepEqual([source, destination], [v6, server], out);
  const created = /Created=.*$/.exec(out)?.[0];
  assert.equal(back, `TCP IN [${server}]:7 -> [fd00:20::11]:${seen} XLATE_DST [${v6}]:${port} ${created}`);
});

test("bpf frag list shows what waits for the first fragment of its datagram", async () => {
  assert.deepEqual(JSON.parse(await cli("bpf", "frag", "list", "-o", "json")), []);
  using held = openPinned(node.bpfRoot, "frag_held");
  const empty = held.get(0);
  assert.ok(empty);
  // As if it had just come, whenever the agent looks.
  const one = {
    ...empty,
    since: (nowTicks() + 10_000) >>> 0,
    len: 1420,
    hook: Hook.HOOK_FROM_POD,
    proto: 17,
  };
  const [four, six] = ([4, 6] as const).map((family) => ({
    saddr: address.web?.[family] ?? "",
    daddr: INTERNET_ADDRESS[family],
    id: family === 4 ? 0x1234_0000 : 0x1234,
    proto: family === 4 ? 17 : 0,
  }));
  assert.ok(four && six);
  held.set(3, { ...one, key: four, endpoint: 5 });
  held.set(200, { ...one, key: six, endpoint: 0, hook: Hook.HOOK_FROM_NET });
  const [first, second] = JSON.parse(await cli("bpf", "frag", "list", "-o", "json"));
  const both = { proto: "UDP", id: 0x1234, bytes: 1420, waitsSeconds: 0 };
  assert.deepEqual(first, {
    ...both,
    source: four.saddr,
    destination: four.daddr,
    hook: "from_pod",
    endpoint: 5,
  });
  assert.deepEqual(second, {
    ...both,
    source: six.saddr,
    destination: six.daddr,
    hook: "from_net",
    endpoint: 0,
  });
  assert.deepEqual(JSON.parse(await cli("bpf", "frag", "list", "-4", "-o", "json")), [first]);
  assert.deepEqual(JSON.parse(await cli("bpf", "frag", "list", "-6", "-o", "json")), [second]);
  for (const place of [3, 200]) held.set(place, empty);
});

test("a flush ends what the filter chooses and nothing else", async () => {
  assert.equal(
    await cli("bpf", "nat", "flush", "--pod", "db", "--protocol", "udp", "--force"),
    "2 translated flows removed\n",
  );
  assert.equal((await flows()).length, 6);
  assert.deepEqual(await flows("--pod", "db", "--protocol", "udp"), []);
});

test("endpoints, maps and counters have their filters, and what is not there is told", async () => {
  const endpoints = async (...args: string[]): Promise<{ addr4: string }[]> =>
    JSON.parse(await cli("bpf", "endpoint", "list", "-o", "json", ...args));
  assert.equal((await endpoints()).length, 2);
  assert.deepEqual(
    (await endpoints("--pod", "db")).map((e) => e.addr4),
    [address.db?.[4]],
  );
  assert.deepEqual(
    (await endpoints("--ip", address.web?.[6] ?? "")).map((e) => e.addr4),
    [address.web?.[4]],
  );
  const maps = JSON.parse(await cli("bpf", "map", "list", "-o", "json", "flows", "nonmasq_cidrs"));
  assert.deepEqual(maps.map((m: { name: string }) => m.name).sort(), ["flows[0]", "nonmasq_cidrs"]);
  const table = maps.find((m: { name: string }) => m.name === "flows[0]");
  assert.equal(table.entries, 6);
  assert.ok(table.pressure > 0 && table.pressure <= table.fill, JSON.stringify(table));
  const counters: { hook: string; direction: string; packets: number }[] = JSON.parse(
    await cli(
      "bpf",
      "metrics",
      "list",
      "-o",
      "json",
      "--traffic-direction",
      "egress",
      "--verdict",
      "forwarded",
    ),
  );
  assert.ok(counters.length > 0 && counters.every((c) => c.direction === "EGRESS" && c.packets > 0));
  const metrics = await cli("metrics", "list", "-p", "forward_count", "--label", "direction=INGRESS");
  assert.match(metrics, /^METRIC.*\ncilium_forward_count_total +direction=INGRESS +\d+\n$/);
  for (const [args, told] of [
    [["bpf", "map", "list", "flow"], 'no map "flow"'],
    [["bpf", "flow", "list", "--pod", "nobody"], 'no pod "nobody"'],
  ] as const) {
    const { status, stderr } = await world.run(world.node, hookline(...args));
    assert.equal(status, 1);
    assert.ok(stderr.includes(told), stderr);
  }
});

/** Makes the flow table large, and fills it with records that no packet made. */
async function fill(): Promise<void> {
  {
    using datapath = openDatapath({
      objectPath: OBJECT,
      bpfRoot: node.bpfRoot,
      config: ALL_ON,
      netns: world.node,
    });
    await datapath.flowTables.grow({ flows: 2 * MANY, replies: 2 * MANY });
  }
  const tables = openInner(node.bpfRoot, "flows");
  const now = nowTicks();
  const key: FlowKey = { saddr: "", daddr: "192.0.2.1", sport: 0, dport: 443, proto: 6 };
  const flow: Flow = {
    ...{ xsaddr: "172.20.0.11", xdaddr: "192.0.2.1", xsport: 0, xdport: 443, proxyPort: 0, service: 0 },
    ...{ identity: 0, endpoint: 999, rule: MasqueradeRule.MASQ_POD, expires: (now + 100_000) >>> 0 },
    ...{ created: now, state: FlowState.FLOW_XSOURCE },
  };
  for (let i = 0; i < MANY; i++) {
    const sport = 1024 + (i % 60_000);
    const saddr = `10.99.${i >> 16}.${(i >> 8) & 255}`;
    tables[0]?.set(
      { ...key, saddr, sport },
      { ...flow, xsport: sport, created: (now - (i % 500) * 61) >>> 0 },
    );
  }
  for (const table of tables) table.close();
}

test("a large table is listed in little memory, in one order, and a reader may leave", async () => {
  // Records without an index entry are what a sweep removes; and lists need no agent.
  await node.stop();
  await fill();
  const list = await listFlows({ runDir: node.runDir, endpoint: 999 });
  const rows = [...list];
  assert.equal(rows.length, MANY);
  assert.deepEqual([...list].slice(0, 1000), rows.slice(0, 1000), "gone through again");
  for (let i = 1; i < rows.length; i++) {
    assert.ok(
      (rows[i]?.ageSeconds ?? 0) >= (rows[i - 1]?.ageSeconds ?? 0),
      `row ${i} is younger than the one before`,
    );
  }
  const shell = (line: string): Promise<Finished> =>
    world.run(world.node, ["bash", "-o", "pipefail", "-c", line], { timeoutMs: 60_000 });
  const command = hookline("bpf", "nat", "list", "--endpoint", "999").join(" ");
  const limited = command.replace(process.execPath, `${process.execPath} --max-old-space-size=${HEAP_MB}`);
  for (const format of ["table", "json"]) {
    const { status, stdout, stderr } = await shell(`${limited} -o ${format} | wc -l`);
    assert.equal(status, 0, stderr);
    const lines = format === "table" ? 2 * MANY : 2 + MANY * (2 + Object.keys(rows[0] ?? {}).length);
    assert.equal(Number(stdout), lines, format);
  }
  const { status, stdout, stderr } = await shell(`${limited} | head -2`);
  assert.deepEqual([status, stderr], [0, ""]);
  const strip = (text: string): string => text.replaceAll(/Created=\d+/g, "");
  assert.equal(strip(stdout), strip(`${natLines(rows[0] as FlowRow).join("\n")}\n`));
});
