// SPDX-License-Identifier: Apache-2.0
// The ip-masq-agent's truth table, row by row, and what is told of a document that cannot be used.
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatPrefix } from "../base/prefix.ts";
import { DEFAULT_RANGES, decodeIpMasqAgent, defaultIpMasqAgent } from "./ip-masq-agent.ts";

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
  [
    "the original's resyncInterval",
    "resyncInterval: 60s\nmasqLinkLocal: false\n",
    ["169.254.0.0/16", "fe80::/10"],
  ],
];
for (const [name, text, expected] of rows) {
  test(`document: ${name}`, () => {
    const reading = read(text);
    assert.deepEqual(prefixes(reading.spec), expected);
    assert.deepEqual(reading.faults, []);
  });
}

const refusals: [name: string, text: string, detail: string][] = [
  [
    "a wrong prefix",
    "nonMasqueradeCIDRs:\n- 10.0.0.0/8\n- 10.0.0.0/33\n",
    'ConfigMap kube-system/ip-masq-agent data.config nonMasqueradeCIDRs[1]: "10.0.0.0/33": prefix length over 32',
  ],
  [
    "an address without a length",
    "nonMasqueradeCIDRs: [10.0.0.1]",
    'ConfigMap kube-system/ip-masq-agent data.config nonMasqueradeCIDRs[0]: "10.0.0.1": no prefix length',
  ],
  [
    "a number",
    "nonMasqueradeCIDRs: [10]",
    "ConfigMap kube-system/ip-masq-agent data.config nonMasqueradeCIDRs[0]: line 1: not a prefix in text",
  ],
  [
    "no list",
    "nonMasqueradeCIDRs: 10.0.0.0/8",
    "ConfigMap kube-system/ip-masq-agent data.config nonMasqueradeCIDRs: line 1: not a list",
  ],
  ["no map", "- 10.0.0.0/8", "ConfigMap kube-system/ip-masq-agent data.config: not a map of keys to values"],
  [
    "a flag that is no flag",
    "\nmasqLinkLocal: maybe",
    "ConfigMap kube-system/ip-masq-agent data.config masqLinkLocal: line 2: not true or false",
  ],
];
for (const [name, text, detail] of refusals) {
  test(`refused as a whole: ${name}`, () => {
    assert.throws(() => read(text), { detail });
  });
}

test("broken YAML is refused with its line", () => {
  assert.throws(() => read("a: 1\nb: [1,\n"), { code: "DOCUMENT_INVALID", message: /line \d/ });
});

test("a family that is off: the entry is left out and told", () => {
  const reading = read("nonMasqueradeCIDRs: [10.0.0.0/8, 'fd00::/8']", { ipv4: true, ipv6: false });
  assert.deepEqual(prefixes(reading.spec), ["10.0.0.0/8", "169.254.0.0/16"]);
  assert.deepEqual(
    reading.faults.map((f) => f.detail),
    [
      'ConfigMap kube-system/ip-masq-agent data.config nonMasqueradeCIDRs[1]: "fd00::/8": IPv6 is off; left out',
    ],
  );
});

test("an unknown key is told and the rest is used", () => {
  const reading = read("masqOutbound: true\nnonMasqueradeCIDRs: [1.1.1.0/24]\n");
  assert.equal(reading.spec.ranges.length, 3);
  assert.match(reading.faults[0]?.detail ?? "", /masqOutbound: line 1: no such key/);
});

test("every range knows its line", () => {
  const { spec } = read("# kept\nnonMasqueradeCIDRs:\n  - 10.1.0.0/16\n\n  - 10.2.0.0/16\n");
  assert.deepEqual(
    spec.ranges.map((r) => [formatPrefix(r.prefix), r.source.line]),
    [
      ["10.1.0.0/16", 3],
      ["10.2.0.0/16", 5],
      ["169.254.0.0/16", 0],
      ["fe80::/10", 0],
    ],
  );
});
