// SPDX-License-Identifier: Apache-2.0
// Which mode of masquerading is in force where programs are missing, and what is said of options that mean nothing in it.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { createLog } from "../base/log.ts";
import { parsePrefix } from "../base/prefix.ts";
import { resolveConfig } from "./config.ts";
import { ModeSwitch, wantedMode } from "./masquerade-mode.ts";
import { idleOptions, type NetfilterInputs, netfilterSpec } from "./netfilter-spec.ts";
import type { AgentPlan } from "./plan.ts";
import { StateFiles } from "./state-files.ts";

const dir = mkdtempSync(join(tmpdir(), "hl-mode-"));
after(() => rmSync(dir, { recursive: true }));

function configOf(values: Record<string, string>) {
  const layer = {
    origin: "test",
    values: new Map(Object.entries(values).map(([key, text]) => [key, { text, path: key }])),
  };
  const { config } = resolveConfig([layer]);
  assert.ok(config);
  return config;
}

const device = {
  ifindex: 2,
  name: "eth0",
  mtu: 1500,
  layer3: false,
  addr4: "172.20.0.11",
  addr6: "fd00:20::11",
};

function inputsOf(values: Record<string, string>): NetfilterInputs {
  const plan = {
    devices: [device],
    nonmasq: new Map(),
    ipcache: new Map(),
    podRanges: { cidrs: { 4: [parsePrefix("10.244.1.0/24")], 6: [parsePrefix("fd00:10:244:1::/64")] } },
  } as unknown as AgentPlan;
  return {
    config: configOf(values),
    plan,
    facts: { links: [], routes: [], rulesBySource: false, routesBySourcePort: false },
    pods: [],
  };
}

const IPTABLES = { "enable-bpf-masquerade": "false" };
const OFF = { "enable-ipv4-masquerade": "false", "enable-ipv6-masquerade": "false" };

test("iptables mode is asked for only while a family is masqueraded", () => {
  assert.equal(wantedMode(configOf({})), "bpf");
  assert.equal(wantedMode(configOf(IPTABLES)), "iptables");
  assert.equal(wantedMode(configOf({ ...IPTABLES, "enable-ipv4-masquerade": "false" })), "iptables");
  assert.equal(wantedMode(configOf({ ...IPTABLES, ...OFF })), "bpf");
  assert.equal(
    wantedMode(configOf({ ...IPTABLES, "enable-ipv4": "false", "enable-ipv6-masquerade": "false" })),
    "bpf",
  );
});

test("without the programs BPF masquerades, and why is told", async () => {
  const [folder = "", run = "", state = ""] = ["programs", "run", "state"].map((name) => join(dir, name));
  const files = new StateFiles(run, state);
  const log = createLog("test", "silent");
  const onChange = () => undefined;
  const complete = onChange;
  const adopt = async () => 0;
  const modes = new ModeSwitch({ files, adopt, complete, log, onChange, programFolders: [folder] });
  try {
    assert.equal(await modes.prepare(inputsOf(IPTABLES)), "bpf");
    await modes.settle("bpf");
    assert.equal(modes.mode, "bpf");
    assert.deepEqual(
      modes.faults.map((fault) => fault.detail),
      [
        "masquerading by iptables is not in force, BPF does it: ipset is not installed: install the package ipset",
      ],
    );
    assert.deepEqual(
      modes.status().map(({ map, pending, errors }) => [map, pending, errors]),
      [
        ["ipset", 1, 1],
        ["iptables", 0, 0],
        ["ip6tables", 0, 0],
      ],
    );
    assert.equal(files.loadMasqueradeMode(), "iptables", "the next agent must look for rules");
    // Back to BPF: nothing is there, nothing is missed.
    assert.equal(await modes.prepare(inputsOf({})), "bpf");
    await modes.settle("bpf");
    assert.deepEqual([modes.faults, modes.status()], [[], []]);
    assert.equal(files.loadMasqueradeMode(), "bpf");
  } finally {
    modes.close();
  }
});

test("a spoilt record of the mode before is no obstacle", () => {
  const [run, state] = [mkdtempSync(join(dir, "run-")), mkdtempSync(join(dir, "state-"))];
  writeFileSync(join(state, "masquerade-mode.json"), "{");
  const files = new StateFiles(run, state);
  const log = createLog("test", "silent");
  const onChange = () => undefined;
  const modes = new ModeSwitch({ files, adopt: async () => 0, complete: onChange, log, onChange });
  modes.close();
  assert.equal(modes.mode, "bpf");
});

test("an option of the other mode is told, at its default it is not", () => {
  const told = (values: Record<string, string>, mode: "bpf" | "iptables"): string[] =>
    idleOptions(configOf(values), mode).map((fault) => String(fault.context.name));
  const all = {
    "enable-remote-node-masquerade": "true",
    "masquerade-port-range": "20000,40000",
    "egress-masquerade-interfaces": "eth+",
    "iptables-random-fully": "true",
  };
  assert.deepEqual(told(all, "iptables"), ["enable-remote-node-masquerade", "masquerade-port-range"]);
  assert.deepEqual(told(all, "bpf"), ["egress-masquerade-interfaces", "iptables-random-fully"]);
  assert.deepEqual([told({}, "bpf"), told({}, "iptables")], [[], []]);
});

test("egress-masquerade-interfaces: the devices that match, with their own addresses; one that is not there is told", () => {
  const inputs = inputsOf({ ...IPTABLES, "egress-masquerade-interfaces": "wan+,none0" });
  const link = {
    ifindex: 7,
    name: "wan1",
    mac: "",
    mtu: 1500,
    up: true,
    loopback: false,
    layer3: false,
    master: 0,
  };
  const address = { address: "192.0.2.7", length: 24, scope: "global", secondary: false } as const;
  const { spec, found } = netfilterSpec({
    ...inputs,
    facts: { ...inputs.facts, links: [{ ...link, addresses: [address], tentative: [] }] },
  });
  assert.deepEqual(
    spec.devices.map(({ name, addr4, addr6 }) => [name, addr4, addr6]),
    [["wan1", "192.0.2.7", "::"]],
  );
  assert.deepEqual(
    found.map((fault) => fault.detail),
    ['egress-masquerade-interfaces: no device is called "none0"'],
  );
});

test("a pod whose address is in none of the ranges is masqueraded as well", () => {
  const inputs = inputsOf(IPTABLES);
  const pods = [
    { ipv4: "10.244.1.9", ipv6: "fd00:10:244:1::9" },
    { ipv4: "10.9.9.9" },
  ] as unknown as NetfilterInputs["pods"];
  const { spec } = netfilterSpec({ ...inputs, pods });
  assert.deepEqual(
    spec.podRanges.map(({ address, length }) => `${address}/${length}`),
    ["10.244.1.0/24", "fd00:10:244:1::/64", "10.9.9.9/32"],
  );
});
