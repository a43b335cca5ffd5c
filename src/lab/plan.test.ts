// SPDX-License-Identifier: Apache-2.0
// The plan of a lab: addresses as documented, nothing shared between nodes or labs, bad requests refused with the option.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAllDocuments } from "yaml";
import { parseAddress } from "../base/addr.ts";
import { parsePrefix, prefixContains } from "../base/prefix.ts";
import { labManifests, manifestText } from "./manifests.ts";
import { type LabRequest, NATIVE_ROUTING_CIDRS, parseConfigPairs, planLab, podNetns } from "./plan.ts";

const request = (over: Partial<LabRequest> = {}): LabRequest => ({
  name: "lab",
  nodes: 3,
  podsPerNode: 2,
  mtu: 1500,
  config: {},
  ...over,
});

test("addresses and names of the default lab", () => {
  const plan = planLab(request());
  assert.deepEqual(
    plan.nodes.map((n) => [n.name, n.netns, n.ipv4, n.ipv6, ...n.podCidrs]),
    [
      ["node1", "hl-lab-node1", "172.20.0.11", "fd00:20::11", "10.244.1.0/24", "fd00:10:244:1::/64"],
      ["node2", "hl-lab-node2", "172.20.0.12", "fd00:20::12", "10.244.2.0/24", "fd00:10:244:2::/64"],
      ["node3", "hl-lab-node3", "172.20.0.13", "fd00:20::13", "10.244.3.0/24", "fd00:10:244:3::/64"],
    ],
  );
  assert.deepEqual(plan.pods.map((p) => `${p.node}/${p.name}`).slice(0, 3), [
    "node1/pod-1-1",
    "node1/pod-1-2",
    "node2/pod-2-1",
  ]);
});

test("every address is canonical and unique at the largest size, pod CIDRs lie inside the native-routing CIDRs", () => {
  const plan = planLab(request({ nodes: 100, podsPerNode: 0 }));
  const addresses = plan.nodes.flatMap((n) => [n.ipv4, n.ipv6]);
  addresses.push(...plan.outside.gateway, ...plan.outside.internet, ...plan.outside.exempt);
  assert.equal(new Set(addresses).size, addresses.length);
  for (const address of addresses) assert.equal(parseAddress(address), address);
  for (const node of plan.nodes) {
    for (const [i, cidr] of node.podCidrs.entries()) {
      const outer = parsePrefix(NATIVE_ROUTING_CIDRS[i] ?? "");
      assert.ok(prefixContains(outer, parsePrefix(cidr)), `${cidr} outside ${NATIVE_ROUTING_CIDRS[i]}`);
    }
  }
});

test("two labs share no name, folder or control group", () => {
  const names = ["a", "ab"].map((name) => {
    const plan = planLab(request({ name }));
    return [
      plan.stateDir,
      plan.cgroup,
      plan.switchNetns,
      plan.outside.netns,
      ...plan.nodes.map((n) => n.netns),
    ];
  });
  const [a = [], ab = []] = names;
  for (const one of a)
    for (const other of ab) assert.ok(!`${other}/`.startsWith(`${one}/`), `${one} ${other}`);
});

test("pods of other namespaces have namespaces of their own", () => {
  const [node] = planLab(request()).nodes;
  assert.ok(node);
  assert.equal(podNetns(node, "default", "a"), "hl-lab-node1-a");
  assert.equal(podNetns(node, "kube-system", "a"), "hl-lab-node1-kube-system.a");
});

const refused: [string, Partial<LabRequest>, string, RegExp][] = [
  ["a dash in the name", { name: "my-lab" }, "LAB_NAME", /my-lab/],
  ["an empty name", { name: "" }, "LAB_NAME", /letter/],
  ["a path as name", { name: "../x" }, "LAB_NAME", /letter/],
  ["no node", { nodes: 0 }, "LAB_SIZE", /--nodes 0/],
  ["half a node", { nodes: 1.5 }, "LAB_SIZE", /whole number/],
  ["too many pods", { podsPerNode: 201 }, "LAB_SIZE", /--pods-per-node 201/],
  ["an MTU that IPv6 cannot use", { mtu: 1279 }, "LAB_SIZE", /from 1280/],
];
for (const [what, over, code, text] of refused) {
  test(`refuses ${what}`, () => {
    assert.throws(() => planLab(request(over)), { code, message: text });
  });
}

test("configuration: the request's keys win, pairs may hold =", () => {
  const config = parseConfigPairs(["enable-ipv6=false", "labels=a=b", "enable-ipv6=true"]);
  assert.deepEqual(config, { "enable-ipv6": "true", labels: "a=b" });
  assert.throws(() => parseConfigPairs(["enable-ipv6"]), { code: "LAB_CONFIG" });
  assert.equal(planLab(request({ config: { "enable-ipv6": "false" } })).config["enable-ipv6"], "false");
});

test("manifests survive YAML and name every node and pod", () => {
  const plan = planLab(request());
  const files = labManifests(plan);
  const objects = Object.values(files).flatMap((file) =>
    parseAllDocuments(manifestText(file)).map((d) => d.toJS()),
  );
  const names = (kind: string) => objects.filter((o) => o.kind === kind).map((o) => o.metadata.name);
  assert.deepEqual(names("Node"), ["node1", "node2", "node3"]);
  assert.equal(names("Pod").length, 6);
  assert.deepEqual(names("ConfigMap"), ["cilium-config", "ip-masq-agent"]);
  const node = objects.find((o) => o.kind === "Node");
  assert.equal(node.status.addresses[1].address, "fd00:20::11");
});
