// SPDX-License-Identifier: Apache-2.0
// Contents of the ipcache for given nodes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { planIpcache } from "./plan.ts";

const node = (name: string, internal: string[], other: string[] = []) => ({
  name,
  internalAddresses: internal,
  otherAddresses: other,
});

test("ipcache: own addresses are the host, other nodes remote nodes reached by their InternalIP", () => {
  const entries = planIpcache({
    nodeName: "a",
    hostAddresses: ["192.0.2.1", "fd00::1"],
    nodes: [node("a", ["192.0.2.1"]), node("b", ["192.0.2.2", "fd00::2"], ["203.0.113.2"])],
  });
  assert.deepEqual(
    [...entries].map(([key, e]) => [key, e.identity, e.node, e.remoteNode]),
    [
      ["192.0.2.1/32", 1, "::", false],
      ["fd00::1/128", 1, "::", false],
      ["192.0.2.2/32", 6, "192.0.2.2", true],
      ["fd00::2/128", 6, "fd00::2", true],
      ["203.0.113.2/32", 6, "192.0.2.2", true],
    ],
  );
});

test("ipcache: no other node can take this node's address, nor a second node the first one's", () => {
  const entries = planIpcache({
    nodeName: "a",
    hostAddresses: ["192.0.2.1"],
    nodes: [node("c", ["192.0.2.3"]), node("b", ["192.0.2.3", "192.0.2.1"])],
  });
  assert.equal(entries.get("192.0.2.1/32")?.identity, 1);
  assert.equal(entries.size, 2);
});
