// SPDX-License-Identifier: Apache-2.0
// Who a name in a command means: a node, a pod, or the outside; and where programs run that are started in it.
import { join } from "node:path";
import { faults } from "./faults.ts";
import { type LabPlan, podCgroup, podNetns } from "./plan.ts";
import { type PodSpec, podSpec } from "./pod-status.ts";
import { type Place, plainEnvironment } from "./spawn.ts";
import { unixGet } from "./unix-get.ts";

/** A node, pod or the outside of a running lab. */
export interface Member {
  name: string;
  place: Place;
  /** Environment that makes `hookline` mean this node, or the pod's. */
  env: NodeJS.ProcessEnv;
}

/** A pod as the API has it, with its addresses. */
export interface PodFacts extends PodSpec {
  phase: string;
  addresses: string[];
}

/** All pods of the lab. @throws Fault SOCKET_SILENT if its API server is gone */
export async function labPods(plan: LabPlan): Promise<PodFacts[]> {
  type Item = Parameters<typeof podSpec>[0] & { status?: { phase?: string; podIPs?: { ip: string }[] } };
  const { items } = await unixGet<{ items: Item[] }>(plan.apiSocket, "/api/v1/pods");
  return items.map((item) => ({
    ...podSpec(item),
    phase: item.status?.phase ?? "Pending",
    addresses: (item.status?.podIPs ?? []).map(({ ip }) => ip),
  }));
}

function environment(plan: LabPlan, member: string, runDir?: string): NodeJS.ProcessEnv {
  const env = plainEnvironment();
  return {
    ...env,
    PATH: `${join(plan.stateDir, "bin")}:${env.PATH ?? ""}`,
    HOOKLINE_LAB: plan.name,
    HOOKLINE_MEMBER: member,
    ...(runDir === undefined ? {} : { HOOKLINE_RUN_DIR: runDir }),
  };
}

/**
 * The member of that name: `node1`, `pod-1-1`, `kube-system/dns`, `outside`.
 * @throws Fault LAB_MEMBER with the names that exist
 */
export async function findMember(plan: LabPlan, name: string): Promise<Member> {
  const node = plan.nodes.find((candidate) => candidate.name === name);
  if (node) {
    const place = { netns: node.netns, cgroup: join(node.cgroup, "exec") };
    return { name, place, env: environment(plan, name, node.runDir) };
  }
  if (name === "outside") {
    const { netns, cgroup } = plan.outside;
    return { name, place: { netns, cgroup: join(cgroup, "exec") }, env: environment(plan, name) };
  }
  const pods = await labPods(plan);
  const pod = pods.find(
    (p) => `${p.namespace}/${p.name}` === name || (p.namespace === "default" && p.name === name),
  );
  const home = plan.nodes.find((candidate) => candidate.name === pod?.nodeName);
  if (!pod || !home) {
    const members = [...plan.nodes, ...pods, { name: "outside" }].map((m) => m.name).join(", ");
    throw faults.LAB_MEMBER({ name: plan.name, member: name, members });
  }
  const place = {
    netns: podNetns(home, pod.namespace, pod.name),
    cgroup: podCgroup(home, pod.namespace, pod.name),
  };
  return { name, place, env: environment(plan, name, home.runDir) };
}
