// SPDX-License-Identifier: Apache-2.0
// Keeps the flow table: sweeps it when it is due and lets it grow before it is full, as sweep-interval.ts and table-size.ts
// decide. Nothing here blocks the event loop: walks and exchanges run in threads of their own.
import { backoffMs } from "../base/async.ts";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import type { Datapath } from "../loader/datapath.ts";
import type { PairSize } from "../loader/flow-tables.ts";
import type { TableOf } from "../maps/table.ts";
import type { FlowTableReport } from "./status.ts";
import { sweepIntervalMs } from "./sweep-interval.ts";
import { lookMs, nextSize } from "./table-size.ts";

/** Share of a table at its maximum from which on it is called full. */
const FULL = 0.98;

/** What sweeps have done, for `status`. */
export interface SweepState {
  runs: number;
  removed: number;
  lastMs: number;
  totalMs: number;
  intervalMs: number;
}

/** The flow table of one loaded data plane. */
export class FlowTable {
  readonly #datapath: Datapath;
  readonly #log: Log;
  readonly #owners: TableOf<"owners">;
  #max: PairSize;
  #size: PairSize;
  readonly sweepState: SweepState = {
    runs: 0,
    removed: 0,
    lastMs: 0,
    totalMs: 0,
    intervalMs: sweepIntervalMs(0, 1),
  };
  #sweepTimer: NodeJS.Timeout | undefined;
  #sweptAt = 0;
  /** A sweep that has not begun: whoever asks meanwhile shares it. */
  #asked: Promise<void> | undefined;
  #addresses = false;
  #sweepFailures = 0;
  #sweepFailure: string | undefined;
  /** Until a sweep that has failed is tried again. */
  #retryMs = Number.POSITIVE_INFINITY;
  #running: Promise<void> = Promise.resolve();
  #lookTimer: NodeJS.Timeout | undefined;
  #growing: { from: number; to: number } | undefined;
  #growths = 0;
  #growthMs = 0;
  #failures = 0;
  #failure: string | undefined;
  #closed = false;

  constructor(options: { datapath: Datapath; max: PairSize; log: Log }) {
    this.#datapath = options.datapath;
    this.#log = options.log;
    this.#max = options.max;
    this.#owners = options.datapath.table("owners");
    this.#size = options.datapath.flowTables.size;
  }

  /** Looks after the table from now on. What the walks go by must be in the maps: which endpoints there are. */
  start(): void {
    this.#look(this.#datapath.flowTables.unfinished);
  }

  /** What the options allow has changed: followed with the next growth. A table never shrinks. */
  set max(max: PairSize) {
    this.#max = max;
  }

  #look(unfinished = false): void {
    if (this.#closed) return;
    const { records } = this.#datapath.flowTables;
    const to = unfinished ? this.#size : nextSize(records, this.#size, this.#max);
    if (to !== undefined) {
      void this.#grow(to, unfinished);
      return;
    }
    // A table that has filled since the last sweep is not left until the next one was due.
    const due = this.#sweepTimer !== undefined;
    if (due && sweepIntervalMs(records, this.#size.flows) < this.sweepState.intervalMs) this.#scheduleSweep();
    this.#lookTimer = setTimeout(() => this.#look(), lookMs(records, this.#size));
  }

  /** The next sweep, counted from the last. */
  #scheduleSweep(): void {
    this.sweepState.intervalMs = sweepIntervalMs(this.#datapath.flowTables.records, this.#size.flows);
    clearTimeout(this.#sweepTimer);
    const afterMs = Math.min(this.sweepState.intervalMs, this.#retryMs);
    const waitMs = this.#sweptAt + afterMs - performance.now();
    this.#sweepTimer = setTimeout(() => void this.sweep(), Math.max(0, waitMs));
  }

  async #grow(to: PairSize, unfinished: boolean): Promise<void> {
    const { flowTables } = this.#datapath;
    const from = this.#size.flows;
    const start = performance.now();
    this.#growing = { from, to: to.flows };
    let pauseMs = 0;
    try {
      await (unfinished ? flowTables.finish() : flowTables.grow(to));
      this.#growthMs = performance.now() - start;
      this.#growths++;
      this.#failures = 0;
      this.#failure = undefined;
      this.#log.info({ from, to: to.flows, ms: Math.round(this.#growthMs) }, "flow table has grown");
    } catch (thrown) {
      const fault = Fault.from(thrown);
      this.#failure = `flows cannot grow from ${from} to ${to.flows} records: ${fault.detail}`;
      pauseMs = backoffMs(this.#failures++, 100, 30_000);
      this.#log.error({ error: fault.detail, from, to: to.flows }, "flow table does not grow");
    }
    this.#growing = undefined;
    if (this.#closed) return;
    this.#size = flowTables.size;
    this.#lookTimer = setTimeout(() => this.#look(flowTables.unfinished), pauseMs);
  }

  /**
   * Sweeps as soon as no other walk runs; resolves when it has ended. The next one follows by itself. `addresses`: also flows
   * under addresses that the node has lost.
   */
  sweep(addresses = false): Promise<void> {
    this.#addresses ||= addresses;
    this.#asked ??= this.#running.then(() => {
      // What changes from here on is the next sweep's to see.
      this.#asked = undefined;
      this.#running = this.#sweepNow();
      return this.#running;
    });
    return this.#asked;
  }

  async #sweepNow(): Promise<void> {
    if (this.#closed) return;
    clearTimeout(this.#sweepTimer);
    this.#sweepTimer = undefined;
    const addresses = this.#addresses;
    this.#addresses = false;
    try {
      const run = await this.#datapath.sweep(addresses);
      this.sweepState.runs++;
      this.sweepState.removed += Number(run.removed);
      this.sweepState.lastMs = run.durationMs;
      this.sweepState.totalMs += run.durationMs;
      this.#sweepFailures = 0;
      this.#sweepFailure = undefined;
      this.#retryMs = Number.POSITIVE_INFINITY;
    } catch (thrown) {
      this.#log.error({ err: thrown }, "sweep failed");
      this.#addresses ||= addresses;
      this.#sweepFailure = `the flow table cannot be swept: ${Fault.from(thrown).detail}`;
      this.#retryMs = backoffMs(this.#sweepFailures++, 100, 30_000);
    }
    if (this.#closed) return;
    this.#sweptAt = performance.now();
    this.#scheduleSweep();
  }

  /** What an owner holds: an endpoint by its id, 0 the node. */
  owner(id: number): { readonly flows: number; readonly refused: number } {
    const { flows, refused } = this.#owners.get(id) ?? { flows: 0, refused: 0 };
    // Records that an older release made and never counted are taken off when they go.
    return { flows: Math.max(0, flows | 0), refused };
  }

  /** What is not as the options ask, in sentences. */
  problems(): string[] {
    const larger = this.#size.flows > this.#max.flows;
    const shrinks = `flows has room for ${this.#size.flows} records and keeps it; the options ask for ${this.#max.flows} at most`;
    const { records } = this.#datapath.flowTables;
    const full = this.#size.flows >= this.#max.flows && records >= FULL * this.#size.flows;
    const refuses = `the flow table is full: ${records} of ${this.#size.flows} records; new flows are refused (drop 155): raise bpf-ct-global-tcp-max or bpf-ct-global-any-max`;
    return [
      ...(full ? [refuses] : []),
      ...(larger ? [shrinks] : []),
      ...(this.#failure === undefined ? [] : [this.#failure]),
      ...(this.#sweepFailure === undefined ? [] : [this.#sweepFailure]),
    ];
  }

  report(): FlowTableReport {
    return {
      records: this.#datapath.flowTables.records,
      size: this.#size.flows,
      maximum: Math.max(this.#max.flows, this.#size.flows),
      growing: this.#growing ?? null,
      growths: this.#growths,
      lastGrowthMs: this.#growthMs,
    };
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#sweepTimer);
    clearTimeout(this.#lookTimer);
    this.#owners.close();
  }
}
