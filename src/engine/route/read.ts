// SPDX-License-Identifier: Apache-2.0
// The kernel's network facts over rtnetlink: links with their addresses, and the routes of the main table that matter
// (default routes and ours), so that a node with a full routing table of others costs no memory.
import type { Fault } from "../../base/fault.ts";
import { type DeviceAddress, listAddresses, Scope } from "../../kernel/netlink/address.ts";
import { listLinks, type Link as NetlinkLink } from "../../kernel/netlink/link.ts";
import {
  deleteRoute,
  listRoutes,
  type Route,
  RouteProtocol,
  RouteType,
  replaceRoute,
} from "../../kernel/netlink/route.ts";
import type { RtNetlink } from "../../kernel/netlink/socket.ts";
import type { Link, LinkAddress, NetworkFacts, RouteFact } from "./facts.ts";
import type { RouteChanges } from "./plan.ts";

const SCOPES: Record<number, LinkAddress["scope"]> = {
  [Scope.global]: "global",
  [Scope.site]: "site",
  [Scope.link]: "link",
  [Scope.host]: "host",
};

function linkFact(link: NetlinkLink, addresses: readonly DeviceAddress[]): Link {
  return {
    ifindex: link.index,
    name: link.name,
    mac: link.mac ?? "",
    mtu: link.mtu,
    up: link.up,
    loopback: link.loopback,
    layer3: link.mac === undefined && !link.loopback,
    master: link.master,
    addresses: addresses
      .filter((a) => a.device === link.index && !a.tentative)
      .map((a) => ({
        address: a.address,
        length: a.prefixLength,
        scope: SCOPES[a.scope] ?? "host",
        secondary: a.secondary || a.deprecated,
      })),
  };
}

function routeFact(route: Route): RouteFact | undefined {
  const hop = route.nextHops[0];
  const unreachable = route.type === RouteType.unreachable;
  const ours = route.protocol === RouteProtocol.hookline && (unreachable || hop?.via !== undefined);
  if (!ours && route.destination.length > 0) return undefined;
  if (route.destination.length === 0 && (route.type !== RouteType.unicast || hop === undefined))
    return undefined;
  return {
    destination: route.destination,
    ...(hop?.via === undefined ? {} : { gateway: hop.via }),
    ifindex: hop?.device ?? 0,
    ours,
    unreachable,
  };
}

/** The facts of the namespace that the socket was opened in. */
export function readNetworkFacts(netlink: RtNetlink): NetworkFacts {
  const addresses = listAddresses(netlink);
  return {
    links: listLinks(netlink).map((link) => linkFact(link, addresses)),
    routes: listRoutes(netlink)
      .map(routeFact)
      .filter((route) => route !== undefined),
  };
}

/** Writes the changes, new routes before old ones go. Gives what the kernel refused. */
export function applyRoutes(netlink: RtNetlink, changes: RouteChanges): Error[] {
  const requests = [
    ...changes.replace.map((entry) =>
      "unreachable" in entry
        ? replaceRoute({
            destination: entry.destination,
            type: RouteType.unreachable,
            priority: UNREACHABLE_PRIORITY,
          })
        : replaceRoute({ destination: entry.destination, via: entry.gateway, device: entry.ifindex }),
    ),
    ...changes.remove.map((route) =>
      deleteRoute(
        route.unreachable
          ? { destination: route.destination, type: RouteType.unreachable }
          : {
              destination: route.destination,
              ...(route.gateway ? { via: route.gateway } : {}),
              device: route.ifindex,
            },
      ),
    ),
  ];
  return netlink.attempt(...requests).filter((outcome): outcome is Fault => outcome !== undefined);
}

/** Below every other route to the range, such as one of a bridge that holds it. */
const UNREACHABLE_PRIORITY = 4_294_967_295;
