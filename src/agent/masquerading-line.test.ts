// SPDX-License-Identifier: Apache-2.0
// The line that `status` prints of masquerading, for every combination that changes it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type MasqueradingFacts, masqueradingLine } from "./masquerading-line.ts";

const exclusions = ["10.0.0.0/8", "fd00::/48"] as const;
const devices = ["eth0", "eth1"];
const both = { ipv4: true, ipv6: true };
const only4 = { ipv4: true, ipv6: false };
const only6 = { ipv4: false, ipv6: true };
const none = { ipv4: false, ipv6: false };

const bpf = (change: Partial<MasqueradingFacts>): MasqueradingFacts => ({
  enabled: true,
  mode: "bpf",
  ipMasqAgent: false,
  exclusions,
  ...change,
});
const iptables = (change: Partial<MasqueradingFacts>): MasqueradingFacts =>
  bpf({ mode: "iptables", ...change });

const [BOTH, ONLY4, ONLY6] = [
  "[IPv4: Enabled, IPv6: Enabled]",
  "[IPv4: Enabled, IPv6: Disabled]",
  "[IPv4: Disabled, IPv6: Enabled]",
];
const PLACE = "\t[eth0, eth1]\t10.0.0.0/8 fd00::/48 ";

const rows: readonly (readonly [expected: string, facts: MasqueradingFacts])[] = [
  ["Enabled", bpf({})],
  ["Enabled", iptables({})],
  ["Disabled", bpf({ enabled: false })],
  ["Disabled", iptables({ enabled: false })],
  ...[bpf, iptables].flatMap((mode) =>
    [true, false].flatMap((ipMasqAgent) => [
      ["Disabled", mode({ protocols: none, ipMasqAgent, devices })] as const,
      ["Disabled", mode({ protocols: none, ipMasqAgent })] as const,
    ]),
  ),
  ...[true, false].flatMap((ipMasqAgent) =>
    [devices, undefined].flatMap((list) => {
      const change = { ipMasqAgent, ...(list === undefined ? {} : { devices: list }) };
      return [
        [`IPTables ${BOTH}`, iptables({ protocols: both, ...change })] as const,
        [`IPTables ${ONLY4}`, iptables({ protocols: only4, ...change })] as const,
        [`IPTables ${ONLY6}`, iptables({ protocols: only6, ...change })] as const,
      ];
    }),
  ),
  [`BPF${PLACE}${BOTH}`, bpf({ protocols: both, devices })],
  [`BPF${PLACE}${ONLY4}`, bpf({ protocols: only4, devices })],
  [`BPF${PLACE}${ONLY6}`, bpf({ protocols: only6, devices })],
  [`BPF (ip-masq-agent)${PLACE}${BOTH}`, bpf({ protocols: both, devices, ipMasqAgent: true })],
  [`BPF (ip-masq-agent)${PLACE}${ONLY4}`, bpf({ protocols: only4, devices, ipMasqAgent: true })],
  [`BPF (ip-masq-agent)${PLACE}${ONLY6}`, bpf({ protocols: only6, devices, ipMasqAgent: true })],
  [`BPF ${BOTH}`, bpf({ protocols: both })],
  [`BPF ${ONLY4}`, bpf({ protocols: only4 })],
  [`BPF ${ONLY6}`, bpf({ protocols: only6 })],
  [`BPF (ip-masq-agent) ${BOTH}`, bpf({ protocols: both, ipMasqAgent: true })],
  [`BPF (ip-masq-agent) ${ONLY4}`, bpf({ protocols: only4, ipMasqAgent: true })],
  [`BPF (ip-masq-agent) ${ONLY6}`, bpf({ protocols: only6, ipMasqAgent: true })],
  [`BPF\t[]\t10.0.0.0/8  ${ONLY4}`, bpf({ protocols: only4, devices: [], exclusions: ["10.0.0.0/8", ""] })],
  [
    `BPF\t[eth0]\t fd00::/48 ${ONLY6}`,
    bpf({ protocols: only6, devices: ["eth0"], exclusions: ["", "fd00::/48"] }),
  ],
];

for (const [expected, facts] of rows) {
  const { exclusions: _, ...told } = facts;
  test(`${JSON.stringify(expected)} of ${JSON.stringify(told)}`, () => {
    assert.equal(masqueradingLine(facts), expected);
  });
}
