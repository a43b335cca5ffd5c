// SPDX-License-Identifier: Apache-2.0
// The lab's requests about Pods to its own API server: follow them all, bind, write status, finish a deletion.
import type { Log } from "../base/log.ts";
import { type KubeClient, statusOf } from "../source/client.ts";
import { Watcher } from "../source/watch.ts";
import type { PodApi } from "./pod-runner.ts";
import { type PodSpec, podSpec } from "./pod-status.ts";

function pathOf(pod: PodSpec): string {
  return `/api/v1/namespaces/${pod.namespace}/pods/${pod.name}`;
}

/** A Pod that has been deleted or replaced meanwhile needs nothing more. */
async function unlessGone(request: Promise<unknown>): Promise<void> {
  try {
    await request;
  } catch (thrown) {
    const status = statusOf(thrown);
    if (status !== 404 && status !== 409) throw thrown;
  }
}

export function podApi(client: KubeClient): PodApi {
  return {
    bind: (pod, node) => {
      const target = { apiVersion: "v1", kind: "Node", name: node };
      const binding = { apiVersion: "v1", kind: "Binding", metadata: { name: pod.name }, target };
      return unlessGone(client.create(`${pathOf(pod)}/binding`, binding));
    },
    writeStatus: (pod, status) =>
      unlessGone(client.merge(`${pathOf(pod)}/status`, { metadata: { uid: pod.uid }, status })),
    finish: (pod) => client.delete(`${pathOf(pod)}?gracePeriodSeconds=0`),
  };
}

/** Calls `sync` with all Pods after each change, until the watcher is stopped. */
export function followPods(
  client: KubeClient,
  sync: (pods: ReadonlyMap<string, PodSpec>) => void,
  log: Log,
): Watcher<PodSpec> {
  const watcher = new Watcher(
    client,
    { name: "pods", path: "/api/v1/pods", decode: podSpec as never, onChange: sync },
    log,
  );
  watcher.run();
  return watcher;
}
