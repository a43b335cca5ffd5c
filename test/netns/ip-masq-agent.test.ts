// SPDX-License-Identifier: Apache-2.0
// The ip-masq-agent end to end: a document that changes, as file and as ConfigMap, against the map in the kernel, what
// `hookline bpf ipmasq list` and `status` say, and under which address servers outside see a pod, both families.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import { parse, stringify } from "yaml";
import type { StatusReport } from "../../src/agent/status.ts";
import { sleep, waitFor } from "../../src/base/async.ts";
import { comparePrefixes, formatPrefix, parsePrefix, prefixContains } from "../../src/base/prefix.ts";
import { MasqueradeRule } from "../../src/maps/gen/verdict.ts";
import { openPinned } from "../../src/maps/table.ts";
import { DEFAULT_RANGES } from "../../src/source/ip-masq-agent.ts";
import { ask, peersSeen } from "../support/ask.ts";
import { AgentNode } from "../support/cni-node.ts";
import { buildTopology, GATEWAY_ADDRESS, ip, NODE_ADDRESS, type Topology } from "../support/netns.ts";

const HOOKLINE = join(import.meta.dirname, "../../src/bin/hookline.ts");
/** In the defaults, in no set, link-local; IPv6 has no defaults. */
const SERVERS = ["203.0.113.10", "9.9.9.10", "169.254.77.10", "2001:db8:113::10", "2001:db8:100::10"];
const DEFAULTS = [...DEFAULT_RANGES, "169.254.0.0/16", "fe80::/10"];
const CONFIG_MAP = "ConfigMap kube-system/ip-masq-agent";

let world: Topology;
let node: AgentNode;
let pod: string;
let podAddress: Record<4 | 6, string>;
let agentFile: string;
let mapFile: string;
let configFile: string;
const initial: Record<string, string> = {};

before(async () => {
  world = await buildTopology({ servers: false });
  const far = ["9.9.9.10", "169.254.77.10"];
  ip(
    world.outside,
    far.map((address) => `address add ${address}/32 dev lo`),
  );
  // Not link-local for the node: what it routes to is what pods send.
  ip(world.node, [`route add 169.254.77.0/24 via ${GATEWAY_ADDRESS[4]}`]);
  await world.serve(world.outside, "outside", SERVERS);
  node = new AgentNode(world);
  agentFile = join(world.dir, "ip-masq/deep/ip-masq-agent");
  mapFile = join(node.manifestsDir, "ip-masq-agent.yaml");
  configFile = join(node.manifestsDir, "config.yaml");
  rmSync(mapFile);
  Object.assign(initial, parse(readFileSync(configFile, "utf8")).data, {
    "ip-masq-agent-config-path": agentFile,
  });
  setConfig({});
  await node.start();
  pod = world.addNetns("pod");
  const { json } = await node.call("ADD", { containerId: "pod", netns: pod });
  const [v4, v6] = json.ips.map(({ address }: { address: string }) => address.replace(/\/.*/, ""));
  podAddress = { 4: v4, 6: v6 };
});
after(() => world?.[Symbol.asyncDispose]());

function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.draft`, text);
  renameSync(`${path}.draft`, path);
}

function writeMap(path: string, name: string, data: Record<string, string>): void {
  const metadata = { name, namespace: "kube-system" };
  replaceFile(path, stringify({ apiVersion: "v1", kind: "ConfigMap", metadata, data }));
}

const setConfig = (values: Record<string, string>): void =>
  writeMap(configFile, "cilium-config", { ...initial, ...values });

function writeDocument(text: string): void {
  mkdirSync(dirname(agentFile), { recursive: true });
  replaceFile(agentFile, text);
}

/** The two places of a document. */
const PLACES: Record<string, { origin: () => string; write: (text: string) => void; clear: () => void }> = {
  file: {
    origin: () => agentFile,
    write: writeDocument,
    clear: () => rmSync(agentFile),
  },
  ConfigMap: {
    origin: () => CONFIG_MAP,
    write: (text) => writeMap(mapFile, "ip-masq-agent", { config: text }),
    clear: () => rmSync(mapFile),
  },
};

const status = (): Promise<StatusReport> => node.get<StatusReport>("/v1/status");
const sorted = (ranges: readonly string[]): string[] =>
  ranges.map(parsePrefix).sort(comparePrefixes).map(formatPrefix);

/** The agent's ranges in the kernel. */
function ranges(): string[] {
  using table = openPinned(node.bpfRoot, "nonmasq_cidrs");
  const entries = [...table.entries()].filter(([, { rule }]) => rule === MasqueradeRule.MASQ_NONMASQ_CIDR);
  return entries
    .map(([prefix]) => prefix)
    .sort(comparePrefixes)
    .map(formatPrefix);
}

async function inForce(expected: readonly string[]): Promise<void> {
  const wanted = sorted(expected).join();
  await waitFor(`${expected.slice(0, 20)} in nonmasq_cidrs`, () => ranges().join() === wanted, {
    intervalMs: 5,
  }).catch((thrown) => assert.equal(ranges().join("\n"), sorted(expected).join("\n"), String(thrown)));
}

async function cli(...args: string[]): Promise<string> {
  const argv = [process.execPath, HOOKLINE, "--run-dir", node.runDir, ...args];
  const { status: exit, stdout, stderr } = await world.run(world.node, argv);
  assert.equal(exit, 0, stderr);
  return stdout;
}

/** Who each server sees when the pod calls it now, over TCP. */
async function seen(): Promise<Record<string, string>> {
  const answers = await peersSeen(
    pod,
    SERVERS.map((server) => `tcp:${server}`),
  );
  return Object.fromEntries(Object.entries(answers).map(([target, peer]) => [target.slice(4), peer]));
}

/** Map, CLI, status and packets agree on a set. */
async function holds(expected: readonly string[], origin: string): Promise<void> {
  await inForce(expected);
  assert.equal(await cli("bpf", "ipmasq", "list"), ["IP PREFIX/ADDRESS", ...sorted(expected), ""].join("\n"));
  const { ipMasqAgent } = (await status()).masquerading;
  assert.deepEqual([ipMasqAgent.origin, ipMasqAgent.ranges], [origin, expected.length]);
  const kept = (server: string): boolean =>
    expected.some((range) => prefixContains(parsePrefix(range), server));
  const family = (server: string): 4 | 6 => (server.includes(":") ? 6 : 4);
  assert.deepEqual(
    await seen(),
    Object.fromEntries(
      SERVERS.map((server) => [
        server,
        kept(server) ? podAddress[family(server)] : NODE_ADDRESS[family(server)],
      ]),
    ),
  );
}

test("no document: the defaults and both link-local ranges", () => holds(DEFAULTS, "defaults"));

const TRUTH: [name: string, text: string, expected: string[]][] = [
  [
    "a list: exactly that and link-local",
    "nonMasqueradeCIDRs:\n- 9.9.9.0/24\n- 2001:db8:100::/48\n",
    ["9.9.9.0/24", "2001:db8:100::/48", "169.254.0.0/16", "fe80::/10"],
  ],
  ["an empty list: link-local alone", "nonMasqueradeCIDRs:\n", ["169.254.0.0/16", "fe80::/10"]],
  ["masqLinkLocal", "nonMasqueradeCIDRs: [9.9.9.0/24]\nmasqLinkLocal: true\n", ["9.9.9.0/24", "fe80::/10"]],
  ["masqLinkLocalIPv6", "masqLinkLocalIPv6: true\n", ["169.254.0.0/16"]],
  ["nothing at all", "nonMasqueradeCIDRs: []\nmasqLinkLocal: true\nmasqLinkLocalIPv6: true\n", []],
  [
    "host bits",
    "nonMasqueradeCIDRs: ['9.9.9.9/16', '2001:db8:100::1/48']\n",
    ["9.9.0.0/16", "2001:db8:100::/48", "169.254.0.0/16", "fe80::/10"],
  ],
  [
    "JSON",
    '{"nonMasqueradeCIDRs": ["203.0.113.0/24", "2001:db8:113::/64"], "masqLinkLocal": true}',
    ["203.0.113.0/24", "2001:db8:113::/64", "fe80::/10"],
  ],
  [
    "all of IPv6, which is nothing of IPv4",
    "nonMasqueradeCIDRs: ['::/0']\nmasqLinkLocal: true\nmasqLinkLocalIPv6: true\n",
    ["::/0"],
  ],
];
for (const [place, { write, clear, origin }] of Object.entries(PLACES)) {
  for (const [name, text, expected] of TRUTH) {
    test(`${place}: ${name}`, () => {
      write(text);
      return holds(expected, origin());
    });
  }
  test(`${place}: taken away, the defaults are back`, () => {
    clear();
    return holds(DEFAULTS, "defaults");
  });
}

const ONE = ["9.9.9.0/24", "2001:db8:100::/48", "169.254.0.0/16", "fe80::/10"];
const ONE_TEXT = "nonMasqueradeCIDRs:\n- 9.9.9.0/24\n- 2001:db8:100::/48\n";

/** What is wrong in a document, and what status says of it behind the document's name. */
const REFUSED: [name: string, text: string | Buffer, told: string][] = [
  ["YAML", "nonMasqueradeCIDRs: [9.9.9.0/24\nmasqLinkLocal: true\n", "line 2: "],
  [
    "CIDR",
    "nonMasqueradeCIDRs:\n- 8.8.8.0/24\n- fd00::/129\n",
    'nonMasqueradeCIDRs[1] line 3: "fd00::/129": prefix length over 128',
  ],
  ["key", "nonMasqueradeCIDRs: []\nmasqOutbound: true\n", "masqOutbound line 2: no such key"],
  ["type", "nonMasqueradeCIDRs: 8.8.8.0/24\n", "nonMasqueradeCIDRs line 1: not a list"],
  ["duplicate", "masqLinkLocal: true\nmasqLinkLocal: false\n", "line 2: Map keys must be unique"],
  ["size", `# ${" ".repeat(1024 * 1024)}\n`, "more than 1048576 bytes"],
  ["binary", Buffer.from("nonMasqueradeCIDRs:\n- \u0000\n"), "line 2: not text"],
  ["encoding", Buffer.from([0xff, 0xfe, 0x00]), "not text in UTF-8"],
];

for (const [place, { write, origin }] of Object.entries(PLACES)) {
  test(`${place}: what cannot be used keeps the set, is told with path, line and reason, and is forgotten`, async () => {
    rmSync(agentFile, { force: true });
    write(ONE_TEXT);
    await holds(ONE, origin());
    const { generation } = (await status()).masquerading.ipMasqAgent;
    for (const [name, text, told] of REFUSED) {
      // The API carries text only.
      if (typeof text !== "string" && place !== "file") continue;
      if (typeof text === "string") write(text);
      else writeFileSync(agentFile, text);
      const at = place === "file" ? origin() : `${origin()} data.config`;
      const fault = await waitFor(`the refusal of ${name}`, async () =>
        (await status()).faults.find((f) => f.startsWith(at) && f.includes(told)),
      );
      assert.ok(
        [`${at}: ${told}`, `${at} ${told}`].some((start) => fault.startsWith(start)),
        fault,
      );
      assert.deepEqual(ranges(), sorted(ONE), name);
      const { ipMasqAgent, ...rest } = (await status()).masquerading;
      assert.deepEqual([ipMasqAgent.refused, ipMasqAgent.generation], [true, generation], name);
      assert.match(rest.line, /^BPF \(ip-masq-agent\)/);
    }
    assert.match(await cli("status"), /Exclusions: .*4 ranges from .*a newer document is refused/);
    write(ONE_TEXT);
    await waitFor("the fault to go", async () => (await status()).faults.length === 0);
    assert.equal((await status()).masquerading.ipMasqAgent.refused, false);
    await holds(ONE, origin());
    assert.equal((await status()).masquerading.ipMasqAgent.generation, generation, "nothing has changed");
  });
}

test("over a restart, too, an unusable document leaves in force what was", async () => {
  rmSync(mapFile, { force: true });
  writeDocument(ONE_TEXT);
  await inForce(ONE);
  await node.stop();
  writeDocument("nonMasqueradeCIDRs: banana\n");
  await node.start();
  await holds(ONE, agentFile);
  assert.equal((await status()).masquerading.ipMasqAgent.refused, true);
  writeDocument("nonMasqueradeCIDRs: [203.0.113.0/24]\n");
  await inForce(["203.0.113.0/24", "169.254.0.0/16", "fe80::/10"]);
});

test("the file stands over the ConfigMap, which is in force where there is none", async () => {
  writeMap(mapFile, "ip-masq-agent", { config: ONE_TEXT });
  writeDocument("nonMasqueradeCIDRs: [203.0.113.0/24]\n");
  await holds(["203.0.113.0/24", "169.254.0.0/16", "fe80::/10"], agentFile);
  rmSync(agentFile);
  await holds(ONE, CONFIG_MAP);
  writeMap(mapFile, "ip-masq-agent", { "ip-masq-agent": ONE_TEXT });
  await inForce(DEFAULTS);
  const told = `${CONFIG_MAP} data: no key config; the defaults are in force`;
  assert.deepEqual((await status()).faults, [told]);
  rmSync(mapFile);
  await waitFor("the fault to go", async () => (await status()).faults.length === 0);
});

test("every way to change a file is followed", async () => {
  const folder = dirname(agentFile);
  const only = (range: string): string[] => [range, "169.254.0.0/16", "fe80::/10"];
  const text = (range: string): string => `nonMasqueradeCIDRs: ['${range}']\n`;
  writeFileSync(agentFile, text("1.1.0.0/16"));
  await inForce(only("1.1.0.0/16"));
  writeFileSync(agentFile, text("1.2.0.0/16"));
  await inForce(only("1.2.0.0/16"));
  rmSync(join(folder, ".."), { recursive: true });
  await inForce(DEFAULTS);
  mkdirSync(folder, { recursive: true });
  // As kubelet mounts a ConfigMap: the file is a link through ..data, which alone is swapped.
  for (const [i, range] of ["1.3.0.0/16", "1.4.0.0/16", "1.5.0.0/16"].entries()) {
    const version = `..2026_11_21_${i}`;
    mkdirSync(join(folder, version));
    writeFileSync(join(folder, version, "config"), text(range));
    symlinkSync(version, join(folder, "..data_tmp"));
    renameSync(join(folder, "..data_tmp"), join(folder, "..data"));
    if (i === 0) symlinkSync("..data/config", agentFile);
    else rmSync(join(folder, `..2026_11_21_${i - 1}`), { recursive: true });
    await inForce(only(range));
  }
  unlinkSync(agentFile);
  await inForce(DEFAULTS);
});

test("entries show the line that asks for them, filters choose among them", async () => {
  writeDocument(`# two\nnonMasqueradeCIDRs:\n- 9.9.9.0/24\n\n- 2001:db8:100::/48\n`);
  await inForce(ONE);
  const of = async (...args: string[]): Promise<string[][]> =>
    JSON.parse(await cli("bpf", "ipmasq", "list", "-o", "json", ...args)).map(
      (row: { prefix: string; rule: number; source: string }) => [row.prefix, `${row.rule}`, row.source],
    );
  assert.deepEqual(await of("--ip", "9.9.9.10"), [["9.9.9.0/24", "7", `${agentFile} line 3`]]);
  assert.deepEqual(await of("--ip", "2001:db8::/32"), [["2001:db8:100::/48", "7", `${agentFile} line 5`]]);
  assert.deepEqual(await of("-6"), [
    ["2001:db8:100::/48", "7", `${agentFile} line 5`],
    ["fd00:10:244::/48", "5", "ConfigMap kube-system/cilium-config data.ipv6-native-routing-cidr"],
    ["fe80::/10", "7", `${agentFile} masqLinkLocalIPv6 not set`],
  ]);
  assert.match(
    await cli("bpf", "ipmasq", "list", "-v", "--ip", "9.9.9.10"),
    /^IP PREFIX\/ADDRESS +RULE +SOURCE\n9\.9\.9\.0\/24 +7: destination in nonMasqueradeCIDRs +\S+ line 3\n$/,
  );
});

/** `count` networks that no server is in. */
const many = (count: number): string[] =>
  Array.from({ length: count }, (_, i) =>
    i % 2 === 0 ? `20.${i >> 8}.${i & 255}.0/24` : `2001:db9:${i.toString(16)}::/48`,
  );

test("new flows to what the old and the new set both hold never meet a gap", async (t) => {
  const [filler, servers] = [many(2000), ["9.9.9.10", "2001:db8:100::10"]];
  const sets = [
    [...filler.slice(0, 1500), "9.9.9.0/24", "2001:db8:100::/48"],
    ["9.9.0.0/16", "2001:db8:100::/64", ...filler.slice(500)],
    ["0.0.0.0/0", "::/0"],
    ["9.9.9.10/32", "2001:db8:100::10/128", "9.9.9.0/24"],
  ];
  const write = (i: number): void => {
    const text = `nonMasqueradeCIDRs:\n${sets[i % sets.length]?.map((range) => `- ${range}\n`).join("")}`;
    // Renamed into place; deleted and made again; truncated and written.
    if (i % 3 === 0) replaceFile(agentFile, text);
    else {
      if (i % 3 === 1) rmSync(agentFile);
      writeFileSync(agentFile, "");
      writeFileSync(agentFile, text);
    }
  };
  write(0);
  await waitFor("the first set", () => ranges().includes("9.9.9.0/24"));
  const before = (await status()).masquerading.ipMasqAgent.generation;
  const peers = new Map<string, number>();
  let stop = false;
  const caller = async (server: string): Promise<void> => {
    while (!stop) {
      const { peer, error } = await ask(pod, `udp:${server}`);
      const key = `${server} ${peer ?? error}`;
      peers.set(key, (peers.get(key) ?? 0) + 1);
    }
  };
  const callers = servers.flatMap((server) => [1, 2, 3].map(() => caller(server)));
  for (let i = 1; i <= 12; i++) {
    const { generation } = (await status()).masquerading.ipMasqAgent;
    write(i);
    await waitFor(
      "the next set",
      async () => (await status()).masquerading.ipMasqAgent.generation > generation,
    );
    await sleep(50);
  }
  stop = true;
  await Promise.all(callers);
  t.diagnostic(`flows: ${JSON.stringify([...peers])}`);
  const expected = servers.map((server) => `${server} ${podAddress[server.includes(":") ? 6 : 4]}`);
  assert.deepEqual([...peers.keys()].sort(), expected.sort());
  const after = (await status()).masquerading.ipMasqAgent.generation;
  assert.equal(after - before, 12, "every set was in force, and nothing between them");
});

/** Writes a document and tells how long it took until the map held as many ranges. */
async function apply(t: TestContext, count: number): Promise<void> {
  const start = performance.now();
  writeDocument(
    `nonMasqueradeCIDRs:\n${many(count)
      .map((range) => `- ${range}\n`)
      .join("")}`,
  );
  using table = openPinned(node.bpfRoot, "nonmasq_cidrs");
  // Both link-local ranges and both native ones.
  await waitFor(`${count} ranges`, () => table.count() === count + 4, { intervalMs: 5 });
  const took = Math.round(performance.now() - start);
  const written = (await status()).reconcilers.find(({ map }) => map === "nonmasq_cidrs");
  assert.deepEqual([written?.pending, written?.realised], [0, written?.desired]);
  t.diagnostic(`${count} ranges in force after ${took} ms`);
}

test("10,000 ranges, as many as fit, and one more, which is refused with count and limit", async (t) => {
  writeDocument("nonMasqueradeCIDRs: []\n");
  await inForce(["169.254.0.0/16", "fe80::/10"]);
  await apply(t, 10_000);
  await apply(t, 32_766);
  writeDocument(
    `nonMasqueradeCIDRs:\n${many(32_768)
      .map((range) => `- ${range}\n`)
      .join("")}`,
  );
  const told = `${agentFile} nonMasqueradeCIDRs line 2: 16385 IPv4 ranges; at most 16384 of a family can be kept`;
  await waitFor("the refusal", async () => (await status()).faults.includes(told));
  assert.equal(ranges().length, 32_768);
  writeDocument("nonMasqueradeCIDRs: []\n");
  await inForce(["169.254.0.0/16", "fe80::/10"]);
});

test("switched off and on, and to another path, without a restart", async () => {
  writeDocument(ONE_TEXT);
  await holds(ONE, agentFile);
  setConfig({ "enable-ip-masq-agent": "false" });
  await inForce([]);
  assert.equal((await seen())["9.9.9.10"], NODE_ADDRESS[4]);
  assert.doesNotMatch((await status()).masquerading.line, /ip-masq-agent/);
  assert.match(await cli("status"), /Exclusions: +ip-masq-agent off/);
  setConfig({});
  await holds(ONE, agentFile);
  const second = join(world.dir, "second");
  setConfig({ "ip-masq-agent-config-path": second });
  await inForce(DEFAULTS);
  writeFileSync(second, "nonMasqueradeCIDRs: [203.0.113.0/24]\n");
  await inForce(["203.0.113.0/24", "169.254.0.0/16", "fe80::/10"]);
  setConfig({});
  await holds(ONE, agentFile);
});

test("an entry of a family that is off is told and left out, the others are in force", async () => {
  for (const [family, entry, rest] of [
    [6, '[1] line 3: "2001:db8:100::/48"', ["9.9.9.0/24", "169.254.0.0/16"]],
    [4, '[0] line 2: "9.9.9.0/24"', ["2001:db8:100::/48", "fe80::/10"]],
  ] as const) {
    setConfig({ [`enable-ipv${family}`]: "false" });
    const told = `${agentFile} nonMasqueradeCIDRs${entry}: IPv${family} is off; left out`;
    await waitFor("the entry to be told", async () => (await status()).faults.includes(told));
    await inForce(rest);
    assert.equal((await status()).masquerading.ipMasqAgent.refused, false);
    setConfig({});
    await waitFor("the fault to go", async () => (await status()).faults.length === 0);
  }
  await holds(ONE, agentFile);
});
