// SPDX-License-Identifier: Apache-2.0
// CiliumEndpoint (cilium.io/v2): a pod's endpoint as other agents and people see it; named after the pod.
import type { Endpoint } from "../engine/endpoint/spec.ts";

const POD_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
const NAMESPACE = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** Path of the object, and the object; undefined for a container that is no pod of Kubernetes. */
export function encodeCiliumEndpoint(
  endpoint: Endpoint,
  context: { nodeAddress: string; labels: Readonly<Record<string, string>>; podUid: string },
): { path: string; collection: string; object: object } | undefined {
  const { podNamespace: namespace, podName: name } = endpoint;
  // Other names come from runtimes without Kubernetes; in a path ".." would lead to other objects.
  if (!POD_NAME.test(name) || !NAMESPACE.test(namespace)) return undefined;
  const collection = `/apis/cilium.io/v2/namespaces/${encodeURIComponent(namespace)}/ciliumendpoints`;
  const owner = { apiVersion: "v1", kind: "Pod", name, uid: context.podUid };
  const identityLabels = Object.entries(context.labels).map(([key, value]) => `k8s:${key}=${value}`);
  return {
    collection,
    path: `${collection}/${encodeURIComponent(name)}`,
    object: {
      apiVersion: "cilium.io/v2",
      kind: "CiliumEndpoint",
      metadata: {
        name,
        namespace,
        labels: context.labels,
        ...(context.podUid === "" ? {} : { ownerReferences: [owner] }),
      },
      status: {
        id: endpoint.id,
        state: "ready",
        "external-identifiers": {
          "container-id": endpoint.containerId,
          "cni-attachment-id": `${endpoint.containerId}:${endpoint.ifName}`,
          "k8s-namespace": namespace,
          "k8s-pod-name": name,
          "pod-name": `${namespace}/${name}`,
        },
        identity: { id: endpoint.identity, labels: identityLabels.sort() },
        networking: {
          addressing: [
            {
              ...(endpoint.ipv4 === undefined ? {} : { ipv4: endpoint.ipv4 }),
              ...(endpoint.ipv6 === undefined ? {} : { ipv6: endpoint.ipv6 }),
            },
          ],
          node: context.nodeAddress,
        },
      },
    },
  };
}
