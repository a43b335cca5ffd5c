// SPDX-License-Identifier: Apache-2.0
// The node's own network as it changes: links, addresses and routes of the agent's namespace, told at most every 50 ms.
// The agent's own pod devices come and go without being told: they decide nothing.
import type { Fault } from "../base/fault.ts";
import { Fault as FaultClass } from "../base/fault.ts";
import { isPodDevice } from "../engine/endpoint/plan.ts";
import type { NetworkFacts } from "../engine/route/facts.ts";
import { diffRoutes, type RoutePlanEntry } from "../engine/route/plan.ts";
import { applyRoutes, readNetworkFacts } from "../engine/route/read.ts";
import { type NetworkChange, type NetworkMonitor, watchNetwork } from "../kernel/netlink/monitor.ts";
import type { RtNetlink } from "../kernel/netlink/socket.ts";

const QUIET_MS = 50;

/** The network of this node. */
export class NodeNetwork {
  readonly #netlink: RtNetlink;
  readonly #onChange: () => void;
  readonly #monitor: NetworkMonitor;
  readonly #podIndexes = new Set<number>();
  #timer: NodeJS.Timeout | undefined;
  #facts: NetworkFacts = { links: [], routes: [] };
  #routeFaults: readonly Fault[] = [];

  constructor(netlink: RtNetlink, onChange: () => void) {
    this.#netlink = netlink;
    this.#onChange = onChange;
    // Opened before the first reading, so that nothing falls between.
    this.#monitor = watchNetwork(["link", "address", "route"]);
    void this.#follow();
  }

  get facts(): NetworkFacts {
    return this.#facts;
  }

  get faults(): readonly Fault[] {
    return this.#routeFaults;
  }

  /** The facts of now. */
  read(): NetworkFacts {
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
    this.#monitor.close();
  }

  #matters(change: NetworkChange): boolean {
    if (change.kind === "link") {
      if (!isPodDevice(change.link.name)) return true;
      if (change.gone) this.#podIndexes.delete(change.link.index);
      else this.#podIndexes.add(change.link.index);
      return false;
    }
    if (change.kind === "address") return !this.#podIndexes.has(change.address.device);
    if (change.kind === "route") {
      const { destination, nextHops } = change.route;
      return destination.length === 0 || !nextHops.some((hop) => this.#podIndexes.has(hop.device));
    }
    return change.kind === "lost";
  }

  async #follow(): Promise<void> {
    for await (const change of this.#monitor) {
      if (!this.#matters(change)) continue;
      this.#timer ??= setTimeout(() => {
        this.#timer = undefined;
        this.#onChange();
      }, QUIET_MS);
    }
  }
}
