// SPDX-License-Identifier: Apache-2.0
// Connections of pods that netfilter tracks: those that it masquerades, for the flow table, where they keep address and port
// when the programs take over from iptables; and those of a pod that has gone, which are to be forgotten.
import { type Endpoint, endpointAddresses } from "../engine/endpoint/spec.ts";
import { type AdoptedFlow, adoptedFlow } from "../engine/masquerade/handover.ts";
import { deleteConnections, listConnections } from "../kernel/netlink/conntrack.ts";
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

/** Forgets what a pod opened and what was opened to it, so that its address's next owner hears nothing of it. */
export function forgetConnections(pod: Endpoint): void {
  const addresses = endpointAddresses(pod);
  using netlink = openNetfilterNetlink();
  deleteConnections(
    netlink,
    listConnections(netlink).filter(
      ({ original, reply }) => addresses.includes(original.source) || addresses.includes(reply.source),
    ),
  );
}
