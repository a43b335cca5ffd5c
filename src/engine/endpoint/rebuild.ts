// SPDX-License-Identifier: Apache-2.0
// An endpoint put together again when its file is lost or cannot be read, so that a pod at work is never cut off: its
// addresses from who was given them, its id and MAC addresses from its entry in the kernel, its namespace by looking for it.
// Only the pod's name is not to be had.
import { NO_ADDRESS } from "../../base/addr.ts";
import { findLink, type Link } from "../../kernel/netlink/link.ts";
import { openRtNetlink } from "../../kernel/netlink/socket.ts";
import { listNetns, netnsPath } from "../../kernel/netns.ts";
import type { EndpointEntry } from "./plan.ts";
import type { Endpoint, EndpointSpec } from "./spec.ts";

/** Who was given which addresses. */
export type Claim = Pick<EndpointSpec, "containerId" | "ifName" | "network" | "ipv4" | "ipv6">;

/** Path of the namespace that has this device; "" if none of those with a name does. */
function findNetns(ifName: string, mac: string): string {
  const found = listNetns().find((name) => {
    try {
      using netlink = openRtNetlink(name);
      return findLink(netlink, ifName)?.mac === mac;
    } catch {
      // It goes away, or is no namespace.
      return false;
    }
  });
  return found === undefined ? "" : netnsPath(found);
}

/** The endpoint behind a device of the node; undefined if its entry in `endpoints` is not the claim's. */
export function rebuildEndpoint(claim: Claim, link: Link, entry: EndpointEntry): Endpoint | undefined {
  const { containerId, ifName, network, ipv4, ipv6 } = claim;
  const same = entry.addr4 === (ipv4 ?? NO_ADDRESS) && entry.addr6 === (ipv6 ?? NO_ADDRESS);
  if (!same || entry.hostMac !== link.mac) return undefined;
  return {
    containerId,
    ifName,
    network,
    ...(ipv4 === undefined ? {} : { ipv4 }),
    ...(ipv6 === undefined ? {} : { ipv6 }),
    netns: findNetns(ifName, entry.mac),
    podNamespace: "",
    podName: "",
    podUid: "",
    mtu: link.mtu,
    id: entry.id,
    device: link.name,
    ifindex: link.index,
    mac: entry.mac,
    hostMac: entry.hostMac,
    identity: entry.identity,
    createdAt: new Date().toISOString(),
  };
}
