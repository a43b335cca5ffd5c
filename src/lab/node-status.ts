// SPDX-License-Identifier: Apache-2.0
// What a kubelet says of its node: ready while the node's agent answers, and what the machine is.
import { readFileSync } from "node:fs";
import { arch, release } from "node:os";
import type { KubeClient } from "../source/client.ts";

function osName(): string {
  try {
    return /^PRETTY_NAME="?([^"\n]+)/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "Linux";
  } catch {
    return "Linux";
  }
}

/** Status of a Node, without its addresses, which its manifest holds. Pure but for what machine this is. */
export function nodeStatus(ready: boolean): Record<string, unknown> {
  const time = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  return {
    conditions: [
      {
        type: "Ready",
        status: ready ? "True" : "False",
        reason: ready ? "AgentReady" : "AgentNotReady",
        message: ready ? "the agent answers" : "the agent does not answer",
        lastHeartbeatTime: time,
        lastTransitionTime: time,
      },
    ],
    nodeInfo: {
      architecture: arch() === "x64" ? "amd64" : arch(),
      operatingSystem: "linux",
      osImage: osName(),
      kernelVersion: release(),
      containerRuntimeVersion: "lab://1",
      kubeletVersion: "lab",
      kubeProxyVersion: "",
      machineID: "",
      systemUUID: "",
      bootID: "",
    },
  };
}

/** @throws Fault API_STATUS, API_UNREACHABLE */
export async function writeNodeStatus(client: KubeClient, node: string, ready: boolean): Promise<void> {
  await client.merge(`/api/v1/nodes/${node}/status`, { status: nodeStatus(ready) });
}
