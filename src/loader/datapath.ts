// SPDX-License-Identifier: Apache-2.0
// The data plane as the agent holds it: loaded once per node, attached per device, swapped in one write when the
// configuration changes. Closing it leaves everything attached and pinned: the kernel carries on alone.
import { existsSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { SerialQueue } from "../base/async.ts";
import { type ProgInfo, progInfo, progTestRun } from "../kernel/bpf.ts";
import { progTestRunAside } from "../kernel/bpf-aside.ts";
import { BpfMap } from "../kernel/bpf-map.ts";
import { duplicate } from "../kernel/ffi.ts";
import type { NodeConfig } from "../maps/gen/config.ts";
import { MAPS } from "../maps/gen/maps.ts";
import { type Adoption, adoptionCodec, type SweepResult, sweepResultCodec } from "../maps/gen/types.ts";
import { SweepMode } from "../maps/gen/verdict.ts";
import { makePinFolders, mapPin, pinMap, pinProgram, programPin } from "../maps/pins.ts";
import { type MapName, type Row, Table, type TableOf } from "../maps/table.ts";
import {
  Attacher,
  type AttacherOptions,
  type Attachment,
  DEVICE_HOOKS,
  type DeviceMode,
  POD_HOOKS,
} from "./attach.ts";
import { faults } from "./faults.ts";
import { FlowTables } from "./flow-tables.ts";
import {
  closeLoaded,
  type Loaded,
  type LoadedMap,
  type LoadOptions,
  load,
  PINNED_PROGRAM,
  type ProgramName,
} from "./load.ts";
import { layoutOf } from "./renew.ts";

export type DatapathOptions = LoadOptions & AttacherOptions;

/** What the program `sweep` is given beside its mode and budget. */
export const NOTHING_SWEPT: SweepResult = {
  mode: 0,
  budget: 0,
  visited: 0n,
  removed: 0n,
  repliesRemoved: 0n,
  masqueraded: 0n,
  moved: 0n,
  left: 0n,
};

/** One run of the sweep and how long it took. */
export interface SweepRun extends SweepResult {
  readonly durationMs: number;
}

/** The loaded data plane. Methods are synchronous unless they give a promise; faults are the kernel's unless said otherwise. */
export class Datapath implements Disposable {
  readonly #options: DatapathOptions;
  readonly #attacher: Attacher;
  /** Of the entries on devices, which stay when the configuration changes. */
  readonly #programIds = new Map<ProgramName, number>();
  /** Programs that user space runs, and exchanges of tables: one at a time. */
  readonly #alone = new SerialQueue();
  #loaded: Loaded;
  #sweeps = 0;
  /** How large the flow table is, and how it grows. */
  readonly flowTables: FlowTables;
  /** From the first byte of the object read to the last map pinned. */
  readonly loadMs: number;

  constructor(options: DatapathOptions) {
    const start = performance.now();
    this.#options = options;
    this.#loaded = load(options);
    this.loadMs = performance.now() - start;
    this.#attacher = new Attacher(options);
    this.flowTables = new FlowTables(
      { flows: this.map("flows"), replies: this.map("replies"), tableUse: this.map("table_use") },
      async (budget) => {
        const { moved, removed, repliesRemoved, left } = await this.#runSweep(SweepMode.SWEEP_MOVE, budget);
        return { moved: Number(moved), removed: Number(removed + repliesRemoved), left: left !== 0n };
      },
      this.#alone,
    );
  }

  /** How programs come onto native devices. */
  get deviceMode(): DeviceMode {
    return this.#attacher.mode;
  }

  get maps(): readonly LoadedMap[] {
    return [...this.#loaded.maps.values()];
  }

  /** fd of a map; it is closed with the data plane. */
  map(name: MapName): number {
    const map = this.#loaded.maps.get(name);
    if (!map) throw faults.OBJECT_LAYOUT({ path: this.#options.objectPath, why: `it has no map ${name}` });
    return map.fd;
  }

  /** A typed table over a map; close it when it is no longer used. */
  table<N extends MapName>(name: N): TableOf<N> {
    const row = MAPS[name] as Row<unknown, unknown>;
    return new Table(new BpfMap(duplicate(this.map(name)), name), row) as unknown as TableOf<N>;
  }

  #programFd(name: ProgramName): number {
    const fd = this.#loaded.programs.get(name);
    if (fd === undefined)
      throw faults.OBJECT_LAYOUT({ path: this.#options.objectPath, why: `it has no program ${name}` });
    return fd;
  }

  #programId(name: ProgramName): number {
    const known = this.#programIds.get(name);
    if (known !== undefined) return known;
    const { id } = progInfo(this.#programFd(name), name);
    this.#programIds.set(name, id);
    return id;
  }

  /** The loaded programs, as the kernel describes them. */
  programs(): ProgInfo[] {
    return [...this.#loaded.programs].map(([name, fd]) => progInfo(fd, name));
  }

  /** Puts from_pod and to_pod on a pod's device on the node, or in the place of older ones. 0.1 ms. */
  attachPod(ifindex: number): void {
    this.#attacher.attachPod(ifindex, (hook) => this.#programFd(hook));
  }

  /** Takes our programs off; nothing happens if the device is gone, which takes them off itself. */
  detachPod(ifindex: number): void {
    this.#attacher.detachPod(ifindex);
  }

  /** Puts from_net and to_net on a native device, or in the place of older ones. 25-35 ms for new TCX links. */
  attachDevice(ifindex: number): void {
    this.#attacher.attachDevice(ifindex, (hook) => this.#programFd(hook));
  }

  /** Takes our programs and their pins off a native device, also if it is gone. */
  detachDevice(ifindex: number): void {
    this.#attacher.detachDevice(ifindex);
  }

  /** Our programs on a device; `progId` tells whether they are the ones that are loaded now. */
  attachments(ifindex: number): Attachment[] {
    return this.#attacher.attachments(ifindex);
  }

  /** Whether a pod's device carries the programs that are loaded now. 0.1 ms. */
  podIsWhole(ifindex: number): boolean {
    return this.#attacher.isWhole(POD_HOOKS, ifindex, (hook) => this.#programId(hook));
  }

  /** Whether a native device carries the programs that are loaded now. 0.2 ms. */
  deviceIsWhole(ifindex: number): boolean {
    return this.#attacher.isWhole(DEVICE_HOOKS, ifindex, (hook) => this.#programId(hook));
  }

  /** Native devices with pinned links, from before a restart or now; some may be gone. */
  linkedDevices(): number[] {
    return this.#attacher.linkedDevices();
  }

  /** Pins again the maps and links that somebody else has unpinned, the same ones with all that is in them; gives the paths. */
  restorePins(): string[] {
    const { bpfRoot } = this.#options;
    const missing = this.maps.filter(({ name }) => !existsSync(mapPin(bpfRoot, name)));
    makePinFolders(bpfRoot);
    for (const { name, fd } of missing) pinMap(bpfRoot, { name, fd, layout: layoutOf(name) });
    const program = programPin(bpfRoot, PINNED_PROGRAM);
    const unpinned = existsSync(program) ? [] : [program];
    if (unpinned.length > 0) pinProgram(bpfRoot, PINNED_PROGRAM, this.#programFd(PINNED_PROGRAM));
    return [
      ...missing.map(({ name }) => mapPin(bpfRoot, name)),
      ...unpinned,
      ...this.#attacher.restorePins(),
    ];
  }

  /**
   * Loads the program again with another configuration and puts it behind the hooks of every device in one write; the
   * maps stay, and nothing is attached anew. If the kernel refuses it nothing has changed.
   */
  reload(config: NodeConfig): void {
    const fresh = load({ ...this.#options, config });
    const kept = new Map(this.#loaded.programs);
    for (const name of ["datapath", "sweep", "adopt", "flush"] as const) {
      kept.set(name, fresh.programs.get(name) ?? -1);
      fresh.programs.set(name, this.#loaded.programs.get(name) ?? -1);
    }
    // Both hold the same maps: those who were given an fd keep it.
    void this.#alone.run(() => closeLoaded(fresh));
    this.#loaded = { maps: this.#loaded.maps, programs: kept };
  }

  /** One run of the sweep, in a thread of its own and never two at a time. @throws Fault SWEEP_FAILED */
  #runSweep(mode: number, budget = 0): Promise<SweepRun> {
    return this.#alone.run(async () => {
      const start = performance.now();
      const ctx = new Uint8Array(sweepResultCodec.size);
      sweepResultCodec.write(new DataView(ctx.buffer), 0, { ...NOTHING_SWEPT, mode, budget });
      const run = await progTestRunAside({ fd: this.#programFd("sweep"), ctx });
      if (run.retval !== 0) throw faults.SWEEP_FAILED({ retval: run.retval });
      const { buffer, byteOffset, byteLength } = run.ctx;
      const result = sweepResultCodec.read(new DataView(buffer, byteOffset, byteLength), 0);
      return { ...result, durationMs: performance.now() - start };
    });
  }

  /**
   * Removes dead records from the flow table; the first time, and when the data plane has met such, also index entries that
   * have lost their record; with `addresses` also records under an address that the node has lost. @throws Fault SWEEP_FAILED
   */
  sweep(addresses = false): Promise<SweepRun> {
    const orphans = this.flowTables.takeOrphan() || this.#sweeps++ === 0;
    const index = orphans ? SweepMode.SWEEP_INDEX : 0;
    return this.#runSweep(index | (addresses ? SweepMode.SWEEP_ADDRESSES : 0));
  }

  /** Ends fragments that have waited too long for the first of their datagram. @throws Fault SWEEP_FAILED */
  async sweepFragments(): Promise<void> {
    await this.#runSweep(SweepMode.SWEEP_FRAGMENTS);
  }

  /**
   * Writes flows that netfilter has translated into the flow table, not while tables are exchanged; gives how many of them neither
   * the flow nor the port was known to it.
   */
  adopt(flows: readonly Omit<Adoption, "adopted">[]): Promise<number> {
    return this.#alone.run(() => flows.filter((flow) => this.#adopt(flow)).length);
  }

  #adopt(flow: Omit<Adoption, "adopted">): boolean {
    const ctx = new Uint8Array(adoptionCodec.size);
    adoptionCodec.write(new DataView(ctx.buffer), 0, { ...flow, adopted: 0 });
    const { buffer, byteOffset, byteLength } = progTestRun({ fd: this.#programFd("adopt"), ctx }).ctx;
    return adoptionCodec.read(new DataView(buffer, byteOffset, byteLength), 0).adopted === 1;
  }

  /** Closes the fds, once nothing runs that needs them. Programs stay attached, maps and links pinned. */
  close(): void {
    this.#attacher.close();
    this.flowTables.close();
    void this.#alone.idle().then(() => closeLoaded(this.#loaded));
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Loads the data plane: pinned maps are taken over with their entries, missing ones made and pinned. */
export function openDatapath(options: DatapathOptions): Datapath {
  return new Datapath(options);
}
