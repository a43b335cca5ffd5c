// SPDX-License-Identifier: Apache-2.0
// Established connections that netfilter has masqueraded, written into the flow table when the programs take over from
// iptables: they keep address and port. The index entry comes first and claims the port, as in the packet path.
import type { Endpoint } from "../engine/endpoint/spec.ts";
import { endpointAddresses } from "../engine/endpoint/spec.ts";
import { type FlowEntries, type FlowTimeouts, flowEntries } from "../engine/masquerade/handover.ts";
import { UpdateFlag } from "../kernel/bpf-map.ts";
import { isErrno } from "../kernel/errno.ts";
import { listConnections } from "../kernel/netlink/conntrack.ts";
import { openNetfilterNetlink } from "../kernel/netlink/socket.ts";
import { openInner } from "../maps/table.ts";
import { nowTicks } from "../maps/ticks.ts";

/** Connections of these pods that netfilter translates now. @throws Fault KERNEL_REFUSED, KERNEL_BUSY */
function translatedFlows(pods: readonly Endpoint[], timeouts: FlowTimeouts): FlowEntries[] {
  const owners = new Map(pods.flatMap((pod) => endpointAddresses(pod).map((address) => [address, pod])));
  const now = nowTicks();
  using netlink = openNetfilterNetlink();
  return listConnections(netlink).flatMap((connection) => {
    const owner = owners.get(connection.original.source);
    const entries = owner && flowEntries(connection, owner, { now, timeouts });
    return entries === undefined ? [] : [entries];
  });
}

/** Makes an entry; false if there is one under the key already. */
function claim(write: () => void): boolean {
  try {
    write();
    return true;
  } catch (thrown) {
    if (isErrno(thrown, "EEXIST")) return false;
    throw thrown;
  }
}

/**
 * Writes records for the connections of these pods; those that the table knows already stay as they are. Gives how many
 * were written.
 * @throws Fault KERNEL_REFUSED, KERNEL_BUSY, also if the table is full
 */
export function adoptFlows(bpfRoot: string, pods: readonly Endpoint[], timeouts: FlowTimeouts): number {
  const found = translatedFlows(pods, timeouts);
  const flows = openInner(bpfRoot, "flows");
  const replies = openInner(bpfRoot, "replies");
  try {
    const [table, index] = [flows[0], replies[0]];
    if (table === undefined || index === undefined) return 0;
    return found.filter(({ key, flow, replyKey, reply }) => {
      if (!claim(() => index.set(replyKey, reply, UpdateFlag.noExist))) return false;
      if (claim(() => table.set(key, flow, UpdateFlag.noExist))) return true;
      index.delete(replyKey);
      return false;
    }).length;
  } finally {
    for (const opened of [...flows, ...replies]) opened.close();
  }
}
