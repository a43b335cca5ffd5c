// SPDX-License-Identifier: Apache-2.0
// A pod's network made and taken away through rtnetlink: a veth pair, addresses of one, two gateways that exist on no
// wire, permanent neighbours both ways (nobody asks, so nobody can be answered wrongly), and the node's route to the
// pod. Everything is synchronous, 1 ms together; no program is started.
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { familyOf } from "../../base/addr.ts";
import { Fault } from "../../base/fault.ts";
import { parsePrefix, prefixOf } from "../../base/prefix.ts";
import { isErrno } from "../../kernel/errno.ts";
import { addAddress } from "../../kernel/netlink/address.ts";
import type { Request } from "../../kernel/netlink/codec.ts";
import { addVeth, deleteLink, findLink, getLink, setLink } from "../../kernel/netlink/link.ts";
import { setNeighbour } from "../../kernel/netlink/neighbour.ts";
import {
  listRoutes,
  RouteProtocol,
  RouteTable,
  RouteType,
  replaceRoute,
} from "../../kernel/netlink/route.ts";
import { openRtNetlink, type RtNetlink } from "../../kernel/netlink/socket.ts";
import { type Netns, openNetns, withNetns } from "../../kernel/netns.ts";
import { faults } from "./faults.ts";
import { hostDeviceName, macFrom } from "./plan.ts";
import { type EndpointSpec, endpointAddresses, POD_GATEWAY } from "./spec.ts";

/** What wiring found out. */
export interface Wiring {
  readonly device: string;
  readonly ifindex: number;
  readonly mac: string;
  readonly hostMac: string;
}

function sysctl(key: string, value: string): void {
  try {
    writeFileSync(`/proc/sys/net/${key}`, value);
  } catch {
    // A kernel without IPv6 has no such file, and a container may see /proc/sys read-only: the wiring that needs it
    // fails by itself then, with the kernel's words.
  }
}

function openPod(netns: string): Netns {
  let opened: Netns | undefined;
  try {
    opened = openNetns(netns);
    // A path may lead to anything: entering tells.
    withNetns(opened, () => undefined);
    return opened;
  } catch (thrown) {
    opened?.[Symbol.dispose]();
    throw faults.ENDPOINT_NETNS({ netns, why: Fault.from(thrown).detail }, thrown);
  }
}

/** Added to the device's index: the priority of routes by a further interface; 1024 is what IPv6 routes have unasked. */
const FURTHER_PRIORITY = 2000;

/** What is for this address is for the pod. */
function localRoute(index: number, address: string): Request {
  const { local: table } = RouteTable;
  const { static: protocol } = RouteProtocol;
  return replaceRoute({
    destination: prefixOf(address, 128),
    device: index,
    table,
    type: RouteType.local,
    protocol,
  });
}

/** Inside the pod, for one family: the address, the way to the gateway, the default route, the gateway's MAC. */
function podFamily(netlink: RtNetlink, index: number, address: string, hostMac: string): Request[] {
  const family = familyOf(address);
  const gateway = POD_GATEWAY[family];
  const bits = family === 4 ? 32 : 128;
  const any = parsePrefix(family === 4 ? "0.0.0.0/0" : "::/0");
  // A further interface of the same pod must not take the default route away from the first.
  const taken = listRoutes(netlink, { family }).some((route) => route.destination.length === 0);
  const shared = {
    device: index,
    protocol: RouteProtocol.static,
    ...(taken ? { priority: FURTHER_PRIORITY + index } : {}),
  };
  return [
    addAddress({ device: index, address, noPrefixRoute: true }),
    // The kernel makes an IPv6 address's own in a work queue, up to 70 ms later (measured); without one the pod drops what comes.
    ...(family === 4 ? [] : [localRoute(index, address)]),
    replaceRoute({ destination: prefixOf(gateway, bits), ...shared }),
    replaceRoute({ destination: any, via: gateway, onLink: true, ...shared }),
    setNeighbour({ device: index, address: gateway, mac: hostMac }),
  ];
}

function wirePod(spec: EndpointSpec, pod: Netns, hostMac: string): void {
  withNetns(pod, () => {
    // Container runtimes switch IPv6 off in namespaces that they make.
    if (spec.ipv6 !== undefined) sysctl(`ipv6/conf/${spec.ifName}/disable_ipv6`, "0");
    sysctl(`ipv6/conf/${spec.ifName}/accept_ra`, "0");
    sysctl(`ipv6/conf/${spec.ifName}/accept_dad`, "0");
  });
  using netlink = openRtNetlink(pod);
  const { index } = getLink(netlink, spec.ifName);
  netlink.apply(
    setLink("lo", { up: true }),
    setLink(index, { up: true }),
    ...endpointAddresses(spec).flatMap((address) => podFamily(netlink, index, address, hostMac)),
  );
}

function wireNode(spec: EndpointSpec, netlink: RtNetlink, wiring: Wiring): void {
  const { device, ifindex, mac } = wiring;
  // The pod's packets come in where the route back does not point while an address moves between devices.
  sysctl(`ipv4/conf/${device}/rp_filter`, "0");
  sysctl(`ipv4/conf/${device}/forwarding`, "1");
  sysctl(`ipv6/conf/${device}/accept_ra`, "0");
  const requests: Request[] = [];
  const reach = (address: string, bits: number): void => {
    requests.push(
      replaceRoute({ destination: prefixOf(address, bits), device: ifindex }),
      setNeighbour({ device: ifindex, address, mac }),
    );
  };
  if (spec.ipv4 !== undefined) reach(spec.ipv4, 32);
  if (spec.ipv6 !== undefined) reach(spec.ipv6, 128);
  netlink.apply(...requests);
}

/**
 * Makes the pod's network. A device of the same name that a crash left behind is taken away first.
 * @throws Fault ENDPOINT_NETNS, ENDPOINT_WIRING; nothing is left behind
 */
export function wire(spec: EndpointSpec, netlink: RtNetlink): Wiring {
  using pod = openPod(spec.netns);
  const device = hostDeviceName(spec.containerId, spec.ifName);
  const mac = macFrom(randomBytes(6));
  const hostMac = macFrom(randomBytes(6));
  if (findLink(netlink, device)) netlink.attempt(deleteLink(device));
  try {
    netlink.apply(
      addVeth(
        { name: device, mac: hostMac, mtu: spec.mtu, up: true },
        { name: spec.ifName, mac, mtu: spec.mtu, netns: pod },
      ),
    );
    const wiring = { device, ifindex: getLink(netlink, device).index, mac, hostMac };
    wirePod(spec, pod, hostMac);
    wireNode(spec, netlink, wiring);
    return wiring;
  } catch (thrown) {
    netlink.attempt(deleteLink(device));
    const name = spec.podName === "" ? spec.containerId : `${spec.podNamespace}/${spec.podName}`;
    throw faults.ENDPOINT_WIRING({ pod: name, why: Fault.from(thrown).detail }, thrown);
  }
}

/**
 * As `unwire`, while this thread goes on: the kernel waits 15-40 ms until nobody uses the pair any more. `open` gives a
 * socket that is used for nothing else.
 */
export async function unwireLater(device: string, open: () => RtNetlink): Promise<void> {
  using netlink = open();
  // Nothing is asked before: a question would wait here for the kernel's lock, which another removal may hold.
  const outcome = await netlink.attemptLater(deleteLink(device));
  if (outcome !== undefined && !isErrno(outcome, "ENODEV")) throw outcome;
}

/** Takes the pair away, and with it routes and neighbours. That it is gone already is no error. */
export function unwire(device: string, netlink: RtNetlink): void {
  if (!findLink(netlink, device)) return;
  const [outcome] = netlink.attempt(deleteLink(device));
  if (outcome !== undefined && findLink(netlink, device)) throw outcome;
}
