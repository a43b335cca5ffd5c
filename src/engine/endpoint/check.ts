// SPDX-License-Identifier: Apache-2.0
// What of a pod's network is not as ADD made it, in sentences: for CNI CHECK. Changes that a later plugin of the chain
// may make (more addresses, more routes, other metrics) are none of our business.
import { type Address, familyOf } from "../../base/addr.ts";
import { Fault } from "../../base/fault.ts";
import { listAddresses } from "../../kernel/netlink/address.ts";
import { findLink } from "../../kernel/netlink/link.ts";
import { listNeighbours } from "../../kernel/netlink/neighbour.ts";
import { listRoutes, RouteTable } from "../../kernel/netlink/route.ts";
import { openRtNetlink, type RtNetlink } from "../../kernel/netlink/socket.ts";
import { type EndpointSpec, endpointAddresses, POD_GATEWAY } from "./spec.ts";
import type { Wiring } from "./wire.ts";

/** An endpoint as far as it was wired. */
type Wired = EndpointSpec & Wiring;

function familyProblems(spec: Wired, pod: RtNetlink, index: number, address: Address): string[] {
  const family = familyOf(address);
  const gateway = POD_GATEWAY[family];
  const problems: string[] = [];
  if (!listAddresses(pod, { device: index, family }).some((a) => a.address === address)) {
    problems.push(`${spec.ifName} has lost its address ${address}`);
  }
  const routes = listRoutes(pod, { family, table: RouteTable.main });
  const leads = routes.some((r) => r.destination.length === 0 && r.nextHops.some((h) => h.via === gateway));
  if (!leads) problems.push(`the pod has no default route via ${gateway}`);
  const neighbour = listNeighbours(pod, index).find((n) => n.address === gateway);
  if (neighbour?.mac !== spec.hostMac) {
    problems.push(`the pod's entry for gateway ${gateway} does not lead to the node`);
  }
  return problems;
}

function podProblems(spec: Wired): string[] {
  try {
    using pod = openRtNetlink(spec.netns);
    const link = findLink(pod, spec.ifName);
    if (link === undefined) return [`the pod has no interface ${spec.ifName}`];
    const problems: string[] = [];
    if (link.mac !== spec.mac) problems.push(`${spec.ifName} has MAC address ${link.mac}, not ${spec.mac}`);
    if (!link.up) problems.push(`${spec.ifName} is down in the pod`);
    return problems.concat(
      ...endpointAddresses(spec).map((address) => familyProblems(spec, pod, link.index, address)),
    );
  } catch (thrown) {
    return [`network namespace ${spec.netns}: ${Fault.from(thrown).detail}`];
  }
}

function nodeProblems(spec: Wired, netlink: RtNetlink, index: number): string[] {
  return endpointAddresses(spec)
    .filter((address) => {
      const routes = listRoutes(netlink, { family: familyOf(address), table: RouteTable.main });
      return !routes.some(
        (r) => r.destination.address === address && r.nextHops.some((h) => h.device === index),
      );
    })
    .map((address) => `the node has no route to ${address} by ${spec.device}`);
}

/** Everything that differs, the node's side first; empty if the pod is as it was made. */
export function wiringProblems(spec: Wired, netlink: RtNetlink): string[] {
  const host = findLink(netlink, spec.device);
  if (host === undefined) return [`device ${spec.device} is gone from the node`];
  const problems: string[] = [];
  if (host.index !== spec.ifindex) problems.push(`device ${spec.device} is another one than ADD made`);
  if (!host.up) problems.push(`device ${spec.device} is down`);
  return [...problems, ...nodeProblems(spec, netlink, host.index), ...podProblems(spec)];
}
