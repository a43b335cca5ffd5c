// SPDX-License-Identifier: Apache-2.0
// What one packet costs in the data plane: test runs of its hooks over a packet that is put back as it was before each run
// (bpf/bench/restore.bpf.c), whose own cost is subtracted. What redirects do after the program is not in it.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { progTestRun } from "../../src/kernel/bpf.ts";
import { allocate } from "../../src/kernel/ffi.ts";
import { withNetns } from "../../src/kernel/netns.ts";
import { MAPS } from "../../src/maps/gen/maps.ts";
import { ALL_ON } from "../../test/support/datapath.ts";
import { INTERNET, NODE, POD_A } from "../../test/support/packet-node.ts";
import type { Bench } from "../../test/support/packet-rows.ts";
import { FAMILIES, type Family, fromNet, fromPodA, Rig } from "../../test/support/transports.ts";
import { compileBpf, ROOT } from "../../tools/build-bpf.ts";
import { BenchObject } from "../object.ts";

/** Of the wrapper: so many bytes are put back, and the packet has no fewer. */
const PACKET_BYTES = 84;
const FIRST_PORT = 1024;
const FIRST_SERVICE = 80;
/** Far more than the data plane remembers from packet to packet. */
const MANY = 4096;
/** The ring buffer of events takes about 30,000. */
const NEW_AT_ONCE = 20_000;
const NEW_TABLE = 524_288;
const SWEPT = 1_048_576;

/** ns per packet: middle, least and most of the passes, the wrapper subtracted. */
export interface Cost {
  readonly what: string;
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export interface PacketCosts {
  readonly costs: Record<
    Family,
    { out: Cost; back: Cost; outMany: Cost; backMany: Cost; fresh: Cost; apart: Cost }
  >;
  readonly wrapperNs: number;
  readonly sweep: { readonly records: number; readonly liveMs: number };
}

type HookRun = {
  hook: "from_pod" | "from_net";
  packet: Uint8Array;
  family: Family;
  flows: number;
  next?: number;
  /** Each packet goes to another port of the destination. */
  apart?: boolean;
};

const middle = (list: readonly number[]): number => {
  const sorted = list.toSorted((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN;
};

/** The wrapper around one loaded data plane. */
class Runner implements Disposable {
  readonly #object: BenchObject;
  readonly #bench: Bench;
  readonly #netns: string;

  constructor(object: string, bench: Bench, netns: string) {
    this.#object = new BenchObject(object);
    this.#bench = bench;
    this.#netns = netns;
  }

  #aim(fd: number, { packet, family, flows, hook, next = 0, apart = false }: HookRun): void {
    const original = this.#object.map("original");
    original.keyView.setUint32(0, 0, true);
    const words = [next, flows, family === 4 ? 34 : 54, hook === "from_net" ? 1 : apart ? 2 : 0];
    words.forEach((word, at) => {
      original.valueView.setUint32(at * 4, word, true);
    });
    original.value.set(packet.subarray(0, PACKET_BYTES), 16);
    original.update();
    const hooks = this.#object.map("hooks");
    hooks.keyView.setUint32(0, 0, true);
    hooks.valueView.setUint32(0, fd, true);
    hooks.update();
  }

  /** Mean ns of `repeat` runs of the wrapper and what follows it. */
  #time(run: HookRun, repeat: number): { ns: number; retval: number } {
    const ctx = allocate(192);
    const device = run.hook === "from_pod" ? this.#bench.devices.hla : this.#bench.devices.eth0;
    new DataView(ctx.buffer).setUint32(40, device, true);
    const fd = this.#object.program("restore");
    const done = withNetns(this.#netns, () => progTestRun({ fd, data: run.packet, ctx, repeat }));
    return { ns: done.durationNs, retval: done.retval };
  }

  /** The wrapper alone. */
  empty(run: HookRun, repeat: number): number {
    this.#aim(this.#object.program("nothing"), run);
    return this.#time(run, repeat).ns;
  }

  /** The wrapper and the hook. @throws if the last packet was not forwarded */
  full(run: HookRun, repeat: number): number {
    this.#aim(this.#bench.datapath.program(run.hook), run);
    const { ns, retval } = this.#time(run, repeat);
    if (retval !== 7) throw new Error(`${run.hook}: gave ${retval}, not a redirect`);
    this.#bench.datapath.events();
    return ns;
  }

  [Symbol.dispose](): void {
    this.#object[Symbol.dispose]();
  }
}

const PAYLOAD = "x".repeat(30);

function packetsOf(family: Family): { first: Uint8Array; out: Uint8Array; back: Uint8Array } {
  const tcp = { sport: FIRST_PORT, dport: FIRST_SERVICE };
  const answer = { sport: FIRST_SERVICE, dport: FIRST_PORT };
  const from = fromPodA(family, POD_A, INTERNET);
  const bytes = {
    first: from.tcp({ ...tcp, flags: "S" }).payload(PAYLOAD),
    out: from.tcp({ ...tcp, flags: "PA" }).payload(PAYLOAD),
    back: fromNet(family, INTERNET, NODE)
      .tcp({ ...answer, flags: "PA" })
      .payload(PAYLOAD),
  };
  return { first: bytes.first.bytes(), out: bytes.out.bytes(), back: bytes.back.bytes() };
}

/** Samples by turns of all kinds, so that a busy machine disturbs them alike. */
function sample(
  runner: Runner,
  family: Family,
  passes: number,
  repeat: number,
): PacketCosts["costs"][Family] & { wrapper: number } {
  const { first, out, back } = packetsOf(family);
  const kinds = {
    out: { hook: "from_pod", packet: out, family, flows: 0 },
    back: { hook: "from_net", packet: back, family, flows: 0 },
    outMany: { hook: "from_pod", packet: out, family, flows: MANY },
    backMany: { hook: "from_net", packet: back, family, flows: MANY },
  } as const satisfies Record<string, HookRun>;
  // The flows that the others belong to; number 0 is the single one.
  runner.full({ hook: "from_pod", packet: first, family, flows: MANY }, MANY);
  runner.full(kinds.backMany, MANY);
  const net: Record<keyof typeof kinds | "fresh" | "apart", number[]> = {
    out: [],
    back: [],
    outMany: [],
    backMany: [],
    fresh: [],
    apart: [],
  };
  const wrapper: number[] = [];
  let next = MANY;
  for (let pass = 0; pass < passes; pass++) {
    for (const [name, run] of Object.entries(kinds) as [keyof typeof kinds, HookRun][]) {
      const empty = runner.empty(run, repeat);
      wrapper.push(empty);
      net[name].push(runner.full(run, repeat) - empty);
    }
    for (const name of ["fresh", "apart"] as const) {
      const one: HookRun = { hook: "from_pod", packet: first, family, flows: 0xffff_ffff, next };
      const run = { ...one, apart: name === "apart" };
      net[name].push(runner.full(run, NEW_AT_ONCE) - runner.empty(run, NEW_AT_ONCE));
    }
    next += NEW_AT_ONCE;
  }
  const cost = (what: keyof typeof net): Cost => ({
    what,
    median: middle(net[what]),
    min: Math.min(...net[what]),
    max: Math.max(...net[what]),
  });
  return {
    out: cost("out"),
    back: cost("back"),
    outMany: cost("outMany"),
    backMany: cost("backMany"),
    fresh: cost("fresh"),
    apart: cost("apart"),
    wrapper: middle(wrapper),
  };
}

/** Fills a table with live flows, and sweeps them. */
function sweepCost(object: string, rig: Rig, records: number): PacketCosts["sweep"] {
  const bench = rig.load(ALL_ON, SWEPT);
  bench.restore();
  // One pod may fill the table.
  bench.datapath.table(MAPS.table_use).set(1, 0n);
  using runner = new Runner(object, bench, rig.node.netns);
  const { first } = packetsOf(4);
  for (let next = 0; next < records; next += NEW_AT_ONCE) {
    const repeat = Math.min(NEW_AT_ONCE, records - next);
    runner.full({ hook: "from_pod", packet: first, family: 4, flows: 0xffff_ffff, next }, repeat);
  }
  const start = performance.now();
  const { visited } = bench.datapath.sweep(0);
  return { records: Number(visited), liveMs: performance.now() - start };
}

/** Measures on the calling thread's processor. */
export async function costOfPackets(quick: boolean): Promise<PacketCosts> {
  const object = join(ROOT, "build/bench/restore.bpf.o");
  mkdirSync(join(ROOT, "build/bench"), { recursive: true });
  compileBpf("bpf/bench/restore.bpf.c", object, ROOT);
  const rig = new Rig();
  try {
    const [passes, repeat] = quick ? [3, 20_000] : [9, 200_000];
    const costs = FAMILIES.map((family) => {
      const bench = rig.load(ALL_ON, NEW_TABLE);
      bench.restore();
      using runner = new Runner(object, bench, rig.node.netns);
      return sample(runner, family, passes, repeat);
    });
    const [v4, v6] = costs as [(typeof costs)[0], (typeof costs)[0]];
    const sweep = sweepCost(object, rig, quick ? 50_000 : 1_000_000);
    return { costs: { 4: v4, 6: v6 }, wrapperNs: middle(costs.map((each) => each.wrapper)), sweep };
  } finally {
    await rig.close();
  }
}
