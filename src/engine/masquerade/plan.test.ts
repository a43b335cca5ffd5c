// SPDX-License-Identifier: Apache-2.0
// Contents of nonmasq_cidrs and reserved_ports for given specs.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parsePrefix } from "../../base/prefix.ts";
import {
  anyPortLeft,
  formatSourceLine,
  nonmasqMap,
  planNonmasq,
  planReservedPorts,
  SourceTable,
} from "./plan.ts";
import type { KeptRange, MasqueradeSpec } from "./spec.ts";

const range = (cidr: string, line: number, origin = "ConfigMap kube-system/ip-masq-agent"): KeptRange => ({
  prefix: parsePrefix(cidr),
  source: { origin, path: "data.config", line },
});

const rows: { name: string; spec: MasqueradeSpec; expected: Record<string, [rule: number, line: number]> }[] =
  [
    {
      name: "native-routing ranges are rule 5, the agent's rule 7",
      spec: {
        ipv4: true,
        ipv6: true,
        nativeRanges: [range("10.244.0.0/16", 1), range("fd00::/48", 2)],
        ipMasqAgent: { ranges: [range("203.0.113.0/24", 3)] },
      },
      expected: { "10.244.0.0/16": [5, 1], "fd00::/48": [5, 2], "203.0.113.0/24": [7, 3] },
    },
    {
      name: "a range asked for twice keeps the lower rule",
      spec: {
        ipv4: true,
        ipv6: true,
        nativeRanges: [range("10.0.0.0/8", 1)],
        ipMasqAgent: { ranges: [range("10.0.0.0/8", 7)] },
      },
      expected: { "10.0.0.0/8": [5, 1] },
    },
    {
      name: "a family that is off has no entries",
      spec: {
        ipv4: true,
        ipv6: false,
        nativeRanges: [range("fd00::/48", 1)],
        ipMasqAgent: { ranges: [range("fe80::/10", 0), range("169.254.0.0/16", 0)] },
      },
      expected: { "169.254.0.0/16": [7, 0] },
    },
    {
      name: "without the ip-masq-agent only native ranges",
      spec: { ipv4: true, ipv6: true, nativeRanges: [range("10.0.0.0/8", 4)], ipMasqAgent: undefined },
      expected: { "10.0.0.0/8": [5, 4] },
    },
  ];

for (const { name, spec, expected } of rows) {
  test(`nonmasq_cidrs: ${name}`, () => {
    const sources = new SourceTable();
    const got = Object.fromEntries(
      [...planNonmasq(spec, sources)].map(([key, e]) => [key, [e.rule, sources.line(e.source)?.line]]),
    );
    assert.deepEqual(got, expected);
  });
}

test("IPv6 ranges around IPv4's form in maps keep nothing of IPv4, ranges beside it need no such entry", () => {
  const rows: [ranges: string[], added: boolean][] = [
    [["::/0"], true],
    [["::/64"], true],
    [["::fffe:0:0/95"], true],
    [["::/0", "10.0.0.0/8"], true],
    [["::/0", "0.0.0.0/0"], false],
    [["fd00::/8", "::1/128", "::/97"], false],
    [["0.0.0.0/0"], false],
  ];
  for (const [ranges, added] of rows) {
    const spec = {
      ipv4: true,
      ipv6: true,
      nativeRanges: [],
      ipMasqAgent: { ranges: ranges.map((r) => range(r, 1)) },
    };
    const planned = planNonmasq(spec, new SourceTable());
    const held = nonmasqMap(planned);
    const extra = held.slice(0, held.length - planned.size);
    const expected = added ? [{ prefix: parsePrefix("0.0.0.0/0"), rule: 9, source: 0 }] : [];
    assert.deepEqual(extra, expected, ranges.join());
  }
});

test("a source line keeps its number over a new plan, and 0 is no line", () => {
  const sources = new SourceTable();
  const first = sources.indexOf(range("10.0.0.0/8", 3).source);
  sources.indexOf(range("10.0.0.0/8", 4).source);
  assert.equal(sources.indexOf(range("11.0.0.0/8", 3).source), first);
  assert.equal(sources.line(0), undefined);
  assert.equal(
    formatSourceLine(range("10.0.0.0/8", 3).source),
    "ConfigMap kube-system/ip-masq-agent data.config line 3",
  );
});

test("reserved_ports: NodePorts for both protocols, the tunnel for UDP, listeners for their own", () => {
  const words = planReservedPorts({
    nodePorts: { first: 30000, last: 30001 },
    tunnelPort: 8472,
    listening: { tcp: new Set([22, 65535]), udp: new Set([53]) },
  });
  const set: string[] = [];
  for (let word = 0; word < words.length; word++) {
    for (let bit = 0; bit < 64; bit++) {
      if (((words[word] ?? 0n) >> BigInt(bit)) & 1n)
        set.push(`${word < 1024 ? "tcp" : "udp"}/${(word % 1024) * 64 + bit}`);
    }
  }
  assert.deepEqual(set, [
    "tcp/22",
    "tcp/30000",
    "tcp/30001",
    "tcp/65535",
    "udp/53",
    "udp/8472",
    "udp/30000",
    "udp/30001",
  ]);
  const range = { first: 30000, last: 30001 };
  assert.ok(!anyPortLeft(words, "TCP", range));
  assert.ok(anyPortLeft(words, "UDP", { ...range, last: 30002 }));
});
