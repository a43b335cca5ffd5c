// SPDX-License-Identifier: Apache-2.0
// The node's own network as it changes: links, addresses, routes and rules of the agent's namespace, and filters that
// somebody takes off devices, told at most every 50 ms. The agent's own pod devices come and go without being told: they
// decide nothing.
import type { Fault } from "../base/fault.ts";
import { Fault as FaultClass } from "../base/fault.ts";
import type { Prefix } from "../base/prefix.ts";
import { isPodDevice } from "../engine/endpoint/plan.ts";
import type { NetworkFacts } from "../engine/route/facts.ts";
import { diffRoutes, type RoutePlanEntry } from "../engine/route/plan.ts";
import { applyRoutes, hashesPorts, readNetworkFacts } from "../engine/route/read.ts";
import { type NetworkChange, type NetworkMonitor, watchNetwork } from "../kernel/netlink/monitor.ts";
import { RouteProtocol } from "../kernel/netlink/route.ts";
import type { RtNetlink } from "../kernel/netlink/socket.ts";

const QUIET_MS = 50;
/** For the setting of which the kernel tells nobody (hashesPorts). */
const POLL_MS = 500;

const samePrefix = (a: Prefix, b: Prefix): boolean => a.length === b.length && a.address === b.address;

/** What is told of the network. */
export interface NetworkEvents {
  /** Links, addresses, routes or rules have changed. */
  changed(): void;
  /** Filters were taken off these devices; undefined: off any, for changes were lost. */
  stripped(ifindexes: ReadonlySet<number> | undefined): void;
}

/** The network of this node. */
export class NodeNetwork {
  readonly #netlink: RtNetlink;
  readonly #events: NetworkEvents;
  readonly #monitor: NetworkMonitor;
  readonly #podIndexes = new Set<number>();
  readonly #stripped = new Set<number>();
  #timer: NodeJS.Timeout | undefined;
  #changed = false;
  #lost = false;
  #facts: NetworkFacts = { links: [], routes: [], rulesBySource: false, routesBySourcePort: true };
  #hashesPorts = false;
  readonly #poll: NodeJS.Timeout;
  #routeFaults: readonly Fault[] = [];

  constructor(netlink: RtNetlink, events: NetworkEvents) {
    this.#netlink = netlink;
    this.#events = events;
    // Opened before the first reading, so that nothing falls between.
    this.#monitor = watchNetwork(["link", "address", "route", "rule", "filter"]);
    void this.#follow();
    this.#poll = setInterval(() => {
      if (hashesPorts() !== this.#hashesPorts) this.#events.changed();
    }, POLL_MS);
  }

  get facts(): NetworkFacts {
    return this.#facts;
  }

  get faults(): readonly Fault[] {
    return this.#routeFaults;
  }

  /** The facts of now. */
  read(): NetworkFacts {
    this.#hashesPorts = hashesPorts();
    this.#facts = readNetworkFacts(this.#netlink);
    return this.#facts;
  }

  /** Makes the routes to other nodes' pods be as planned. */
  applyRoutes(plan: ReadonlyMap<string, RoutePlanEntry>): void {
    const changes = diffRoutes(plan, this.#facts.routes);
    const refused =
      changes.replace.length + changes.remove.length > 0 ? applyRoutes(this.#netlink, changes) : [];
    this.#routeFaults = refused.map((error) => FaultClass.from(error));
  }

  deviceName(ifindex: number): string {
    return this.#facts.links.find((link) => link.ifindex === ifindex)?.name ?? "";
  }

  close(): void {
    clearTimeout(this.#timer);
    clearInterval(this.#poll);
    this.#monitor.close();
  }

  /** Whether the change may decide anything. */
  #matters(change: NetworkChange): boolean {
    if (change.kind === "link") {
      if (!isPodDevice(change.link.name)) return true;
      if (change.gone) this.#podIndexes.delete(change.link.index);
      else this.#podIndexes.add(change.link.index);
      return false;
    }
    if (change.kind === "address") return !this.#podIndexes.has(change.address.device);
    if (change.kind === "route") {
      // Not each of a routing daemon's many: nobody reads them.
      const { destination, protocol, source } = change.route;
      if (destination.length === 0 || protocol === RouteProtocol.hookline || source !== undefined)
        return true;
      // One that had a source may have been replaced by one without.
      return this.#facts.sourceRoutes?.some((route) => samePrefix(route.destination, destination)) ?? false;
    }
    return change.kind === "rule";
  }

  #note(change: NetworkChange): boolean {
    if (change.kind === "lost") {
      this.#lost = true;
      this.#changed = true;
    } else if (change.kind === "filter") {
      this.#stripped.add(change.device);
    } else if (this.#matters(change)) {
      this.#changed = true;
    } else {
      return false;
    }
    return true;
  }

  #tell(): void {
    const stripped = this.#lost ? undefined : new Set(this.#stripped);
    const changed = this.#changed;
    this.#lost = false;
    this.#changed = false;
    this.#stripped.clear();
    if (changed) this.#events.changed();
    if (stripped === undefined || stripped.size > 0) this.#events.stripped(stripped);
  }

  async #follow(): Promise<void> {
    for await (const change of this.#monitor) {
      if (!this.#note(change)) continue;
      this.#timer ??= setTimeout(() => {
        this.#timer = undefined;
        this.#tell();
      }, QUIET_MS);
    }
  }
}
