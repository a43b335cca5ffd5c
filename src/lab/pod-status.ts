// SPDX-License-Identifier: Apache-2.0
// Pod objects as the lab reads them, and the status that it writes back, in the shape that kubectl prints. Pure.
import { type Address, familyOf } from "../base/addr.ts";
import type { NodePlan } from "./plan.ts";
import type { ProcessStatus, RestartPolicy } from "./pod-process.ts";

/** What the lab reads of a Pod. */
export interface PodSpec {
  namespace: string;
  name: string;
  uid: string;
  /** "" while no node is chosen. */
  nodeName: string;
  /** Deletion has been asked for. */
  deleting: boolean;
  /** Succeeded or Failed: not to be started again. */
  ended: boolean;
  /** Program and arguments of the first container, on this host's files; empty: the lab's web server. */
  command: string[];
  env: Record<string, string>;
  restartPolicy: RestartPolicy;
  /** Name and image of the first container, as the status repeats them. */
  container: { name: string; image: string };
  createdAt: string;
}

interface PodObject {
  metadata?: {
    namespace?: string | undefined;
    name?: string | undefined;
    uid?: string | undefined;
    creationTimestamp?: unknown;
    deletionTimestamp?: unknown;
  };
  spec?: {
    nodeName?: string | undefined;
    restartPolicy?: string | undefined;
    containers?: {
      name?: string;
      image?: string | undefined;
      command?: string[] | undefined;
      args?: string[] | undefined;
      env?: { name: string; value?: string | undefined }[] | undefined;
    }[];
  };
  status?: { phase?: string | undefined };
}

/** A Pod of the API. Fields of the wrong kind cannot occur: the API server checks them. */
export function podSpec(pod: PodObject): PodSpec {
  const { metadata = {}, spec = {}, status = {} } = pod;
  const [container = {}] = spec.containers ?? [];
  const command = container.command ?? [];
  return {
    namespace: metadata.namespace ?? "default",
    name: metadata.name ?? "",
    uid: metadata.uid ?? "",
    nodeName: spec.nodeName ?? "",
    deleting: metadata.deletionTimestamp !== undefined && metadata.deletionTimestamp !== null,
    ended: status.phase === "Succeeded" || status.phase === "Failed",
    command: command.length === 0 ? [] : [...command, ...(container.args ?? [])],
    env: Object.fromEntries((container.env ?? []).map((e) => [e.name, e.value ?? ""])),
    restartPolicy: (spec.restartPolicy as RestartPolicy | undefined) ?? "Always",
    container: { name: container.name ?? "main", image: container.image ?? "" },
    createdAt: metadata.creationTimestamp ? new Date(String(metadata.creationTimestamp)).toISOString() : "",
  };
}

/** Kubernetes times have no fractions. */
function now(): string {
  return new Date().toISOString().replace(/\.\d+Z$/, "Z");
}

function conditions(ready: boolean): Record<string, unknown>[] {
  const row = (type: string, value: boolean) => ({
    type,
    status: value ? "True" : "False",
    lastTransitionTime: now(),
  });
  return [
    row("PodScheduled", true),
    row("Initialized", true),
    row("ContainersReady", ready),
    row("Ready", ready),
  ];
}

/** The status of a pod that has no network yet. */
export function waitingStatus(pod: PodSpec, message: string): Record<string, unknown> {
  return {
    phase: "Pending",
    conditions: conditions(false),
    containerStatuses: [
      {
        ...pod.container,
        imageID: "",
        ready: false,
        restartCount: 0,
        state: { waiting: { reason: "ContainerCreating", message } },
      },
    ],
  };
}

/** The status of a pod whose process has started, or has ended for good. */
export function runningStatus(
  pod: PodSpec,
  facts: ProcessStatus & { addresses: Address[]; node: NodePlan },
): Record<string, unknown> {
  const { restarts, ended, addresses, node } = facts;
  const alive = ended === undefined;
  const phase = alive ? "Running" : ended === 0 ? "Succeeded" : "Failed";
  const state = alive
    ? { running: { startedAt: now() } }
    : { terminated: { exitCode: ended, reason: ended === 0 ? "Completed" : "Error", finishedAt: now() } };
  const podIPs = [...addresses].sort((a, b) => familyOf(a) - familyOf(b)).map((ip) => ({ ip }));
  return {
    phase,
    conditions: conditions(alive),
    hostIP: node.ipv4,
    hostIPs: [{ ip: node.ipv4 }, { ip: node.ipv6 }],
    podIP: podIPs[0]?.ip ?? null,
    podIPs,
    startTime: now(),
    qosClass: "BestEffort",
    containerStatuses: [
      {
        ...pod.container,
        imageID: "",
        containerID: `lab://${pod.uid}`,
        ready: alive,
        started: alive,
        restartCount: restarts,
        state,
      },
    ],
  };
}
