// SPDX-License-Identifier: Apache-2.0
// The columns of `kubectl get pods`: STATUS is the first reason that explains a pod best, RESTARTS says how long ago the
// last one was, as kubectl users know them.
import { at, type KubeObject, listAt, own, textAt } from "../json.ts";
import { AGE, type Column, column, NAME, orNone } from "../table/columns.ts";
import { humanDuration } from "../table/duration.ts";

/** Why a container does not run: `CrashLoopBackOff`, `Completed`, `ExitCode:1`, `Signal:9`; "" while it runs. */
function containerReason(status: unknown): string {
  const waiting = textAt(status, "state", "waiting", "reason");
  if (waiting) return waiting;
  const ended = at(status, "state", "terminated");
  if (ended === undefined) return "";
  const signal = own(ended, "signal");
  return textAt(ended, "reason") || (signal ? `Signal:${signal}` : `ExitCode:${own(ended, "exitCode") ?? 0}`);
}

/** The reason that init containers give, or undefined once they are all done. */
function initReason(pod: KubeObject): string | undefined {
  const statuses = listAt(pod, "status", "initContainerStatuses");
  for (const [i, status] of statuses.entries()) {
    const ended = at(status, "state", "terminated");
    if (ended !== undefined && (own(ended, "exitCode") ?? 0) === 0) continue;
    if (own(status, "started") === true) continue;
    const reason = containerReason(status);
    if (reason && reason !== "PodInitializing") return `Init:${reason}`;
    return `Init:${i}/${listAt(pod, "spec", "initContainers").length}`;
  }
  return undefined;
}

export function podStatus(pod: KubeObject): string {
  const statuses = listAt(pod, "status", "containerStatuses");
  let reason = textAt(pod, "status", "reason") || textAt(pod, "status", "phase") || "Unknown";
  const init = initReason(pod);
  if (init !== undefined) reason = init;
  else {
    const found = statuses.map(containerReason).filter((r) => r !== "");
    if (found[0]) reason = found[0];
    const running = statuses.some((s) => own(s, "ready") === true && at(s, "state", "running") !== undefined);
    if (reason === "Completed" && running) reason = ready(pod) ? "Running" : "NotReady";
  }
  if (pod.metadata.deletionTimestamp)
    return textAt(pod, "status", "reason") === "NodeLost" ? "Unknown" : "Terminating";
  return reason;
}

function ready(pod: KubeObject): boolean {
  return listAt(pod, "status", "conditions").some(
    (c) => own(c, "type") === "Ready" && own(c, "status") === "True",
  );
}

function readyCount(pod: KubeObject): string {
  const statuses = listAt(pod, "status", "containerStatuses");
  return `${statuses.filter((s) => own(s, "ready") === true).length}/${listAt(pod, "spec", "containers").length}`;
}

function restarts(pod: KubeObject, now: number): string {
  let count = 0;
  let last = 0;
  for (const status of listAt(pod, "status", "containerStatuses")) {
    count += Number(own(status, "restartCount") ?? 0);
    last = Math.max(last, Date.parse(textAt(status, "lastState", "terminated", "finishedAt")) || 0);
  }
  return count > 0 && last > 0 ? `${count} (${humanDuration(now - last)} ago)` : String(count);
}

function gates(pod: KubeObject): string {
  const wanted = listAt(pod, "spec", "readinessGates");
  if (wanted.length === 0) return "<none>";
  const conditions = listAt(pod, "status", "conditions");
  const met = wanted.filter((gate) =>
    conditions.some((c) => own(c, "type") === own(gate, "conditionType") && own(c, "status") === "True"),
  );
  return `${met.length}/${wanted.length}`;
}

export const POD_COLUMNS: Column[] = [
  NAME,
  column("Ready", readyCount),
  column("Status", podStatus),
  column("Restarts", restarts),
  AGE,
  column("IP", (p) => orNone(textAt(p, "status", "podIPs", 0, "ip") || textAt(p, "status", "podIP")), {
    priority: 1,
  }),
  column("Node", (p) => orNone(textAt(p, "spec", "nodeName")), { priority: 1 }),
  column("Nominated Node", (p) => orNone(textAt(p, "status", "nominatedNodeName")), { priority: 1 }),
  column("Readiness Gates", gates, { priority: 1 }),
];
