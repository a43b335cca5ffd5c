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
import { listRules } from "../../kernel/netlink/rule.ts";
import type { RtNetlink } from "../../kernel/netlink/socket.ts";
import { readSysctl } from "../../kernel/sysctl.ts";
import type { Link, LinkAddress, NetworkFacts, RouteFact } from "./facts.ts";
import type { RouteChanges } from "./plan.ts";

const SCOPES: Record<number, LinkAddress["scope"]> = {
  [Scope.global]: "global",
  [Scope.site]: "site",
  [Scope.link]: "link",
  [Scope.host]: "host",
};

function linkFact(link: NetlinkLink, addresses: readonly DeviceAddress[]): Link {
  const own = addresses.filter((a) => a.device === link.index);
  return {
    ifindex: link.index,
    name: link.name,
    mac: link.mac ?? "",
    mtu: link.mtu,
    up: link.up,
    loopback: link.loopback,
    layer3: link.mac === undefined && !link.loopback,
    master: link.master,
    tentative: own.filter((a) => a.tentative).map((a) => a.address),
    addresses: own
      .filter((a) => !a.tentative)
      .map((a) => ({
        address: a.address,
        length: a.prefixLength,
        scope: SCOPES[a.scope] ?? "host",
        secondary: a.secondary || a.deprecated,
      })),
  };
}

/** One fact per next hop of a default route, one for a route of ours, none for any other. */
function routeFacts({ destination, type, protocol, nextHops }: Route): RouteFact[] {
  const unreachable = type === RouteType.unreachable;
  const ours = protocol === RouteProtocol.hookline && (unreachable || nextHops[0]?.via !== undefined);
  const byDefault = destination.length === 0 && type === RouteType.unicast;
  if (!ours && !byDefault) return [];
  if (unreachable) return [{ destination, ifindex: 0, ours, unreachable }];
  return nextHops.map(({ device, via }) => ({
    destination,
    ...(via === undefined ? {} : { gateway: via }),
    ifindex: device,
    ours,
    unreachable,
  }));
}

/**
 * Whether the kernel chooses among several next hops by ports (fib_multipath_hash_policy; 0: by addresses). The kernel tells
 * nobody when that changes. Of the calling thread's namespace.
 */
export function hashesPorts(): boolean {
  return ["ipv4", "ipv6"].some((family) => {
    try {
      return readSysctl(`net.${family}.fib_multipath_hash_policy`) !== "0";
    } catch {
      // A kernel without multipath routes, or without the family.
      return false;
    }
  });
}

/** The facts of the namespace that the socket was opened in, which is the calling thread's. */
export function readNetworkFacts(netlink: RtNetlink): NetworkFacts {
  const addresses = listAddresses(netlink);
  const routes = listRoutes(netlink);
  const rules = listRules(netlink);
  return {
    links: listLinks(netlink).map((link) => linkFact(link, addresses)),
    routes: routes.flatMap(routeFacts),
    rulesBySource: rules.some((rule) => rule.bySource || rule.inDevice !== undefined),
    routesBySourcePort: hashesPorts() || rules.some((rule) => rule.bySourcePort),
    sourceRoutes: routes.flatMap(({ destination, source, nextHops }) =>
      source === undefined ? [] : nextHops.map(({ device }) => ({ destination, ifindex: device, source })),
    ),
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
