// SPDX-License-Identifier: Apache-2.0
// The ip-masq-agent's truth table end to end, as file and as ConfigMap: a document against the map in the kernel, what
// `hookline bpf ipmasq list` and `status` say, and under which address servers outside see a pod, both families.
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { waitFor } from "../../src/base/async.ts";
import { DEFAULTS, IpMasqNode, LINK_LOCAL, ONE, ONE_TEXT, sorted } from "../support/ip-masq-node.ts";

let node: IpMasqNode;
before(async () => {
  node = await IpMasqNode.start();
});
after(() => node?.world[Symbol.asyncDispose]());

test("no document: the defaults and both link-local ranges", () => node.holds(DEFAULTS, "defaults"));

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
for (const place of [0, 1] as const) {
  const name = ["file", "ConfigMap"][place];
  for (const [what, text, expected] of TRUTH) {
    test(`${name}: ${what}`, () => {
      const { write, origin } = node.places[place];
      write(text);
      return node.holds(expected, origin);
    });
  }
  test(`${name}: taken away, the defaults are back`, () => {
    node.places[place].clear();
    return node.holds(DEFAULTS, "defaults");
  });
}

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

for (const place of [0, 1] as const) {
  test(`${["file", "ConfigMap"][place]}: what cannot be used keeps the set, is told with path, line and reason, and forgotten`, async () => {
    const { write, origin } = node.places[place];
    node.places[0].clear();
    write(ONE_TEXT);
    await node.holds(ONE, origin);
    const { generation } = await node.ipMasqAgent();
    for (const [name, text, told] of REFUSED) {
      // The API carries text only.
      if (typeof text === "string") write(text);
      else if (place === 0) writeFileSync(node.file, text);
      else continue;
      const at = place === 0 ? origin : `${origin} data.config`;
      await waitFor(`the refusal of ${name}`, async () => {
        const { faults } = await node.status();
        return faults.some(
          (fault) => fault.startsWith(`${at} ${told}`) || fault.startsWith(`${at}: ${told}`),
        );
      });
      assert.deepEqual(node.ranges(), sorted(ONE), name);
      const said = await node.ipMasqAgent();
      assert.deepEqual([said.refused, said.generation, said.origin], [true, generation, origin], name);
    }
    assert.match(await node.cli("status"), /Exclusions: .*4 ranges from .*a newer document is refused/);
    write(ONE_TEXT);
    await node.tells(undefined);
    assert.equal((await node.ipMasqAgent()).refused, false);
    await node.holds(ONE, origin);
    assert.equal((await node.ipMasqAgent()).generation, generation, "nothing has changed");
  });
}

test("over a restart, too, an unusable document leaves in force what was", async () => {
  node.setMap(undefined);
  node.writeFile(ONE_TEXT);
  await node.holds(ONE, node.file);
  await node.agent.stop();
  node.writeFile("nonMasqueradeCIDRs: banana\n");
  await node.agent.start();
  await node.holds(ONE, node.file);
  assert.equal((await node.ipMasqAgent()).refused, true);
  node.writeFile("nonMasqueradeCIDRs: [203.0.113.0/24]\n");
  await node.inForce(["203.0.113.0/24", ...LINK_LOCAL]);
});

test("the file stands over the ConfigMap, which is in force where there is none", async () => {
  const [, configMap] = node.places;
  configMap.write(ONE_TEXT);
  node.writeFile("nonMasqueradeCIDRs: [203.0.113.0/24]\n");
  await node.holds(["203.0.113.0/24", ...LINK_LOCAL], node.file);
  rmSync(node.file);
  await node.holds(ONE, configMap.origin);
  node.setMap({ "ip-masq-agent": ONE_TEXT });
  await node.inForce(DEFAULTS);
  await node.tells(`${configMap.origin} data: no key config; the defaults are in force`);
  configMap.clear();
  await node.tells(undefined);
});

test("an entry of a family that is off is told and left out, the others are in force", async () => {
  node.writeFile(ONE_TEXT);
  await node.inForce(ONE);
  for (const [family, entry, rest] of [
    [6, '[1] line 3: "2001:db8:100::/48"', ["9.9.9.0/24", "169.254.0.0/16"]],
    [4, '[0] line 2: "9.9.9.0/24"', ["2001:db8:100::/48", "fe80::/10"]],
  ] as const) {
    node.setConfig({ [`enable-ipv${family}`]: "false" });
    await node.tells(`${node.file} nonMasqueradeCIDRs${entry}: IPv${family} is off; left out`);
    await node.inForce(rest);
    assert.equal((await node.ipMasqAgent()).refused, false);
    node.setConfig({});
    await node.tells(undefined);
  }
  await node.holds(ONE, node.file);
});
