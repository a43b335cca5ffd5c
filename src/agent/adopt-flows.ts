// SPDX-License-Identifier: Apache-2.0
// Established connections of pods that netfilter masquerades now, for the flow table: when the programs take over from
// iptables they keep address and port.
import { type Endpoint, endpointAddresses } from "../engine/endpoint/spec.ts";
import { type AdoptedFlow, adoptedFlow } from "../engine/masquerade/handover.ts";
import { listConnections } from "../kernel/netlink/conntrack.ts";
import { openNetfilterNetlink } from "../kernel/netlink/socket.ts";

/** @throws Fault KERNEL_REFUSED, KERNEL_BUSY */
export function netfilterFlows(pods: readonly Endpoint[]): AdoptedFlow[] {
  const owners = new Map(pods.flatMap((pod) => endpointAddresses(pod).map((address) => [address, pod])));
  using netlink = openNetfilterNetlink();
  return listConnections(netlink).flatMap((connection) => {
    const owner = owners.get(connection.original.source);
    const flow = owner && adoptedFlow(connection, owner);
    return flow === undefined ? [] : [flow];
  });
}
