// SPDX-License-Identifier: Apache-2.0
// The ip-masq-agent while it changes: every way to change a file, packets that flow meanwhile, as many ranges as fit,
// switches, and who asks for a range.
import assert from "node:assert/strict";
import { mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { setPriority } from "node:os";
import { dirname, join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import { sleep, waitFor } from "../../src/base/async.ts";
import { openPinned } from "../../src/maps/table.ts";
import { ask } from "../support/ask.ts";
import { DEFAULTS, IpMasqNode, LINK_LOCAL, ONE, ONE_TEXT } from "../support/ip-masq-node.ts";
import { NODE_ADDRESS } from "../support/netns.ts";

let node: IpMasqNode;
before(async () => {
  node = await IpMasqNode.start();
});
after(() => node?.world[Symbol.asyncDispose]());

test("every way to change a file is followed", async () => {
  const folder = dirname(node.file);
  mkdirSync(folder, { recursive: true });
  const only = (range: string): string[] => [range, ...LINK_LOCAL];
  const text = (range: string): string => `nonMasqueradeCIDRs: ['${range}']\n`;
  writeFileSync(node.file, text("1.1.0.0/16"));
  await node.inForce(only("1.1.0.0/16"));
  writeFileSync(node.file, text("1.2.0.0/16"));
  await node.inForce(only("1.2.0.0/16"));
  rmSync(join(folder, ".."), { recursive: true });
  await node.inForce(DEFAULTS);
  mkdirSync(folder, { recursive: true });
  // As kubelet mounts a ConfigMap: the file is a link through ..data, which alone is swapped.
  for (const [i, range] of ["1.3.0.0/16", "1.4.0.0/16", "1.5.0.0/16"].entries()) {
    const version = `..2026_11_21_${i}`;
    mkdirSync(join(folder, version));
    writeFileSync(join(folder, version, "config"), text(range));
    symlinkSync(version, join(folder, "..data_tmp"));
    renameSync(join(folder, "..data_tmp"), join(folder, "..data"));
    if (i === 0) symlinkSync("..data/config", node.file);
    else rmSync(join(folder, `..2026_11_21_${i - 1}`), { recursive: true });
    await node.inForce(only(range));
  }
  unlinkSync(node.file);
  await node.inForce(DEFAULTS);
});

test("entries show the line that asks for them, filters choose among them", async () => {
  node.writeFile(`# two\nnonMasqueradeCIDRs:\n- 9.9.9.0/24\n\n- 2001:db8:100::/48\n`);
  await node.inForce(ONE);
  const of = async (...args: string[]): Promise<string[][]> =>
    JSON.parse(await node.cli("bpf", "ipmasq", "list", "-o", "json", ...args)).map(
      (row: { prefix: string; rule: number; source: string }) => [row.prefix, `${row.rule}`, row.source],
    );
  assert.deepEqual(await of("--ip", "9.9.9.10"), [["9.9.9.0/24", "7", `${node.file} line 3`]]);
  assert.deepEqual(await of("--ip", "2001:db8::/32"), [["2001:db8:100::/48", "7", `${node.file} line 5`]]);
  assert.deepEqual(await of("-6"), [
    ["2001:db8:100::/48", "7", `${node.file} line 5`],
    ["fd00:10:244::/48", "5", "ConfigMap kube-system/cilium-config data.ipv6-native-routing-cidr"],
    ["fe80::/10", "7", `${node.file} masqLinkLocalIPv6 not set`],
  ]);
  assert.match(
    await node.cli("bpf", "ipmasq", "list", "-v", "--ip", "9.9.9.10"),
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
    // In one go, whoever else wants the processor: a file that is away or empty for 0.1 s is believed to be.
    setPriority(-20);
    // Renamed into place; deleted and made again; truncated and written.
    if (i % 3 === 0) node.writeFile(text);
    else {
      if (i % 3 === 1) rmSync(node.file);
      writeFileSync(node.file, "");
      writeFileSync(node.file, text);
    }
    setPriority(0);
  };
  write(0);
  await waitFor("the first set", () => node.ranges().includes("9.9.9.0/24"));
  const before = (await node.ipMasqAgent()).generation;
  const peers = new Map<string, number>();
  let stop = false;
  const caller = async (server: string): Promise<void> => {
    while (!stop) {
      const { peer, error } = await ask(node.pod, `udp:${server}`);
      const key = `${server} ${peer ?? error}`;
      peers.set(key, (peers.get(key) ?? 0) + 1);
    }
  };
  const callers = servers.flatMap((server) => [1, 2, 3].map(() => caller(server)));
  for (let i = 1; i <= 12; i++) {
    const { generation } = await node.ipMasqAgent();
    write(i);
    const next = async (): Promise<boolean> => (await node.ipMasqAgent()).generation > generation;
    await waitFor("the next set", next);
    await sleep(50);
  }
  stop = true;
  await Promise.all(callers);
  t.diagnostic(`flows: ${JSON.stringify([...peers])}`);
  const expected = servers.map((server) => `${server} ${node.podAddress[server.includes(":") ? 6 : 4]}`);
  assert.deepEqual([...peers.keys()].sort(), expected.sort());
  const after = (await node.ipMasqAgent()).generation;
  assert.equal(after - before, 12, "every set was in force, and nothing between them");
});

/** Writes a document and tells how long it took until the map held as many ranges. */
async function apply(t: TestContext, count: number): Promise<void> {
  const start = performance.now();
  node.writeFile(
    `nonMasqueradeCIDRs:\n${many(count)
      .map((range) => `- ${range}\n`)
      .join("")}`,
  );
  using table = openPinned(node.agent.bpfRoot, "nonmasq_cidrs");
  // Both link-local ranges and both native ones.
  await waitFor(`${count} ranges`, () => table.count() === count + 4, { timeoutMs: 120_000, intervalMs: 5 });
  const took = Math.round(performance.now() - start);
  const written = (await node.status()).reconcilers.find(({ map }) => map === "nonmasq_cidrs");
  assert.deepEqual([written?.pending, written?.realised], [0, written?.desired]);
  t.diagnostic(`${count} ranges in force after ${took} ms`);
}

test("10,000 ranges, as many as fit, and one more, which is refused with count and limit", async (t) => {
  node.writeFile("nonMasqueradeCIDRs: []\n");
  await node.inForce([...LINK_LOCAL]);
  await apply(t, 10_000);
  await apply(t, 32_766);
  node.writeFile(
    `nonMasqueradeCIDRs:\n${many(32_768)
      .map((range) => `- ${range}\n`)
      .join("")}`,
  );
  const told = `${node.file} nonMasqueradeCIDRs line 2: 16385 IPv4 ranges; at most 16384 of a family can be kept`;
  await node.tells(told);
  assert.equal(node.ranges().length, 32_768);
  node.writeFile("nonMasqueradeCIDRs: []\n");
  await node.inForce([...LINK_LOCAL]);
});

test("switched off and on, and to another path, without a restart", async () => {
  node.writeFile(ONE_TEXT);
  await node.holds(ONE, node.file);
  node.setConfig({ "enable-ip-masq-agent": "false" });
  await node.inForce([]);
  assert.equal((await node.seen())["9.9.9.10"], NODE_ADDRESS[4]);
  assert.doesNotMatch((await node.status()).masquerading.line, /ip-masq-agent/);
  assert.match(await node.cli("status"), /Exclusions: +ip-masq-agent off/);
  node.setConfig({});
  await node.holds(ONE, node.file);
  const second = join(node.world.dir, "second");
  node.setConfig({ "ip-masq-agent-config-path": second });
  await node.inForce(DEFAULTS);
  writeFileSync(second, "nonMasqueradeCIDRs: [203.0.113.0/24]\n");
  await node.inForce(["203.0.113.0/24", ...LINK_LOCAL]);
  node.setConfig({});
  await node.holds(ONE, node.file);
});
