// SPDX-License-Identifier: Apache-2.0
// The data plane under test: the object loaded by libbpf under one configuration, its maps as typed tables, its programs run
// on single packets by BPF_PROG_TEST_RUN inside a network namespace, its events read back. Nothing is attached or pinned.
import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { join } from "node:path";
import { mapCreate, progInfo, progTestRun } from "../../src/kernel/bpf.ts";
import { BpfMap } from "../../src/kernel/bpf-map.ts";
import { jiffyNs } from "../../src/kernel/clock.ts";
import { addressOf, allocate, cString, libc, openLibrary, viewOf } from "../../src/kernel/ffi.ts";
import { withNetns } from "../../src/kernel/netns.ts";
import { NOTHING_SWEPT } from "../../src/loader/datapath.ts";
import type { Codec, MapRow } from "../../src/maps/codec.ts";
import { NODE_CONFIG_SIZE, type NodeConfig, writeNodeConfig } from "../../src/maps/gen/config.ts";
import { MAPS } from "../../src/maps/gen/maps.ts";
import {
  ADOPTION_SIZE,
  type Adoption,
  type Counter,
  FLOW_EVENT_SIZE,
  type Flow,
  type FlowEvent,
  type FlowKey,
  type Flush,
  flowCodec,
  flowKeyCodec,
  flushCodec,
  type Reply,
  readAdoption,
  readFlowEvent,
  readSweepResult,
  replyCodec,
  SWEEP_RESULT_SIZE,
  type SweepResult,
  writeAdoption,
  writeSweepResult,
} from "../../src/maps/gen/types.ts";
import { SweepMode } from "../../src/maps/gen/verdict.ts";
import { Entries } from "./entries.ts";

const ROOT = join(import.meta.dirname, "../..");
export const OBJECT = join(ROOT, "build/datapath.bpf.o");

/** Ticks of the data plane's clock in a second. */
export const TICKS_PER_SECOND = 1e9 / 2 ** 24;

/** Everything on: what most tables run under. */
export const ALL_ON: NodeConfig = {
  enableIpv4: 1,
  enableIpv6: 1,
  masqueradeIpv4: 1,
  masqueradeIpv6: 1,
  masqueradeRemoteNodes: 0,
  masqueradeToRouteSource: 0,
  hostRouting: 1,
  netfilter: 0,
  tunnel: 0,
  trackFragmentsIpv4: 1,
  trackFragmentsIpv6: 1,
  events: 2,
  portMin: 1024,
  portMax: 65535,
  tunnelPort: 8472,
  timeoutTcpSyn: Math.round(60 * TICKS_PER_SECOND),
  timeoutTcp: Math.round(8000 * TICKS_PER_SECOND),
  timeoutTcpFin: Math.round(10 * TICKS_PER_SECOND),
  timeoutAny: Math.round(60 * TICKS_PER_SECOND),
};

/** Every switch off; numbers stay. */
export const ALL_OFF: NodeConfig = {
  ...ALL_ON,
  enableIpv4: 0,
  enableIpv6: 0,
  masqueradeIpv4: 0,
  masqueradeIpv6: 0,
  hostRouting: 0,
  trackFragmentsIpv4: 0,
  trackFragmentsIpv6: 0,
  events: 0,
  tunnelPort: 0,
};

export const HOOKS = ["from_pod", "to_pod", "from_net", "to_net"] as const;
export type HookName = (typeof HOOKS)[number];

/** What a program answers, in words. `pass` hands the packet to the kernel's stack. */
export type Verdict = "pass" | "drop" | "redirect";
const VERDICTS: Record<number, Verdict> = { 4294967295: "pass", 2: "drop", 7: "redirect" };

const declare = openLibrary("libbpf.so.1");
const libbpf = {
  open: declare("intptr_t bpf_object__open_file(str path, void *opts)") as (p: string, o: null) => bigint,
  setPrint: declare("void *libbpf_set_print(void *print)") as (print: null) => unknown,
  load: declare("int bpf_object__load(intptr_t object)") as (object: bigint) => number,
  close: declare("void bpf_object__close(intptr_t object)") as (object: bigint) => void,
  findMap: declare("intptr_t bpf_object__find_map_by_name(intptr_t object, void *name)") as (
    object: bigint,
    name: Uint8Array,
  ) => bigint,
  findProgram: declare("intptr_t bpf_object__find_program_by_name(intptr_t object, void *name)") as (
    object: bigint,
    name: Uint8Array,
  ) => bigint,
  setInner: declare("int bpf_map__set_inner_map_fd(intptr_t map, int fd)") as (
    map: bigint,
    fd: number,
  ) => number,
  mapFd: declare("int bpf_map__fd(intptr_t map)") as (map: bigint) => number,
  programFd: declare("int bpf_program__fd(intptr_t program)") as (program: bigint) => number,
  setInitial: declare("int bpf_map__set_initial_value(intptr_t map, void *data, size_t size)") as (
    map: bigint,
    data: Uint8Array,
    size: number,
  ) => number,
  setEntries: declare("int bpf_map__set_max_entries(intptr_t map, uint entries)") as (
    map: bigint,
    entries: number,
  ) => number,
  dup: declare("int fcntl(int fd, int command, int least)") as (fd: number, c: number, l: number) => number,
};
/** Entry of table_use, bpf/abi/maps.h. */
const USE_SIZE = 1;
/** Entry of resets, bpf/abi/maps.h. */
const RESETS_ALLOWED = 0;
const F_DUPFD_CLOEXEC = 1030;

/** The ring buffer `events`, read through its mapping (Documentation/bpf/ringbuf.rst). */
class Events {
  readonly #consumer: DataView;
  readonly #producer: DataView;
  readonly #data: DataView;
  readonly #mask: number;

  constructor(fd: number, size: number) {
    const [READ, WRITE, SHARED] = [1, 2, 1];
    const page = 4096;
    const consumer = libc.mmap(null, page, READ | WRITE, SHARED, fd, 0);
    const producer = libc.mmap(null, page + 2 * size, READ, SHARED, fd, page);
    this.#consumer = new DataView(viewOf(consumer, page));
    this.#producer = new DataView(viewOf(producer, page));
    this.#data = new DataView(viewOf(BigInt(producer) + BigInt(page), 2 * size));
    this.#mask = size - 1;
  }

  drain(): FlowEvent[] {
    const found: FlowEvent[] = [];
    const end = this.#producer.getBigUint64(0, true);
    let at = this.#consumer.getBigUint64(0, true);
    while (at < end) {
      const from = Number(at & BigInt(this.#mask));
      const head = this.#data.getUint32(from, true);
      const length = head & 0x3fff_ffff;
      if ((head & 0x4000_0000) === 0 && length === FLOW_EVENT_SIZE) {
        found.push(readFlowEvent(this.#data, from + 8));
      }
      at += BigInt((length + 8 + 7) & ~7);
    }
    this.#consumer.setBigUint64(0, at, true);
    return found;
  }
}

export interface RunOptions {
  /** Device that the node's stack got the packet from. Default: none, the node sends it. */
  ingress?: number;
  /** Device that the packet comes in by or leaves by. */
  ifindex: number;
  mark?: number;
  /** Payload bytes per segment of a large packet, and how many segments. */
  gso?: { size: number; segments: number };
  repeat?: number;
}

export interface RunResult {
  verdict: Verdict;
  packet: Uint8Array;
  mark: number;
  /** Mean of one run. */
  durationNs: number;
}

/** struct __sk_buff: the fields that a test run reads and writes. */
const SKB = { size: 192, mark: 8, ingressIfindex: 36, ifindex: 40, gsoSegs: 164, gsoSize: 176 } as const;

export class TestDatapath implements Disposable {
  readonly config: NodeConfig;
  /** The tables in slot 0: new records go there. */
  flows: Entries<FlowKey, Flow>;
  replies: Entries<FlowKey, Reply>;
  /** The tables in slot 1 after `grow`. */
  draining: { flows: Entries<FlowKey, Flow>; replies: Entries<FlowKey, Reply> } | undefined;
  readonly #object: bigint;
  readonly #netns: string;
  readonly #programs = new Map<string, number>();
  readonly #events: Events;
  readonly #tables = new Map<string, Entries<unknown, unknown>>();

  /** `tableSize`: entries of the flow table and of the index. `path`: another object than the product's. */
  constructor(config: NodeConfig, netns: string, tableSize = 1024, path = OBJECT) {
    this.config = config;
    this.#netns = netns;
    libbpf.setPrint(null);
    this.#object = libbpf.open(path, null);
    if (BigInt(this.#object) === 0n) throw new Error(`${path}: cannot be opened; run npm run build`);
    const rodata = allocate(NODE_CONFIG_SIZE);
    writeNodeConfig(new DataView(rodata.buffer), 0, config);
    this.#setSection(".rodata.config", rodata);
    const machine = allocate(4);
    new DataView(machine.buffer).setUint32(0, jiffyNs(), true);
    this.#setSection(".rodata.machine", machine);
    const templates = [this.#template("flows", flowCodec.size), this.#template("replies", replyCodec.size)];
    const loaded = libbpf.load(this.#object);
    for (const fd of templates) closeSync(fd);
    if (loaded)
      throw new Error(`${path}: refused by the kernel (${loaded}); bpftool -d prog loadall shows why`);
    for (const name of [...HOOKS, "datapath", "sweep", "adopt", "flush"]) {
      this.#programs.set(name, libbpf.programFd(libbpf.findProgram(this.#object, cString(name))));
    }
    this.#setSlot("programs", 0, this.program("datapath"));
    this.flows = this.#inner("flows", flowKeyCodec, flowCodec, tableSize);
    this.replies = this.#inner("replies", flowKeyCodec, replyCodec, tableSize);
    this.table(MAPS.table_use).set(USE_SIZE, BigInt(tableSize));
    this.#events = new Events(this.#mapFd("events"), MAPS.events.maxEntries);
  }

  /** A copy of the map's fd, so that closing a table leaves libbpf's own open. */
  #mapFd(name: string): number {
    return libbpf.dup(libbpf.mapFd(libbpf.findMap(this.#object, cString(name))), F_DUPFD_CLOEXEC, 3);
  }

  #setSection(name: string, bytes: Uint8Array): void {
    const section = libbpf.findMap(this.#object, cString(name));
    const failed = libbpf.setInitial(section, bytes, bytes.length);
    if (failed) throw new Error(`${name}: ${failed}`);
  }

  /** Without types, as the tables that we put in: before 6.2 typed and untyped ones do not go together. */
  #template(name: "flows" | "replies", valueSize: number): number {
    const fd = mapCreate({ name, type: 1, keySize: flowKeyCodec.size, valueSize, maxEntries: 1 });
    const failed = libbpf.setInner(libbpf.findMap(this.#object, cString(name)), fd);
    if (failed) throw new Error(`${name}: ${failed}`);
    return fd;
  }

  #setSlot(name: "flows" | "replies" | "programs", slot: number, fd: number): void {
    using outer = new BpfMap(this.#mapFd(name), name);
    outer.keyView.setUint32(0, slot, true);
    outer.valueView.setUint32(0, fd, true);
    outer.update();
  }

  #inner<K, V>(name: "flows" | "replies", key: Codec<K>, value: Codec<V>, maxEntries: number): Entries<K, V> {
    const fd = mapCreate({ name, type: 1, keySize: key.size, valueSize: value.size, maxEntries });
    this.#setSlot(name, 0, fd);
    return new Entries(fd, key, value, name);
  }

  /** New, larger tables take all new records; those so far are drained from slot 1. */
  grow(tableSize: number): void {
    assert.equal(this.draining, undefined, "grown once already");
    this.draining = { flows: this.flows, replies: this.replies };
    this.table(MAPS.table_use).set(USE_SIZE, BigInt(tableSize));
    this.#setSlot("flows", 1, this.flows.fd);
    this.#setSlot("replies", 1, this.replies.fd);
    this.flows = this.#inner("flows", flowKeyCodec, flowCodec, tableSize);
    this.replies = this.#inner("replies", flowKeyCodec, replyCodec, tableSize);
  }

  /** A map by its generated row: `table(MAPS.endpoints)`. */
  table<K, V>(row: MapRow<K, V>): Entries<K, V> {
    const known = this.#tables.get(row.name) as Entries<K, V> | undefined;
    if (known) return known;
    const made = new Entries(this.#mapFd(row.name), row.key, row.value, row.name);
    this.#tables.set(row.name, made as Entries<unknown, unknown>);
    return made;
  }

  program(name: string): number {
    return this.#programs.get(name) ?? -1;
  }

  verifiedInstructions(name: string): number {
    return progInfo(this.program(name), name).verifiedInstructions;
  }

  /** Runs one hook on one packet. */
  run(hook: HookName, packet: Uint8Array, options: RunOptions): RunResult {
    const ctx = allocate(SKB.size);
    const view = new DataView(ctx.buffer);
    view.setUint32(SKB.mark, options.mark ?? 0, true);
    view.setUint32(SKB.ifindex, options.ifindex, true);
    view.setUint32(SKB.ingressIfindex, options.ingress ?? 0, true);
    view.setUint32(SKB.gsoSize, options.gso?.size ?? 0, true);
    view.setUint32(SKB.gsoSegs, options.gso?.segments ?? 0, true);
    const run = { fd: this.program(hook), data: packet, ctx, repeat: options.repeat ?? 1 };
    const result = withNetns(this.#netns, () => progTestRun(run));
    const verdict = VERDICTS[result.retval];
    if (!verdict) throw new Error(`${hook} gave ${result.retval}`);
    const mark = new DataView(result.ctx.buffer, result.ctx.byteOffset).getUint32(SKB.mark, true);
    return { verdict, packet: result.data, mark, durationNs: result.durationNs };
  }

  #sweep(mode: number, budget: number): SweepResult {
    const ctx = allocate(SWEEP_RESULT_SIZE);
    writeSweepResult(new DataView(ctx.buffer), 0, { ...NOTHING_SWEPT, mode, budget });
    const run = progTestRun({ fd: this.program("sweep"), ctx });
    return readSweepResult(new DataView(run.ctx.buffer, run.ctx.byteOffset), 0);
  }

  /** `mode`: bits of SweepMode. Default: through the index too. */
  sweep(
    mode: number = SweepMode.SWEEP_INDEX,
  ): Pick<SweepResult, "visited" | "removed" | "repliesRemoved" | "masqueraded"> {
    const { visited, removed, repliesRemoved, masqueraded } = this.#sweep(mode, 0);
    return { visited, removed, repliesRemoved, masqueraded };
  }

  /** Takes these records one step further to their end; `before` in ticks, default: whenever they were opened. */
  flush(keys: readonly FlowKey[], before = nowTicks()): Pick<Flush, "ended" | "removed"> {
    const tuples = allocate(keys.length * flowKeyCodec.size);
    const view = new DataView(tuples.buffer);
    for (const [i, key] of keys.entries()) flowKeyCodec.write(view, i * flowKeyCodec.size, key);
    const ctx = allocate(flushCodec.size);
    const asked = { keys: addressOf(tuples), count: keys.length, before, now: 0, ended: 0, removed: 0 };
    flushCodec.write(new DataView(ctx.buffer), 0, asked);
    const run = progTestRun({ fd: this.program("flush"), ctx });
    assert.equal(run.retval | 0, 0);
    const { ended, removed } = flushCodec.read(new DataView(run.ctx.buffer, run.ctx.byteOffset), 0);
    return { ended, removed };
  }

  /** Takes over a flow that netfilter has translated; false if it is known. */
  adopt(flow: Omit<Adoption, "adopted">): boolean {
    const ctx = allocate(ADOPTION_SIZE);
    writeAdoption(new DataView(ctx.buffer), 0, { ...flow, adopted: 0 });
    const run = progTestRun({ fd: this.program("adopt"), ctx });
    return readAdoption(new DataView(run.ctx.buffer, run.ctx.byteOffset), 0).adopted === 1;
  }

  /** One step of moving what is in slot 1 to slot 0. */
  move(budget = 1_000_000): Pick<SweepResult, "moved" | "removed" | "repliesRemoved" | "left"> {
    const { moved, removed, repliesRemoved, left } = this.#sweep(SweepMode.SWEEP_MOVE, budget);
    return { moved, removed, repliesRemoved, left };
  }

  /** Whether pods are told by a RST of connections that nobody knows; as loaded they are not. */
  permitResets(permitted = true): void {
    this.table(MAPS.resets).set(RESETS_ALLOWED, permitted ? 1n : 0n);
  }

  /** Ends the tick: what the data plane remembers of packets (maps `recent` and `ways`) is forgotten. */
  forget(): void {
    for (const row of [MAPS.recent, MAPS.ways]) {
      const table = this.table<number, { tick: number }>(row);
      for (const [slot, perCpu] of table.entriesPerCpu()) {
        if (perCpu.some((entry) => entry.tick !== 0)) table.zero(slot);
      }
    }
  }

  /** Events since the last call. */
  events(): FlowEvent[] {
    return this.#events.drain();
  }

  /** Sum over all processors. */
  counter(hook: number, reason: number): Counter {
    const values = this.table(MAPS.counters).getPerCpu(256 * hook + reason);
    return {
      packets: values.reduce((sum, v) => sum + v.packets, 0n),
      bytes: values.reduce((sum, v) => sum + v.bytes, 0n),
    };
  }

  [Symbol.dispose](): void {
    const inner = [this.flows, this.replies, this.draining?.flows, this.draining?.replies];
    for (const table of [...this.#tables.values(), ...inner]) table?.close();
    libbpf.close(this.#object);
  }
}

/** Now, on the data plane's clock. */
export function nowTicks(): number {
  return Number((process.hrtime.bigint() >> 24n) & 0xffff_ffffn);
}

/** A tick at which nothing can be alive. Jiffies run up to a second behind the clock: they began to count later. */
export function longAgo(): number {
  return (nowTicks() - 1000) >>> 0;
}
