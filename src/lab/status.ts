// SPDX-License-Identifier: Apache-2.0
// How a running lab fares, asked of its API server and of each node's agent at that moment.
import { join } from "node:path";
import type { StatusReport } from "../agent/status.ts";
import { Fault } from "../base/fault.ts";
import { labPods } from "./member.ts";
import type { LabPlan } from "./plan.ts";
import { runningState } from "./state.ts";
import { unixGet } from "./unix-get.ts";

export interface LabNodeStatus {
  name: string;
  addresses: string[];
  podCidrs: string[];
  /** `ok`, `warning`, `failure`; `silent` if the agent does not answer. */
  agent: string;
  /** What the agent says of itself, or why it says nothing. */
  text: string;
}

export interface LabPodStatus {
  name: string;
  namespace: string;
  node: string;
  phase: string;
  addresses: string[];
}

export interface LabStatus {
  name: string;
  startedAt: string;
  ready: boolean;
  supervisorPid: number;
  stateDir: string;
  kubeconfig: string;
  mtu: number;
  nodes: LabNodeStatus[];
  pods: LabPodStatus[];
  outside: { internet: string[]; exempt: string[] };
}

async function nodeStatus(node: LabPlan["nodes"][number]): Promise<LabNodeStatus> {
  const facts = { name: node.name, addresses: [node.ipv4, node.ipv6], podCidrs: [...node.podCidrs] };
  try {
    const report = await unixGet<StatusReport>(join(node.runDir, "agent.sock"), "/v1/status");
    return { ...facts, agent: report.overall.state, text: report.overall.text };
  } catch (thrown) {
    return { ...facts, agent: "silent", text: String(Fault.from(thrown).context.why) };
  }
}

/**
 * @throws Fault LAB_NOT_RUNNING; SOCKET_SILENT if its API server does not answer
 */
export async function labStatus(lab: string): Promise<LabStatus> {
  const { plan, supervisor, startedAt, ready } = runningState(lab);
  const [nodes, pods] = await Promise.all([Promise.all(plan.nodes.map(nodeStatus)), labPods(plan)]);
  return {
    name: plan.name,
    startedAt,
    ready,
    supervisorPid: supervisor.pid,
    stateDir: plan.stateDir,
    kubeconfig: plan.kubeconfig,
    mtu: plan.mtu,
    nodes,
    pods: pods.map(({ name, namespace, nodeName, phase, addresses }) => ({
      name,
      namespace,
      node: nodeName,
      phase,
      addresses,
    })),
    outside: { internet: [...plan.outside.internet], exempt: [...plan.outside.exempt] },
  };
}
