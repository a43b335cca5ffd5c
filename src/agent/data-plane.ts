// SPDX-License-Identifier: Apache-2.0
// The data plane in the agent's hands: loaded with the configuration in force, its maps kept as planned, its programs on
// pods and native devices, its flow table swept. Closing it leaves everything attached.
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import type { EndpointPorts } from "../engine/endpoint/engine.ts";
import type { AdoptedFlow } from "../engine/masquerade/handover.ts";
import { nonmasqMap } from "../engine/masquerade/plan.ts";
import type { NativeDevice } from "../engine/route/devices.ts";
import { isErrno } from "../kernel/errno.ts";
import { type Datapath, openDatapath } from "../loader/datapath.ts";
import type { NodeConfig } from "../maps/gen/config.ts";
import { MAPS } from "../maps/gen/maps.ts";
import { DeviceFlag, RemoteFlag } from "../maps/gen/verdict.ts";
import { Reconciler, type ReconcileStatus } from "../maps/reconcile.ts";
import { permitResets } from "../maps/resets.ts";
import type { MapName, KeyOf as RowKeyOf, ValueOf as RowValueOf, Table, TableOf } from "../maps/table.ts";
import { prepareBpffs } from "./bpffs.ts";
import { faults } from "./faults.ts";
import { FlowTable } from "./flow-table.ts";
import { HeldFragments } from "./held-fragments.ts";
import type { TableSizes } from "./node-config.ts";
import type { Config } from "./options.ts";
import { OwnAddresses } from "./own-addresses.ts";
import type { AgentPlan } from "./plan.ts";
import type { MapFill, ReconcilerStatus } from "./status.ts";
import { firstSize } from "./table-size.ts";

export interface DataPlaneOptions {
  readonly objectPath: string;
  readonly bpfRoot: string;
  readonly config: NodeConfig;
  /** The most that the tables may have. */
  readonly sizes: TableSizes;
  readonly log: Log;
}

const KEPT = [
  "endpoints",
  "endpoint_addrs",
  "endpoint_ids",
  "devices",
  "nonmasq_cidrs",
  "ipcache",
  "node_addrs",
  "reserved_ports",
] as const;
type Kept = (typeof KEPT)[number];
type KeyOf<N extends Kept> = RowKeyOf<(typeof MAPS)[N]>;
type ValueOf<N extends Kept> = RowValueOf<(typeof MAPS)[N]>;
type Reconcilers = { readonly [N in Kept]: Reconciler<KeyOf<N>, ValueOf<N>> };

/** A reconciler's state as it is reported, with the first of its failures. */
export function reconcilerRow(status: ReconcileStatus): ReconcilerStatus {
  const { map, desired, realised, pending, errors, generation, failures } = status;
  return { map, desired, realised, pending, errors, generation, failures: failures.slice(0, 20) };
}

function deviceValue({ addr4, addr6, mtu, layer3, bySource, oneWay }: NativeDevice): ValueOf<"devices"> {
  const flags =
    (layer3 ? DeviceFlag.DEVICE_L3 : 0) |
    (bySource ? DeviceFlag.DEVICE_BY_SOURCE : 0) |
    (oneWay ? DeviceFlag.DEVICE_ONE_WAY : 0);
  return { addr4, addr6, mtu, flags };
}

/** One loaded data plane. Methods are synchronous unless they give a promise. */
export class DataPlane {
  readonly #datapath: Datapath;
  readonly #log: Log;
  readonly #bpfRoot: string;
  readonly #reconcilers: Reconcilers;
  /** Native devices that carry our programs, by index, with their names. */
  readonly #attached = new Map<number, string>();
  readonly #pods = new Set<number>();
  readonly #ownAddresses = new OwnAddresses();
  readonly #deviceFaults = new Map<number, Fault>();
  /** What each map was last asked to hold, as text: a map whose contents do not change is not read again. */
  readonly #asked = new Map<Kept, string>();
  /** Its size, its growth, its sweeps. */
  readonly flowTable: FlowTable;
  readonly fragments: HeldFragments;
  /** What packets are treated by; undefined until the first plan. */
  inForce: { readonly plan: AgentPlan; readonly config: Config } | undefined;
  #loaded: string;
  /** Loads; pinned maps are taken over with their entries. @throws the faults of the loader */
  constructor(options: DataPlaneOptions) {
    this.#log = options.log;
    this.#bpfRoot = options.bpfRoot;
    this.#datapath = openDatapath({
      objectPath: options.objectPath,
      bpfRoot: options.bpfRoot,
      config: options.config,
      sizes: { ...options.sizes, ...firstSize(options.sizes) },
    });
    this.#loaded = JSON.stringify(options.config);
    this.flowTable = new FlowTable({ datapath: this.#datapath, max: options.sizes, log: options.log });
    this.fragments = new HeldFragments({ datapath: this.#datapath, log: options.log });
    const keep = <N extends Kept>(name: N): Reconciler<KeyOf<N>, ValueOf<N>> =>
      new Reconciler(this.#datapath.table(name) as unknown as Table<KeyOf<N>, ValueOf<N>>);
    this.#reconcilers = {
      endpoints: keep("endpoints"),
      endpoint_addrs: keep("endpoint_addrs"),
      endpoint_ids: keep("endpoint_ids"),
      devices: keep("devices"),
      nonmasq_cidrs: keep("nonmasq_cidrs"),
      ipcache: keep("ipcache"),
      node_addrs: keep("node_addrs"),
      reserved_ports: keep("reserved_ports"),
    };
  }

  /** What the endpoint engine asks of the data plane. */
  get endpointPorts(): EndpointPorts {
    return {
      write: ({ endpoints, addresses, ids }) => {
        // Ids first: no sweep may take a flow of a new pod for one of nobody.
        this.#must("endpoint_ids", ids);
        // By address last and away first: a packet towards a pod must find its device.
        this.#must("endpoints", endpoints);
        this.#must("endpoint_addrs", addresses);
      },
      attach: (ifindex) => {
        this.#datapath.attachPod(ifindex);
        this.#pods.add(ifindex);
      },
      detach: (ifindex) => {
        this.#pods.delete(ifindex);
        this.#deviceFaults.delete(ifindex);
        this.#datapath.detachPod(ifindex);
      },
      sweep: () => this.flowTable.sweep(),
    };
  }

  /** Sets what a map must hold and insists on it. @throws Fault of the first entry that could not be written */
  #must<N extends "endpoints" | "endpoint_addrs" | "endpoint_ids">(
    name: N,
    desired: ReadonlyMap<unknown, unknown>,
  ): void {
    const reconciler = this.#reconcilers[name] as unknown as Reconciler<unknown, unknown>;
    const failure = reconciler.setDesired(desired).failures[0];
    if (failure !== undefined) throw faults.MAP_WRITE({ map: name, error: failure.error });
  }

  /**
   * Makes maps and native devices be as planned from these options, by which the programs have been loaded. What fails stays
   * pending and is shown by `status`.
   */
  apply(plan: AgentPlan, config: Config): void {
    this.inForce = { plan, config };
    // Exclusions, identities and ports before devices: a device that masquerades must know what it must not touch.
    this.#keep("nonmasq_cidrs", nonmasqMap(plan.nonmasq), ({ prefix, rule, source }) => [
      prefix,
      { rule, source },
    ]);
    this.#keep("ipcache", [...plan.ipcache.values()], ({ prefix, identity, node, remoteNode }) => [
      prefix,
      { identity, node, flags: remoteNode ? RemoteFlag.REMOTE_NODE : 0 },
    ]);
    const own = this.#ownAddresses.update(plan.own, performance.now());
    this.#keep("node_addrs", [...own.addresses], (entry) => entry);
    this.#keep("reserved_ports", [...plan.reservedPorts.entries()], ([word, bits]) => [word, bits]);
    this.#keep("devices", plan.devices, (device) => [device.ifindex, deviceValue(device)]);
    this.#attachDevices(plan.devices);
    // Flows under an address that the node has lost, since the last plan or while no agent ran, end.
    if (own.lost) void this.flowTable.sweep(true);
  }

  #keep<N extends Kept, T>(name: N, items: readonly T[], entry: (item: T) => [KeyOf<N>, ValueOf<N>]): void {
    const text = JSON.stringify(items, (_, value) => (typeof value === "bigint" ? value.toString() : value));
    if (this.#asked.get(name) === text) return;
    this.#asked.set(name, text);
    const reconciler = this.#reconcilers[name] as unknown as Reconciler<KeyOf<N>, ValueOf<N>>;
    const { failures } = reconciler.setDesired(new Map(items.map(entry)));
    if (failures.length > 0)
      this.#log.error({ map: name, failures: failures.slice(0, 5) }, "map entries not written");
  }

  #attachDevices(devices: readonly NativeDevice[]): void {
    const wanted = new Set(devices.map((device) => device.ifindex));
    for (const ifindex of new Set([...this.#attached.keys(), ...this.#datapath.linkedDevices()])) {
      if (wanted.has(ifindex)) continue;
      this.#attached.delete(ifindex);
      this.#deviceFaults.delete(ifindex);
      this.#try(ifindex, () => this.#datapath.detachDevice(ifindex));
      this.#deviceFaults.delete(ifindex);
    }
    for (const { ifindex, name } of devices) {
      // Another device may have taken over index and name.
      if (this.#attached.get(ifindex) === name && this.#datapath.deviceIsWhole(ifindex)) continue;
      if (this.#try(ifindex, () => this.#datapath.attachDevice(ifindex))) this.#attached.set(ifindex, name);
    }
  }

  /**
   * Puts our programs back where somebody has taken them off: on these devices, of those that must carry them, or on all.
   * Whoever did it finds out from the log.
   */
  putBack(ifindexes: ReadonlySet<number> | undefined): void {
    const lacking = (known: Iterable<number>, isWhole: (ifindex: number) => boolean): number[] =>
      [...known].filter((ifindex) => (ifindexes?.has(ifindex) ?? true) && !isWhole(ifindex));
    const put = (ifindex: number, attach: () => void): void => {
      try {
        attach();
        this.#deviceFaults.delete(ifindex);
        this.#log.warn({ ifindex }, "programs had been taken off a device; put back");
      } catch (thrown) {
        // A device that is gone is told by its own event.
        if (isErrno(thrown, "ENODEV")) return;
        const fault = Fault.from(thrown);
        this.#log.error({ error: fault.detail, ifindex }, "programs are off a device");
        this.#deviceFaults.set(ifindex, fault);
      }
    };
    for (const ifindex of lacking(this.#pods, (i) => this.#datapath.podIsWhole(i)))
      put(ifindex, () => this.#datapath.attachPod(ifindex));
    for (const ifindex of lacking(this.#attached.keys(), (i) => this.#datapath.deviceIsWhole(i)))
      put(ifindex, () => this.#datapath.attachDevice(ifindex));
  }

  #try(ifindex: number, action: () => void): boolean {
    try {
      action();
      this.#deviceFaults.delete(ifindex);
      return true;
    } catch (thrown) {
      const fault = Fault.from(thrown);
      this.#log.error({ error: fault.detail, ifindex }, "native device");
      this.#deviceFaults.set(ifindex, fault);
      return false;
    }
  }

  /**
   * Loads the program with another configuration, if it is another, and swaps it everywhere; maps and flows stay.
   * @throws the faults of the loader; then nothing has changed, and the next call tries again
   */
  reload(config: NodeConfig): void {
    // Without pins the load would make new maps, empty ones.
    this.restorePins();
    const text = JSON.stringify(config);
    if (text === this.#loaded) return;
    this.#datapath.reload(config);
    this.#loaded = text;
  }

  /** Pins again what somebody else has unpinned, or whose file system has been unmounted: nothing is lost by it. */
  restorePins(): void {
    prepareBpffs(this.#bpfRoot);
    const restored = this.#datapath.restorePins();
    if (restored.length > 0) this.#log.warn({ pins: restored }, "pins were gone; pinned again");
  }

  /** What the options ask of maps that cannot follow, in sentences. */
  sizeProblems(wanted: TableSizes): string[] {
    const datagrams = this.#datapath.maps.find(({ name }) => name === "frag_datagrams")?.maxEntries ?? 0;
    const kept = `frag_datagrams was made with room for ${datagrams} records and keeps it; the options ask for ${wanted.frag_datagrams}`;
    return [...(datagrams === wanted.frag_datagrams ? [] : [kept]), ...this.flowTable.problems()];
  }

  /** Writes flows that netfilter has translated into the flow table; gives how many it did not know yet. */
  adopt(flows: readonly AdoptedFlow[]): Promise<number> {
    return this.#datapath.adopt(flows);
  }

  /**
   * From now on pods may be told of connections that nobody knows, until programs are loaded again. For when a plan is in force and
   * netfilter's connections have been taken over.
   */
  permitResets(): void {
    using table = this.#datapath.table("resets");
    permitResets(table, true);
  }

  isAttached(ifindex: number): boolean {
    return this.#attached.has(ifindex) && !this.#deviceFaults.has(ifindex);
  }

  get attachMode(): "tcx" | "tc" {
    return this.#datapath.deviceMode;
  }

  get loadMs(): number {
    return this.#datapath.loadMs;
  }

  get faults(): readonly Fault[] {
    return [...this.#deviceFaults.values()];
  }

  table<N extends MapName>(name: N): TableOf<N> {
    return this.#datapath.table(name);
  }

  mapFd(name: MapName): number {
    return this.#datapath.map(name);
  }

  reconcilers(): ReconcilerStatus[] {
    return KEPT.map((name) => reconcilerRow(this.#reconcilers[name].status()));
  }

  /** Fill as it is known without reading the maps: what the agent wrote, and what the data plane counts. */
  fills(): MapFill[] {
    const flows = this.flowTable.report();
    const kept = new Map(this.reconcilers().map((r) => [r.map, r.realised]));
    return this.#datapath.maps
      .filter(({ name }) => (kept.has(name) && MAPS[name].typeName !== "array") || name === "flows")
      .map(({ name, maxEntries }) =>
        name === "flows"
          ? { name, type: "hash", entries: flows.records, maxEntries: flows.size }
          : { name, type: MAPS[name].typeName, entries: kept.get(name) ?? 0, maxEntries },
      );
  }

  /** Closes what this process holds; everything stays attached and pinned. */
  close(): void {
    this.flowTable.close();
    this.fragments.close();
    for (const name of KEPT) this.#reconcilers[name].close();
    this.#datapath.close();
  }
}
