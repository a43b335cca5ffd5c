// SPDX-License-Identifier: Apache-2.0
// Journeys of whole conversations through a lab of two nodes, with real sockets: who calls whom, under which address the
// callee sees it, and which rule the caller's node wrote into the flow's record. Both families, TCP and UDP.
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { waitFor } from "../../src/base/async.ts";
import type { LabPlan } from "../../src/lab/plan.ts";
import { planLab, podNetns, SERVER_PORTS } from "../../src/lab/plan.ts";
import type { Flow, FlowKey } from "../../src/maps/gen/types.ts";
import { MasqueradeRule } from "../../src/maps/gen/verdict.ts";
import { openInner } from "../../src/maps/table.ts";
import { ask } from "../support/ask.ts";
import { finished, hookline, labName, output, startHookline } from "../support/lab.ts";

const lab = labName();
const plan: LabPlan = planLab({ name: lab, nodes: 2, podsPerNode: 2, mtu: 1500, config: {} });
const [node1, node2] = plan.nodes as [LabPlan["nodes"][0], LabPlan["nodes"][0]];

/** Addresses by name and family; pods' are known when the lab is up. */
const addresses: Record<string, { 4: string; 6: string }> = {
  node1: { 4: node1.ipv4, 6: node1.ipv6 },
  node2: { 4: node2.ipv4, 6: node2.ipv6 },
  outside: { 4: plan.outside.gateway[0], 6: plan.outside.gateway[1] },
  internet: { 4: plan.outside.internet[0], 6: plan.outside.internet[1] },
  exempt: { 4: plan.outside.exempt[0], 6: plan.outside.exempt[1] },
};

const NETNS: Record<string, string> = {
  "pod-1-1": podNetns(node1, "default", "pod-1-1"),
  node1: node1.netns,
  outside: plan.outside.netns,
};

interface Journey {
  from: string;
  to: string;
  /** Whose address the callee sees. */
  seen: string;
  /** What the record on node1 says; absent where node1 keeps no record or another node opened it. */
  rule?: number;
  why: string;
}

const JOURNEYS: Journey[] = [
  {
    from: "pod-1-1",
    to: "internet",
    seen: "node1",
    rule: MasqueradeRule.MASQ_POD,
    why: "leaves the cluster",
  },
  {
    from: "pod-1-1",
    to: "outside",
    seen: "node1",
    rule: MasqueradeRule.MASQ_POD,
    why: "no node of the cluster",
  },
  {
    from: "pod-1-1",
    to: "exempt",
    seen: "pod-1-1",
    rule: MasqueradeRule.MASQ_NONMASQ_CIDR,
    why: "nonMasqueradeCIDRs",
  },
  {
    from: "pod-1-1",
    to: "pod-2-1",
    seen: "pod-1-1",
    rule: MasqueradeRule.MASQ_NATIVE_CIDR,
    why: "pod on another node",
  },
  { from: "pod-1-1", to: "pod-1-2", seen: "pod-1-1", why: "pod on the same node" },
  {
    from: "pod-1-1",
    to: "node2",
    seen: "pod-1-1",
    rule: MasqueradeRule.MASQ_REMOTE_NODE,
    why: "another node",
  },
  { from: "pod-1-1", to: "node1", seen: "pod-1-1", why: "its own node" },
  { from: "node1", to: "internet", seen: "node1", why: "the node's own traffic" },
  { from: "node1", to: "pod-1-1", seen: "node1", why: "node to its own pod" },
  { from: "node1", to: "pod-2-1", seen: "node1", why: "node to another node's pod" },
  { from: "node1", to: "node2", seen: "node1", why: "node to node" },
  {
    from: "outside",
    to: "pod-1-1",
    seen: "outside",
    why: "opened from outside: the answer is not masqueraded",
  },
];

/** The record of a conversation on node1, found by what the callee saw. */
function recordOf(seen: string, port: number, to: string): (FlowKey & Flow) | undefined {
  for (const table of openInner(node1.bpfRoot, "flows")) {
    using opened = table;
    for (const [key, flow] of opened.entries()) {
      if (key.daddr === to && flow.xsaddr === seen && flow.xsport === port) return { ...key, ...flow };
    }
  }
  return undefined;
}

/** The pods' servers on a node as well, so that nodes can be called. */
async function serveOn(node: LabPlan["nodes"][0]): Promise<ChildProcess> {
  const words = ["exec", "--name", lab, node.name, "--", "hookline", "lab", "serve", node.name];
  const child = startHookline(["lab", ...words, node.ipv4, node.ipv6]);
  finished(child).catch(() => undefined);
  await waitFor(`servers on ${node.name}`, async () => {
    // The server that is started last.
    const seen = await ask(node.netns, `http:${node.ipv6}`, { ports: SERVER_PORTS });
    return seen.server === node.name;
  });
  return child;
}

describe(`journeys through lab ${lab}`, () => {
  before(async () => {
    await output("lab", "up", "--name", lab, "--nodes", "2", "--pods-per-node", "2");
    const { pods } = JSON.parse(await output("lab", "status", "--name", lab, "-o", "json"));
    for (const pod of pods) addresses[pod.name] = { 4: pod.addresses[0], 6: pod.addresses[1] };
    await Promise.all([node1, node2].map(serveOn));
  });
  after(async () => {
    await hookline("lab", "down", "--name", lab);
  });

  for (const { from, to, seen, rule, why } of JOURNEYS) {
    for (const family of [4, 6] as const) {
      for (const transport of ["tcp", "udp"] as const) {
        test(`IPv${family} ${transport}: ${from} calls ${to}, which sees ${seen} (${why})`, async () => {
          const target = addresses[to]?.[family] ?? "";
          const answer = await ask(NETNS[from] ?? "", `${transport}:${target}`, { ports: SERVER_PORTS });
          assert.equal(answer.error, undefined);
          assert.equal(answer.peer, addresses[seen]?.[family]);
          if (rule === undefined) return;
          const record = recordOf(answer.peer ?? "", answer.peerPort ?? 0, target);
          assert.ok(record, `no record for ${answer.peer} port ${answer.peerPort}`);
          assert.deepEqual([record.rule, record.saddr], [rule, addresses[from]?.[family]]);
        });
      }
    }
  }

  for (const target of ["internet", "exempt", "pod-2-1", "pod-1-2", "node2"]) {
    for (const family of [4, 6] as const) {
      test(`IPv${family} ping: pod-1-1 reaches ${target}`, async () => {
        const ping = ["ping", "-c", "3", "-i", "0.05", "-W", "20", "-q", addresses[target]?.[family] ?? ""];
        const text = await output("lab", "exec", "--name", lab, "pod-1-1", "--", ...ping);
        assert.match(text, /3 packets transmitted, 3 received/);
      });
    }
  }
});
