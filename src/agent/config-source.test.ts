// SPDX-License-Identifier: Apache-2.0
// The configuration in force over changes of its layers.
import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLog } from "../base/log.ts";
import { decodeNetworkConfig } from "../source/cilium-network-config.ts";
import { decodeNodeConfig } from "../source/cilium-node-config.ts";
import { decodeConfigMap } from "../source/config-map.ts";
import type { ClusterView } from "./cluster.ts";
import { flagLayer } from "./config.ts";
import { ConfigSource, clusterLayers } from "./config-source.ts";

const configMap = (data: Record<string, unknown>) =>
  decodeConfigMap({ kind: "ConfigMap", metadata: { name: "cilium-config", namespace: "kube-system" }, data });
const nodeConfig = (name: string, selector: object, defaults: Record<string, string>) =>
  decodeNodeConfig({
    metadata: { name, namespace: "kube-system" },
    spec: { nodeSelector: selector, defaults },
  });
const networkConfig = (spec: object) => decodeNetworkConfig({ metadata: { name: "cluster" }, spec });
const view = (more: Partial<ClusterView>): ClusterView => ({
  configMap: undefined,
  ipMasqAgent: undefined,
  nodeConfigs: [],
  networkConfigs: [],
  nodes: [],
  ...more,
});
const source = (...flags: string[]) =>
  new ConfigSource({ below: [], above: [flagLayer(flags)] }, silentLog());
const labels = { "kubernetes.io/hostname": "a", pool: "edge" };

test("ConfigMap < CiliumNetworkConfig < CiliumNodeConfig in name order < flags", () => {
  const config = source("--mtu", "1300");
  config.update(
    clusterLayers(
      view({
        configMap: configMap({ devices: "eth0", mtu: 1500, "enable-ipv6": true, "tunnel-port": "1" }),
        networkConfigs: [networkConfig({ devices: ["eth1"], tunnelPort: 2, ipv6: { enabled: false } })],
        nodeConfigs: [
          nodeConfig("1", { matchLabels: { pool: "edge" } }, { devices: "eth2" }),
          nodeConfig("2", {}, { devices: "eth3" }),
          nodeConfig("3", { matchLabels: { pool: "core" } }, { devices: "eth4" }),
        ],
      }),
      labels,
    ),
  );
  assert.deepEqual(config.faults, []);
  assert.deepEqual(config.config?.devices, ["eth3"]);
  assert.equal(config.config?.["tunnel-port"], 2);
  assert.equal(config.config?.["enable-ipv6"], false);
  assert.equal(config.config?.mtu, 1300);
  assert.equal(config.originOf("devices"), "CiliumNodeConfig kube-system/2 spec.defaults.devices");
  assert.equal(config.originOf("tunnel-port"), "CiliumNetworkConfig cluster spec.tunnelPort");
  assert.equal(config.originOf("log-level"), "default");
});

test("routingMode: tunnel in a CiliumNetworkConfig is refused under its own path", () => {
  const config = source();
  config.update(clusterLayers(view({ networkConfigs: [networkConfig({ routingMode: "tunnel" })] }), labels));
  assert.match(config.faults[0]?.detail ?? "", /^CiliumNetworkConfig cluster spec\.routingMode: "tunnel": /);
});

test("a wrong value keeps the last good configuration and generation; the right one moves on", () => {
  const config = source();
  const update = (data: Record<string, string>) =>
    config.update(clusterLayers(view({ configMap: configMap(data) }), labels));
  assert.equal(update({ "ipv4-native-routing-cidr": "10.0.0.0/8" })?.reload, false);
  assert.equal(config.generation, 1);
  assert.equal(update({ "ipv4-native-routing-cidr": "10.0.0.0/33", mtu: "1400" }), undefined);
  assert.equal(config.config?.mtu, 0);
  assert.equal(config.generation, 1);
  assert.deepEqual(
    config.faults.map((f) => f.detail),
    [
      'ConfigMap kube-system/cilium-config data.ipv4-native-routing-cidr: "10.0.0.0/33": prefix length over 32',
    ],
  );
  const change = update({ "enable-ipv6-masquerade": "false" });
  assert.deepEqual(change?.changed, ["enable-ipv6-masquerade", "ipv4-native-routing-cidr"]);
  assert.equal(change?.reload, true);
  assert.equal(config.generation, 2);
  assert.deepEqual(config.faults, []);
  assert.equal(update({ "enable-ipv6-masquerade": "false" }), undefined);
});

test("unknown keys are listed with their path", () => {
  const config = source();
  config.update(clusterLayers(view({ configMap: configMap({ "kube-proxy-replacement": "true" }) }), labels));
  assert.deepEqual(config.unknownKeys, ["ConfigMap kube-system/cilium-config data.kube-proxy-replacement"]);
});

test("the state folder stands in for the cluster, under today's flags", () => {
  const first = source("--mtu", "1300");
  first.update(
    clusterLayers(view({ configMap: configMap({ devices: "eth0", "enable-ipv6": "false" }) }), labels),
  );
  const saved = first.snapshot();
  assert.deepEqual(Object.keys(saved).sort(), ["devices", "enable-ipv6"]);
  const second = source("--mtu", "1400");
  second.restore({ version: 1, config: saved, nodes: [], ipMasqAgent: null });
  assert.equal(second.fromState, true);
  assert.deepEqual(second.config?.devices, ["eth0"]);
  assert.equal(second.config?.mtu, 1400);
  assert.equal(second.originOf("devices"), "ConfigMap kube-system/cilium-config data.devices");
});
