// SPDX-License-Identifier: Apache-2.0
// The ip-masq-agent's truth table, row by row, and what is told of a document that cannot be used.
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatPrefix } from "../base/prefix.ts";
import { formatSourceLine } from "../engine/masquerade/plan.ts";
import { DEFAULT_RANGES, decodeIpMasqAgent, defaultIpMasqAgent, MAX_RANGES } from "./ip-masq-agent.ts";

const BOTH = { ipv4: true, ipv6: true };
const ORIGIN = { origin: "ConfigMap kube-system/ip-masq-agent", path: "data.config" };
const read = (text: string, families = BOTH) => decodeIpMasqAgent({ ...ORIGIN, text }, families);
const prefixes = (spec: ReturnType<typeof defaultIpMasqAgent>): string[] =>
  spec.ranges.map((r) => formatPrefix(r.prefix));

test("no document: eleven ranges and both link-local ones", () => {
  assert.equal(DEFAULT_RANGES.length, 11);
  assert.deepEqual(prefixes(defaultIpMasqAgent(BOTH)), [...DEFAULT_RANGES, "169.254.0.0/16", "fe80::/10"]);
  assert.deepEqual(prefixes(defaultIpMasqAgent({ ipv4: false, ipv6: true })), ["fe80::/10"]);
});

const rows: [name: string, text: string, expected: string[]][] = [
  [
    "a list",
    "nonMasqueradeCIDRs:\n- 10.1.0.0/16\n- fd00::/48\n",
    ["10.1.0.0/16", "fd00::/48", "169.254.0.0/16", "fe80::/10"],
  ],
  [
    "an empty value: only link-local, not the defaults",
    "nonMasqueradeCIDRs:\n",
    ["169.254.0.0/16", "fe80::/10"],
  ],
  ["an empty list", "nonMasqueradeCIDRs: []\n", ["169.254.0.0/16", "fe80::/10"]],
  ["an empty document", "", ["169.254.0.0/16", "fe80::/10"]],
  ["masqLinkLocal", "nonMasqueradeCIDRs: [8.8.8.8/32]\nmasqLinkLocal: true\n", ["8.8.8.8/32", "fe80::/10"]],
  ["masqLinkLocalIPv6", "nonMasqueradeCIDRs: []\nmasqLinkLocalIPv6: true\n", ["169.254.0.0/16"]],
  [
    "both opted out, empty list: everything is masqueraded",
    "masqLinkLocal: true\nmasqLinkLocalIPv6: true\n",
    [],
  ],
  ["host bits", "nonMasqueradeCIDRs: ['2.2.2.2/16']\n", ["2.2.0.0/16", "169.254.0.0/16", "fe80::/10"]],
  ["JSON", '{"nonMasqueradeCIDRs": ["1.1.1.0/24"], "masqLinkLocal": true}', ["1.1.1.0/24", "fe80::/10"]],
  ["YAML 1.1 booleans, as Go's readers take them", "masqLinkLocal: yes\nmasqLinkLocalIPv6: On\n", []],
  [
    "keys in another case, as Go's reader takes them",
    "NonMasqueradeCidrs: [8.8.8.0/24]\nMASQLINKLOCAL: true\n",
    ["8.8.8.0/24", "fe80::/10"],
  ],
  [
    "the original's keys that decide nothing",
    "resyncInterval: 60s\ncidrLimit: 64\nmasqLinkLocal: false\n",
    ["169.254.0.0/16", "fe80::/10"],
  ],
  [
    "a range twice, once with host bits",
    "nonMasqueradeCIDRs: [10.1.0.0/16, 10.1.2.3/16, 169.254.0.0/16]\n",
    ["10.1.0.0/16", "169.254.0.0/16", "fe80::/10"],
  ],
  [
    "everything",
    "nonMasqueradeCIDRs: [0.0.0.0/0, '::/0']\nmasqLinkLocal: true\nmasqLinkLocalIPv6: true\n",
    ["0.0.0.0/0", "::/0"],
  ],
  [
    "null instead of false",
    "nonMasqueradeCIDRs: null\nmasqLinkLocal: null\n",
    ["169.254.0.0/16", "fe80::/10"],
  ],
  ["only a comment", "# nothing yet\n", ["169.254.0.0/16", "fe80::/10"]],
];
for (const [name, text, expected] of rows) {
  test(`document: ${name}`, () => {
    const reading = read(text);
    assert.deepEqual(prefixes(reading.spec), expected);
    assert.deepEqual(reading.faults, []);
  });
}

/** What stands before every reason. */
const AT = "ConfigMap kube-system/ip-masq-agent data.config";
const KEYS = "there are nonMasqueradeCIDRs, masqLinkLocal, masqLinkLocalIPv6";
const refusals: [name: string, text: string, detail: string][] = [
  [
    "a wrong prefix",
    "nonMasqueradeCIDRs:\n- 10.0.0.0/8\n- 10.0.0.0/33\n",
    `nonMasqueradeCIDRs[1] line 3: "10.0.0.0/33": prefix length over 32`,
  ],
  [
    "no address",
    "nonMasqueradeCIDRs: ['10.0.0/8']",
    `nonMasqueradeCIDRs[0] line 1: "10.0.0/8": not an IPv4 or IPv6 prefix`,
  ],
  [
    "an IPv4 prefix in IPv6 form",
    "nonMasqueradeCIDRs: ['::ffff:10.0.0.0/104']",
    `nonMasqueradeCIDRs[0] line 1: "::ffff:10.0.0.0/104": an IPv4 prefix in IPv6 form: write it as IPv4`,
  ],
  [
    "an address without a length",
    "nonMasqueradeCIDRs: [10.0.0.1]",
    `nonMasqueradeCIDRs[0] line 1: "10.0.0.1": no prefix length`,
  ],
  ["a number", "nonMasqueradeCIDRs: [10]", "nonMasqueradeCIDRs[0] line 1: not a prefix in text"],
  [
    "an entry without a value",
    "nonMasqueradeCIDRs:\n-\n",
    "nonMasqueradeCIDRs[0] line 2: not a prefix in text",
  ],
  [
    "an alias, which could stand for anything",
    "nonMasqueradeCIDRs: [&a 10.0.0.0/8, *a]",
    "nonMasqueradeCIDRs[1] line 1: not a prefix in text",
  ],
  ["no list", "nonMasqueradeCIDRs: 10.0.0.0/8", "nonMasqueradeCIDRs line 1: not a list"],
  ["no map", "- 10.0.0.0/8", "line 1: not a map of keys to values"],
  ["a flag that is no flag", "\nmasqLinkLocal: maybe", "masqLinkLocal line 2: not true or false"],
  ["a flag in quotes", '{"masqLinkLocal": "true"}', "masqLinkLocal line 1: not true or false"],
  [
    "an unknown key",
    "nonMasqueradeCIDRs: []\nmasqOutbound: true\n",
    `masqOutbound line 2: no such key; ${KEYS}`,
  ],
  ["a misspelt key", "nonMasqueradeCIDR:\n- 10.0.0.0/8\n", `nonMasqueradeCIDR line 1: no such key; ${KEYS}`],
  [
    "a key twice, in two spellings",
    "masqLinkLocal: true\nmasqlinklocal: false\n",
    "masqlinklocal line 2: the key is there twice",
  ],
  ["a key twice", "masqLinkLocal: true\n\nmasqLinkLocal: false\n", "line 3: Map keys must be unique"],
  ["two documents", "masqLinkLocal: true\n---\nmasqLinkLocal: false\n", "line 2: a second document"],
  ["binary", "nonMasqueradeCIDRs:\n- 10.0.0.0/8\n\u0000\u0001", "line 3: not text"],
  ["too much of it", `#${" ".repeat(1024 * 1024)}`, ": more than 1048576 bytes"],
];
for (const [name, text, detail] of refusals) {
  test(`refused as a whole: ${name}`, () => {
    assert.throws(() => read(text), { detail: `${AT}${detail.startsWith(":") ? "" : " "}${detail}` });
  });
}

test("broken YAML is refused with its line", () => {
  assert.throws(() => read("a: 1\nb: [1,\n"), {
    code: "DOCUMENT_INVALID",
    message: /data\.config line \d: /,
  });
});

/** `count` networks of a family, one a line. */
function networks(count: number, family: 4 | 6): string {
  const lines = Array.from({ length: count }, (_, i) =>
    family === 4 ? `- 20.${i >> 8}.${i & 255}.0/24` : `- 2001:db8:${i.toString(16)}::/48`,
  );
  return `${lines.join("\n")}\n`;
}

for (const family of [4, 6] as const) {
  test(`IPv${family}: as many ranges as fit are taken, one more is refused with count and limit`, () => {
    const flags = "masqLinkLocal: true\nmasqLinkLocalIPv6: true\nnonMasqueradeCIDRs:\n";
    assert.equal(read(flags + networks(MAX_RANGES, family)).spec.ranges.length, MAX_RANGES);
    assert.throws(() => read(flags + networks(MAX_RANGES + 1, family)), {
      detail: `${AT} nonMasqueradeCIDRs line 4: 16385 IPv${family} ranges; at most 16384 of a family can be kept`,
    });
    // Link-local ranges count.
    assert.throws(() => read(`nonMasqueradeCIDRs:\n${networks(MAX_RANGES, family)}`), { message: /16385/ });
  });
}

for (const off of [4, 6] as const) {
  test(`IPv${off} off: its entry is left out and told, the other family's stays`, () => {
    const families = { ipv4: off === 6, ipv6: off === 4 };
    const reading = read("nonMasqueradeCIDRs:\n- 10.0.0.0/8\n- fd00::/8\n", families);
    const kept = off === 6 ? ["10.0.0.0/8", "169.254.0.0/16"] : ["fd00::/8", "fe80::/10"];
    assert.deepEqual(prefixes(reading.spec), kept);
    const at = off === 6 ? '[1] line 3: "fd00::/8"' : '[0] line 2: "10.0.0.0/8"';
    const told = [`${AT} nonMasqueradeCIDRs${at}: IPv${off} is off; left out`];
    assert.deepEqual(
      reading.faults.map((f) => f.detail),
      told,
    );
  });
}

test("every range knows its line", () => {
  const { spec } = read(
    "# kept\nnonMasqueradeCIDRs:\n  - 10.1.0.0/16\n\n  - 10.2.0.0/16\nmasqLinkLocal: false\n",
  );
  assert.deepEqual(
    spec.ranges.map((r) => [formatPrefix(r.prefix), formatSourceLine(r.source)]),
    [
      ["10.1.0.0/16", `${AT} line 3`],
      ["10.2.0.0/16", `${AT} line 5`],
      ["169.254.0.0/16", `${AT} masqLinkLocal line 6`],
      ["fe80::/10", `${AT} masqLinkLocalIPv6 not set`],
    ],
  );
});
