// SPDX-License-Identifier: Apache-2.0
// Every field of the data plane's configuration has exactly one option; values reach it in the right units; and the
// line that `status` prints of it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { nodeConfigFields } from "../maps/gen/config.ts";
import { resolveConfig } from "./config.ts";
import { masqueradingLine } from "./masquerading-line.ts";
import { nodeConfig, tableSizes } from "./node-config.ts";
import { OPTION_NAMES, OPTIONS, type Option } from "./options.ts";

const given = (values: Record<string, string> = {}) => {
  const layer = {
    origin: "test",
    values: new Map(Object.entries(values).map(([k, text]) => [k, { text, path: k }])),
  };
  const { config, faults } = resolveConfig([layer]);
  assert.deepEqual(faults, []);
  assert.ok(config);
  return config;
};

test("every field of node_config is filled from exactly one option", () => {
  const owned = OPTION_NAMES.flatMap((name) => (OPTIONS[name] as Option<unknown>).fields ?? []);
  assert.deepEqual([...owned].sort(), Object.keys(nodeConfigFields).sort());
});

test("only options that need a load own fields", () => {
  for (const name of OPTION_NAMES) {
    const option = OPTIONS[name] as Option<unknown>;
    if (option.fields !== undefined) assert.equal(option.when, "load", name);
  }
});

test("fields: switches, ticks, and masquerading only in a family that is on", () => {
  const fields = nodeConfig(given({ "enable-ipv6": "false", "enable-host-legacy-routing": "true" }));
  assert.equal(fields.masqueradeIpv4, 1);
  assert.equal(fields.masqueradeIpv6, 0);
  assert.equal(fields.hostRouting, 0);
  assert.equal(fields.timeoutTcpFin, 597);
  assert.equal(fields.timeoutTcp, 476838);
  assert.deepEqual([fields.portMin, fields.portMax], [1024, 65535]);
});

test("table sizes: Cilium's tracking sizes add up, the index follows unless it is given, fragments have their own", () => {
  assert.deepEqual(tableSizes(given()), { flows: 786432, replies: 786432, frag_datagrams: 8192 });
  assert.deepEqual(
    tableSizes(
      given({
        "bpf-ct-global-tcp-max": "2048",
        "bpf-ct-global-any-max": "1024",
        "bpf-nat-global-max": "1024",
        "bpf-fragments-map-max": "256",
      }),
    ),
    { flows: 3072, replies: 1024, frag_datagrams: 256 },
  );
});

const base = {
  ipv4: true,
  ipv6: true,
  devices: ["eth0", "eth1"],
  withDevices: true,
  nativeRoutingCidr4: "10.0.0.0/8",
  nativeRoutingCidr6: "fd00::/48",
  ipMasqAgent: false,
};
const lines: [change: Partial<typeof base>, expected: string][] = [
  [{}, "BPF\t[eth0, eth1]\t10.0.0.0/8 fd00::/48 [IPv4: Enabled, IPv6: Enabled]"],
  [
    { ipMasqAgent: true },
    "BPF (ip-masq-agent)\t[eth0, eth1]\t10.0.0.0/8 fd00::/48 [IPv4: Enabled, IPv6: Enabled]",
  ],
  [{ ipv6: false, nativeRoutingCidr6: "" }, "BPF\t[eth0, eth1]\t10.0.0.0/8  [IPv4: Enabled, IPv6: Disabled]"],
  [{ ipv4: false, ipv6: false }, "Disabled"],
  [{ withDevices: false }, "BPF\t10.0.0.0/8 fd00::/48 [IPv4: Enabled, IPv6: Enabled]"],
];
for (const [change, expected] of lines) {
  test(`Masquerading: ${JSON.stringify(expected)}`, () => {
    assert.equal(masqueradingLine({ ...base, ...change }), expected);
  });
}
