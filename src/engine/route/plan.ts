// SPDX-License-Identifier: Apache-2.0
// Which routes to other nodes' pods this node must have, from the nodes and the kernel's facts. Pure.
import { familyOf } from "../../base/addr.ts";
import type { Fault } from "../../base/fault.ts";
import { formatPrefix, type Prefix, prefixContains, prefixFamily, prefixOf } from "../../base/prefix.ts";
import type { Link, NetworkFacts, RouteFact } from "./facts.ts";
import { faults } from "./faults.ts";
import type { NodeSpec, RouteSpec } from "./spec.ts";

/** One route to be: by a gateway, or unreachable for this node's own addresses that no pod has. */
export type RoutePlanEntry =
  | { readonly destination: Prefix; readonly gateway: string; readonly ifindex: number }
  | { readonly destination: Prefix; readonly unreachable: true };

export interface RoutePlan {
  /** By routeKey. */
  readonly routes: ReadonlyMap<string, RoutePlanEntry>;
  readonly faults: readonly Fault[];
}

/** Destination as text: what a route is found by. */
export function routeKey(route: { readonly destination: Prefix }): string {
  return formatPrefix(route.destination);
}

function linkTowards(links: readonly Link[], gateway: string): Link | undefined {
  let best: { link: Link; length: number } | undefined;
  for (const link of links) {
    if (!link.up || link.loopback) continue;
    for (const own of link.addresses) {
      if (own.scope !== "global" || own.address === gateway) continue;
      if (!prefixContains(prefixOf(own.address, own.length), gateway)) continue;
      if (best === undefined || own.length > best.length) best = { link, length: own.length };
    }
  }
  return best?.link;
}

function planNode(node: NodeSpec, facts: NetworkFacts, into: Map<string, RoutePlanEntry>): Fault[] {
  const found: Fault[] = [];
  for (const destination of node.podCidrs) {
    const gateways = node.internalAddresses.filter((a) => familyOf(a) === prefixFamily(destination));
    const text = formatPrefix(destination);
    if (gateways.length === 0) {
      found.push(faults.NODE_WITHOUT_ADDRESS({ node: node.name, cidr: text }));
      continue;
    }
    const reachable = gateways
      .map((gateway) => ({ gateway, link: linkTowards(facts.links, gateway) }))
      .find((way) => way.link !== undefined);
    if (reachable?.link === undefined) {
      found.push(faults.NODE_NOT_ON_LINK({ node: node.name, cidr: text, gateway: gateways[0] }));
      continue;
    }
    if (into.has(text)) {
      found.push(faults.POD_CIDR_TWICE({ node: node.name, cidr: text }));
      continue;
    }
    into.set(text, { destination, gateway: reachable.gateway, ifindex: reachable.link.ifindex });
  }
  return found;
}

/**
 * The routes of `spec` on a node with these `facts`. Nodes are taken in the order of their names, so that of two
 * nodes that claim one range always the same one gets it. A node that cannot be routed to is a fault, not an error.
 */
export function planRoutes(spec: RouteSpec, facts: NetworkFacts): RoutePlan {
  const routes = new Map<string, RoutePlanEntry>();
  const found: Fault[] = [];
  const inUse = (cidr: Prefix): boolean => (prefixFamily(cidr) === 4 ? spec.ipv4 : spec.ipv6);
  const nodes = spec.nodes
    .map((node) => ({ ...node, podCidrs: node.podCidrs.filter(inUse) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const node of nodes.filter((n) => n.name === spec.nodeName)) {
    for (const destination of node.podCidrs) {
      routes.set(formatPrefix(destination), { destination, unreachable: true });
    }
  }
  if (spec.autoDirectNodeRoutes) {
    for (const node of nodes) {
      if (node.name !== spec.nodeName) found.push(...planNode(node, facts, routes));
    }
  }
  return { routes, faults: found };
}

/** What must change in the kernel: routes to add or replace, and ours that are to go. */
export interface RouteChanges {
  readonly replace: readonly RoutePlanEntry[];
  readonly remove: readonly RouteFact[];
}

function sameRoute(have: RouteFact, want: RoutePlanEntry): boolean {
  if ("unreachable" in want) return have.unreachable;
  return !have.unreachable && have.gateway === want.gateway && have.ifindex === want.ifindex;
}

/** Compares the plan with what the kernel has of ours; routes of others are never touched. */
export function diffRoutes(
  plan: ReadonlyMap<string, RoutePlanEntry>,
  have: readonly RouteFact[],
): RouteChanges {
  const ours = have.filter((route) => route.ours);
  const matched = new Set<string>();
  const remove: RouteFact[] = [];
  for (const route of ours) {
    const want = plan.get(routeKey(route));
    if (want !== undefined && sameRoute(route, want)) matched.add(routeKey(route));
    else if (want === undefined || "unreachable" in want !== route.unreachable) remove.push(route);
  }
  const replace = [...plan].filter(([key]) => !matched.has(key)).map(([, entry]) => entry);
  return { replace, remove };
}
