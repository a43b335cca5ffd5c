// SPDX-License-Identifier: Apache-2.0
// What addresses, devices and source lines of events are called, from what the agent knows at the moment.
import { formatSourceLine, type SourceTable } from "../engine/masquerade/plan.ts";
import type { Names } from "../observe/enrich.ts";
import type { Cluster } from "./cluster.ts";
import type { NodeNetwork } from "./network.ts";
import type { Pods } from "./pods.ts";

/** Names for events: `default/web`, `node/b`; "" for what has none. */
export function namesOf(agent: {
  readonly pods: Pods;
  readonly cluster: Cluster;
  readonly network: NodeNetwork;
  readonly sources: SourceTable;
}): Names {
  const { pods, cluster, network, sources } = agent;
  return {
    ofAddress: (address) => {
      const pod = pods.nameOf(address);
      if (pod !== "") return pod;
      const node = cluster.view.nodes.find(
        (n) => n.internalAddresses.includes(address) || n.otherAddresses.includes(address),
      );
      return node === undefined ? "" : `node/${node.name}`;
    },
    ofDevice: (ifindex) => pods.deviceName(ifindex) || network.deviceName(ifindex),
    ofSource: (index) => {
      const line = sources.line(index);
      return line === undefined ? "" : formatSourceLine(line);
    },
  };
}
