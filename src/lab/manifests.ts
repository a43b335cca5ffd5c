// SPDX-License-Identifier: Apache-2.0
// The Kubernetes objects of a lab, from its plan: what its API server starts with. One file name per group, so that a
// user finds them in the lab's manifests folder and can edit them while the lab runs.
import { stringify } from "yaml";
import { type LabPlan, NON_MASQUERADE_CIDRS, type NodePlan, type PodPlan } from "./plan.ts";

type Manifest = Record<string, unknown>;

function nodeManifest(node: NodePlan): Manifest {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      name: node.name,
      labels: { "kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux" },
    },
    spec: { podCIDR: node.podCidrs[0], podCIDRs: [...node.podCidrs] },
    status: {
      addresses: [
        { type: "InternalIP", address: node.ipv4 },
        { type: "InternalIP", address: node.ipv6 },
        { type: "Hostname", address: node.name },
      ],
    },
  };
}

function podManifest(pod: PodPlan): Manifest {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: pod.name,
      namespace: "default",
      labels: { app: "web", "hookline.dev/lab-node": pod.node },
    },
    spec: { nodeName: pod.node, containers: [{ name: "web", image: "lab/web" }] },
  };
}

function configMap(name: string, data: Record<string, string>): Manifest {
  return { apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace: "kube-system" }, data };
}

/** File name to the objects in it. */
export function labManifests(plan: LabPlan): Record<string, Manifest[]> {
  return {
    "cilium-config.yaml": [configMap("cilium-config", plan.config)],
    "ip-masq-agent.yaml": [
      configMap("ip-masq-agent", {
        config: stringify({ nonMasqueradeCIDRs: [...NON_MASQUERADE_CIDRS], masqLinkLocal: false }),
      }),
    ],
    "nodes.yaml": plan.nodes.map(nodeManifest),
    "pods.yaml": plan.pods.map(podManifest),
  };
}

/** One YAML text of several documents. */
export function manifestText(objects: Manifest[]): string {
  return objects.map((object) => `---\n${stringify(object)}`).join("");
}
