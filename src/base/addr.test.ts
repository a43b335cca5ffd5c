// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { addressAfter, addressBytes, formatAddress, parseAddress } from "./addr.ts";
import {
  comparePrefixes,
  coversMappedIPv4,
  formatPrefix,
  mapPrefixLength,
  parsePrefix,
  prefixContains,
} from "./prefix.ts";

const canonical: [string, string][] = [
  ["10.0.0.1", "10.0.0.1"],
  ["::ffff:10.0.0.1", "10.0.0.1"],
  ["::", "::"],
  ["::1", "::1"],
  ["FD00:0:0:1::", "fd00:0:0:1::"],
  ["fd00:10:244:1:0:0:0:a", "fd00:10:244:1::a"],
  ["1:0:0:2:0:0:0:3", "1:0:0:2::3"],
  ["1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"],
  ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
  ["1:2:3:4:5:6:192.0.2.33", "1:2:3:4:5:6:c000:221"],
];
for (const [given, expected] of canonical) {
  test(`address ${given} reads ${expected}`, () => {
    assert.equal(parseAddress(given), expected);
    assert.equal(formatAddress(addressBytes(expected)), expected);
  });
}

for (const bad of ["", "10.0.0", "10.0.0.256", "1::2::3", "fe80::1%eth0", "12345::", "localhost"]) {
  test(`address "${bad}" is refused`, () => {
    assert.throws(() => parseAddress(bad), { code: "ADDRESS_SYNTAX" });
  });
}

test("addressAfter carries over bytes and groups", () => {
  assert.equal(addressAfter("10.0.0.250", 10), "10.0.1.4");
  assert.equal(addressAfter("fd00::ffff", 1), "fd00::1:0");
});

const prefixes: [string, string, number][] = [
  ["2.2.2.2/16", "2.2.0.0/16", 112],
  ["10.0.0.0/8", "10.0.0.0/8", 104],
  ["0.0.0.0/0", "0.0.0.0/0", 96],
  ["fe80::1/10", "fe80::/10", 10],
  ["10.1.1.1", "10.1.1.1/32", 128],
];
for (const [given, expected, bits] of prefixes) {
  test(`prefix ${given} reads ${expected}`, () => {
    assert.equal(formatPrefix(parsePrefix(given)), expected);
    assert.equal(mapPrefixLength(parsePrefix(given)), bits);
  });
}

test("a bad prefix says why", () => {
  assert.throws(() => parsePrefix("10.0.0.0/33"), { detail: '"10.0.0.0/33": prefix length over 32' });
  assert.throws(() => parsePrefix("10.0.0/8"), { detail: '"10.0.0/8": not an IPv4 or IPv6 prefix' });
  assert.throws(() => parsePrefix("10.0.0.0/x"), { code: "PREFIX_SYNTAX" });
});

test("containment", () => {
  assert.ok(prefixContains(parsePrefix("10.0.0.0/8"), "10.200.1.1"));
  assert.ok(!prefixContains(parsePrefix("10.0.0.0/8"), "11.0.0.0"));
  assert.ok(!prefixContains(parsePrefix("0.0.0.0/0"), "::1"));
  assert.ok(prefixContains(parsePrefix("fd00::/8"), parsePrefix("fd00:1::/32")));
  assert.ok(!prefixContains(parsePrefix("10.0.0.0/16"), parsePrefix("10.0.0.0/8")));
});

test("IPv4 in IPv6 form is no prefix, and IPv6 blocks that hold that form are known", () => {
  for (const text of ["::ffff:10.0.0.0/104", "::ffff:0:0/96", "::ffff:a00:0"]) {
    assert.throws(() => parsePrefix(text), { message: /an IPv4 prefix in IPv6 form: write it as IPv4/ });
  }
  const holds = (text: string): boolean => coversMappedIPv4(parsePrefix(text));
  assert.deepEqual(["::/0", "::/80", "::fffe:0:0/95"].map(holds), [true, true, true]);
  assert.deepEqual(["::/81", "::fffe:0:0/96", "fd00::/8", "0.0.0.0/0"].map(holds), [
    false,
    false,
    false,
    false,
  ]);
});

test("prefixes in the order of lists: IPv4 first, by address, the wider first", () => {
  const order = [
    "9.0.0.0/8",
    "10.0.0.0/8",
    "10.0.0.0/9",
    "100.64.0.0/10",
    "::/0",
    "::/64",
    "2001:db8::/32",
    "fd00::/8",
  ];
  const shuffled = [...order].reverse().map(parsePrefix);
  assert.deepEqual(shuffled.sort(comparePrefixes).map(formatPrefix), order);
});
