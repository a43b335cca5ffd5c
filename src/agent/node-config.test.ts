// SPDX-License-Identifier: Apache-2.0
// Every field of the data plane's configuration has exactly one option, and values reach it in the right units.
import assert from "node:assert/strict";
import { test } from "node:test";
import { nodeConfigFields } from "../maps/gen/config.ts";
import { resolveConfig } from "./config.ts";
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

test("where netfilter masquerades the programs do not, and the stack routes", () => {
  const { netfilter, hostRouting, masqueradeIpv4, masqueradeIpv6 } = nodeConfig(given(), "iptables");
  assert.deepEqual(
    { netfilter, hostRouting, masqueradeIpv4, masqueradeIpv6 },
    {
      netfilter: 1,
      hostRouting: 0,
      masqueradeIpv4: 0,
      masqueradeIpv6: 0,
    },
  );
});
