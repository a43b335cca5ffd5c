// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Endpoint } from "../engine/endpoint/spec.ts";
import { encodeCiliumEndpoint } from "./cilium-endpoint.ts";

function pathOf(podNamespace: string, podName: string): string | undefined {
  const endpoint = {
    id: 7,
    containerId: "c1",
    ifName: "eth0",
    identity: 0,
    podNamespace,
    podName,
  } as Endpoint;
  return encodeCiliumEndpoint(endpoint, { nodeAddress: "", labels: {}, podUid: "" })?.path;
}

test("a pod's object is named after it", () => {
  const path = "/apis/cilium.io/v2/namespaces/default/ciliumendpoints/web-1.a";
  assert.equal(pathOf("default", "web-1.a"), path);
});

const strangers: [namespace: string, name: string][] = [
  ["", ""],
  ["default", ""],
  ["default", ".."],
  ["..", "web"],
  ["default", "../../nodes/node1"],
  ["default", "my_container"],
  ["default", "p".repeat(300)],
  ["n".repeat(64), "web"],
];
for (const [namespace, name] of strangers) {
  test(`${JSON.stringify(`${namespace}/${name}`.slice(0, 30))} is no pod of Kubernetes and has no object`, () => {
    assert.equal(pathOf(namespace, name), undefined);
  });
}
