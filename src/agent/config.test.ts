// SPDX-License-Identifier: Apache-2.0
// Reading of options, the order of layers, refusals with their path, and flags.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type ConfigLayer,
  changedOptions,
  environmentLayers,
  flagLayer,
  resolveConfig,
  showConfig,
} from "./config.ts";
import { optionOfAlias } from "./option-names.ts";
import { OPTION_NAMES, OPTIONS } from "./options.ts";

const MAP = "ConfigMap kube-system/cilium-config";
const layer = (origin: string, values: Record<string, string>): ConfigLayer => ({
  origin,
  values: new Map(
    Object.entries(values).map(([key, text]) => [key, { text, path: `${origin} data.${key}` }]),
  ),
});
const configMap = (values: Record<string, string>): ConfigLayer => layer(MAP, values);

test("defaults read well and are what Cilium's are, but for masquerading in BPF and native routing", () => {
  const { config, faults } = resolveConfig([]);
  assert.deepEqual(faults, []);
  assert.ok(config);
  assert.equal(config["enable-bpf-masquerade"], true);
  assert.equal(config["routing-mode"], "native");
  assert.equal(config["bpf-ct-timeout-regular-tcp"], 8000);
  assert.equal(config["bpf-ct-global-tcp-max"] + config["bpf-ct-global-any-max"], 786432);
});

test("a later layer wins and says where its value stands", () => {
  const { config, origins } = resolveConfig([
    configMap({ devices: "eth0", "enable-ipv6": "false" }),
    layer("CiliumNodeConfig kube-system/a", { devices: "eth1 eth2" }),
    ...environmentLayers({ HOOKLINE_ENABLE_IPV6: "true", CILIUM_ENABLE_IPV6: "false", HOME: "/" }),
    flagLayer(["--mtu=1400"]),
  ]);
  assert.deepEqual(config?.devices, ["eth1", "eth2"]);
  assert.equal(config?.["enable-ipv6"], true);
  assert.equal(config?.mtu, 1400);
  assert.equal(origins.get("devices"), "CiliumNodeConfig kube-system/a data.devices");
  assert.equal(origins.get("enable-ipv6"), "HOOKLINE_ENABLE_IPV6");
  assert.equal(origins.get("mtu"), "--mtu");
});

const refusals: [key: string, value: string, why: string][] = [
  ["ipv4-native-routing-cidr", "10.0.0.0/33", "prefix length over 32"],
  ["ipv4-native-routing-cidr", "fd00::/48", "not an IPv4 prefix"],
  ["ipv6-native-routing-cidr", "hello", "not an IPv4 or IPv6 prefix"],
  ["enable-ipv4", "maybe", "not true or false"],
  ["enable-ipv4", "", "not true or false"],
  ["mtu", "1e3", "not a whole number"],
  ["mtu", "70000", "not between 0 and 65535"],
  ["bpf-ct-timeout-regular-tcp", "0s", "not between 1s and 8760h"],
  ["bpf-ct-timeout-regular-tcp", "ten seconds", "not a duration such as 60s or 2h13m20s"],
  ["bpf-ct-global-tcp-max", "17", "not between 1024 and 16777216"],
  ["monitor-aggregation", "loud", "not one of none, lowest, low, medium, maximum"],
  ["routing-mode", "tunnel", "tunnels are not in this release; set routing-mode to native"],
  ["node-port-range", "40000,30000", "not a range of ports between 1 and 65535"],
  ["node-port-range", "30000", "not two ports such as 30000,32767"],
  [
    "prometheus-serve-addr",
    "here:9962",
    "not an address and a port such as :9962, 0.0.0.0:9962 or [::]:9962",
  ],
  ["prometheus-serve-addr", "10.0.0.256:9962", "10.0.0.256 is not an address"],
  ["prometheus-serve-addr", "[10.0.0.1]:9962", "10.0.0.1 is not an address"],
  ["prometheus-serve-addr", ":0", "no port between 1 and 65535"],
];
for (const [key, value, why] of refusals) {
  test(`${key} ${JSON.stringify(value)} is refused: ${why}`, () => {
    const { config, faults } = resolveConfig([configMap({ [key]: value })]);
    assert.equal(config, undefined);
    assert.deepEqual(
      faults.map((f) => f.detail),
      [`${MAP} data.${key}: "${value}": ${why}`],
    );
  });
}

test("all wrong values are told at once, unknown keys apart", () => {
  const { config, faults, unknown } = resolveConfig([
    configMap({ mtu: "x", devices: "eth0", "enable-ipv4": "y", "kube-proxy-replacement": "true" }),
  ]);
  assert.equal(config, undefined);
  assert.equal(faults.length, 2);
  assert.deepEqual(unknown, [{ key: "kube-proxy-replacement", path: `${MAP} data.kube-proxy-replacement` }]);
});

test("no object of the API can move the agent's folders", () => {
  const { config, unknown } = resolveConfig([
    configMap({ "run-dir": "/etc" }),
    flagLayer(["--run-dir", "/run/x"]),
  ]);
  assert.equal(config?.["run-dir"], "/run/x");
  assert.deepEqual(
    unknown.map((u) => u.key),
    ["run-dir"],
  );
});

test("values that contradict each other are refused", () => {
  const why = (values: Record<string, string>): string[] =>
    resolveConfig([configMap(values)]).faults.map((f) => f.code + f.detail.slice(MAP.length));
  assert.deepEqual(why({ "enable-ipv4": "false", "enable-ipv6": "false" }), [
    "CONFIG_CONFLICT data.enable-ipv6: false, and so is enable-ipv4: pods would have no addresses",
  ]);
  assert.equal(why({ "bpf-nat-global-max": "800000" }).length, 1);
  assert.equal(why({ "masquerade-port-range": "30000,32000" }).length, 1);
});

test("addresses to listen on: loopback where only a port is given", () => {
  const shown = (value: string): unknown => {
    const { config } = resolveConfig([configMap({ "prometheus-serve-addr": value })]);
    return config && showConfig(config)["prometheus-serve-addr"];
  };
  assert.deepEqual([":9962", "0.0.0.0:9962", "[::]:9962", "[fd00::1]:80", ""].map(shown), [
    "127.0.0.1:9962",
    "0.0.0.0:9962",
    "[::]:9962",
    "[fd00::1]:80",
    "",
  ]);
});

test("durations as Go writes them", () => {
  const seconds = (text: string): number | undefined =>
    resolveConfig([configMap({ "bpf-ct-timeout-regular-any": text })]).config?.["bpf-ct-timeout-regular-any"];
  assert.deepEqual(["60s", "2h13m20s", "1.5m", "45"].map(seconds), [60, 8000, 90, 45]);
});

test("flags: both spellings, switches, Cilium's names, and refusals", () => {
  const read = (...args: string[]): Record<string, string> =>
    Object.fromEntries([...flagLayer(args).values].map(([key, value]) => [key, value.text]));
  assert.deepEqual(read("--enable-ipv6", "--devices", "eth0", "--no-enable-ipv4", "--k8s-node-name=n1"), {
    "enable-ipv6": "true",
    devices: "eth0",
    "enable-ipv4": "false",
    "node-name": "n1",
  });
  assert.deepEqual(read("--enable-ipv6", "false"), { "enable-ipv6": "false" });
  assert.throws(() => flagLayer(["--nope"]), { code: "FLAG_UNKNOWN" });
  assert.throws(() => flagLayer(["--devices"]), { code: "FLAG_VALUE_MISSING" });
  assert.throws(() => flagLayer(["devices"]), { code: "ARGUMENT_UNKNOWN" });
});

test("aliases of CiliumNetworkConfig: field names and Helm paths", () => {
  assert.equal(optionOfAlias("enableBPFMasquerade"), "enable-bpf-masquerade");
  assert.equal(optionOfAlias("ipv4NativeRoutingCIDR"), "ipv4-native-routing-cidr");
  assert.equal(optionOfAlias("bpf.masquerade"), "enable-bpf-masquerade");
  assert.equal(optionOfAlias("kubeconfig"), undefined);
  assert.equal(optionOfAlias("tunnelProtocol"), undefined);
});

test("a configuration shows as text that reads back to itself", () => {
  const { config } = resolveConfig([
    configMap({ devices: "eth0,eth1", "ipv4-native-routing-cidr": "10.1.2.3/8" }),
  ]);
  assert.ok(config);
  const again = resolveConfig([configMap(showConfig(config))]).config;
  assert.ok(again);
  assert.deepEqual(changedOptions(config, again), []);
  const other = resolveConfig([configMap({ devices: "eth1" })]).config;
  assert.ok(other);
  assert.deepEqual(changedOptions(config, other), ["ipv4-native-routing-cidr", "devices"]);
});

test("every option is one sentence or more and ends in a full stop", () => {
  for (const name of OPTION_NAMES) assert.match(OPTIONS[name].text, /^[A-Z`].*\.$/, name);
});
