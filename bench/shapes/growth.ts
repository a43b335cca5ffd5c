// SPDX-License-Identifier: Apache-2.0
// The data plane's own flow table under fire while it grows again and again: all processors open, refresh, answer, close and take
// over the same few flows (bpf/bench/growth.h), while the loader's own code exchanges the tables, moves what is in them, and
// sweeps. Then every record must have its entry, every entry its record, and the counts must agree. Variants in which one rule of
// the protocol is broken have to fail. Options: --seconds N for each variant (default 10), --only NAME.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { SerialQueue } from "../../src/base/async.ts";
import { progTestRunAside } from "../../src/kernel/bpf-aside.ts";
import { BpfMap } from "../../src/kernel/bpf-map.ts";
import { duplicate } from "../../src/kernel/ffi.ts";
import { mountBpffs, unmount } from "../../src/kernel/mount.ts";
import { FlowTables } from "../../src/loader/flow-tables.ts";
import { closeLoaded, type Loaded, load } from "../../src/loader/load.ts";
import { MAPS } from "../../src/maps/gen/maps.ts";
import { sweepResultCodec } from "../../src/maps/gen/types.ts";
import { SweepMode } from "../../src/maps/gen/verdict.ts";
import { type MapName, openInner, Table } from "../../src/maps/table.ts";
import { ALL_ON } from "../../test/support/datapath.ts";
import { compileBpf, ROOT } from "../../tools/build-bpf.ts";
import { flushByProgram, flushByWriting } from "./flush.ts";
import { runTogether, startWorkers } from "./worker.ts";

/** A change of the sources: what stands in a file, once, and what is to stand there. */
export interface Change {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

/** Ticks of 2^`shift` ns instead of 2^24. */
export const tickOf = (shift: number): Change => ({
  file: "lib/pkt.h",
  from: "__u64 jiffy = MACHINE.jiffy_ns;\n",
  to: `__u64 jiffy = MACHINE.jiffy_ns;\n\n\treturn bpf_ktime_get_ns() >> ${shift};\n`,
});

/** The programs that fire. */
export const PROGRAMS: Change = {
  file: "datapath.bpf.c",
  from: "char LICENSE[]",
  to: '#include "bench/growth.h"\nchar LICENSE[]',
};

/** The same with a fast clock: a lasting flow lives for 69 s. */
export const FIRE: readonly Change[] = [tickOf(6), PROGRAMS];

/** Where processors take their time. */
const DAWDLE: readonly Change[] = [
  {
    file: "datapath.bpf.c",
    from: '#include "stage/recent.h"',
    to: '#include "bench/dawdle.h"\n#include "stage/recent.h"',
  },
  // A table is taken from its slot; what is put into it comes late.
  {
    file: "stage/table.h",
    from: "	err = bpf_map_update_elem(table, tuple, mine, BPF_NOEXIST);",
    to: "	dawdle();\n	err = bpf_map_update_elem(table, tuple, mine, BPF_NOEXIST);",
  },
  {
    file: "stage/open.h",
    from: "	err = bpf_map_update_elem(table, &key, &made, BPF_NOEXIST);",
    to: "	dawdle();\n	err = bpf_map_update_elem(table, &key, &made, BPF_NOEXIST);",
  },
  // A record is looked for in slot 0, later in slot 1; one that was found is refreshed late.
  {
    file: "stage/table.h",
    from: "	draining = flow_table(1);",
    to: "	dawdle();\n	draining = flow_table(1);",
  },
  {
    file: "stage/table.h",
    from: "	draining = reply_table(1);",
    to: "	dawdle();\n	draining = reply_table(1);",
  },
  {
    file: "stage/record.h",
    from: "	__u8 state = f->state, before = state;\n	bool kept;\n",
    to: "	__u8 state = f->state, before = state;\n	bool kept;\n\n	dawdle();\n",
  },
];

interface Variant {
  readonly changes: readonly Change[];
  /** The exchange is not announced. */
  readonly hasty?: boolean;
  /** Ends all flows but the lasting ones, again and again. */
  readonly flush?: (bpfRoot: string) => Promise<number>;
  /** Nothing may go wrong. */
  readonly sound?: boolean;
}

/** What is broken in each variant. */
export const VARIANTS: Readonly<Record<string, Variant>> = {
  "as it is": { changes: [], sound: true },
  "flushed meanwhile": { changes: [], sound: true, flush: flushByProgram },
  "flushed by whole records": { changes: [], flush: flushByWriting },
  "not looked again for what has moved": {
    changes: [
      { file: "stage/flow.h", from: "#define LOOKS 2", to: "#define LOOKS 1" },
      {
        file: "stage/table.h",
        from: "	return r ? r : reply_in(0, tuple);",
        to: "	return r;",
      },
      { file: "stage/table.h", from: "	return moved ? moved : f;", to: "	return moved ? f : f;" },
    ],
  },
  "exchanged without a word": { changes: [], hasty: true },
};

export interface RaceResult {
  /** Fields of struct tally, in order. */
  readonly tally: Readonly<Record<(typeof TALLY)[number], number>>;
  readonly growths: number;
  readonly moved: number;
  readonly swept: number;
  readonly flushed: number;
  /** Records without their entry and entries without their record, at the end. */
  readonly broken: number;
  /** By how many the counts are off, at the end. */
  readonly miscounted: number;
}

const TALLY = ["opened", "refused", "found", "answered", "reset", "lost", "halves"] as const;
/** Program runs per call and thread: a call holds up the exchange of the tables for as long as it takes. */
const RUNS = 1000;
const TABLE = 4096;
/** A growth takes a tenth of a second, on a busy machine longer; in a data plane that is broken it may have no end. */
const LONGEST_S = 60;
const PATIENCE_S = 3;
/** FIRE_OPENERS / FIRE_WISHES, bpf/bench/growth.h. */
const PODS = 5;

/** Compiles a changed copy of the data plane. */
export function compileChanged(changes: readonly Change[], folder: string): string {
  cpSync(join(ROOT, "bpf"), join(folder, "bpf"), { recursive: true });
  for (const { file, from, to } of changes) {
    const path = join(folder, "bpf", file);
    const parts = readFileSync(path, "utf8").split(from);
    if (parts.length !== 2) throw new Error(`${file}: "${from}" stands there ${parts.length - 1} times`);
    writeFileSync(path, parts.join(to));
  }
  compileBpf("bpf/datapath.bpf.c", "fire.o", folder);
  return join(folder, "fire.o");
}

/** A changed data plane, loaded by the loader into `bpfRoot`. */
export class Fire {
  readonly #loaded: Loaded;
  readonly #bpfRoot: string;
  readonly #queue = new SerialQueue();
  readonly #tables: FlowTables;
  moved = 0;
  swept = 0;

  /** `table`: its first size. `ports`: the last of those that masquerading may choose. */
  constructor(objectPath: string, bpfRoot: string, { table = TABLE, first = 61000, last = 61035 } = {}) {
    this.#bpfRoot = bpfRoot;
    this.#loaded = load({
      objectPath,
      bpfRoot,
      sizes: { flows: table, replies: table, ipcache: 16, events: 4096 },
      config: {
        ...ALL_ON,
        events: 0,
        portMin: first,
        portMax: last,
        timeoutTcp: 2 ** 30,
        timeoutTcpSyn: 2 ** 30,
        timeoutTcpFin: 1024,
        timeoutAny: 2048,
      },
    });
    using ids = this.#table("endpoint_ids");
    ids.set(0, 1n << 1n);
    using addresses = this.#table("endpoint_addrs");
    for (let pod = 1; pod <= PODS; pod++) {
      const owner = { addr4: `10.244.1.${pod}`, addr6: `fd00:10::af4:10${pod}`, ifindex: 1, id: 1 };
      const macs = { mac: "02:00:00:00:00:01", hostMac: "02:00:00:00:00:02" };
      for (const address of [owner.addr4, owner.addr6])
        addresses.set(address, { ...owner, ...macs, identity: 0, flags: 0 });
    }
    const fd = (name: MapName): number => this.#loaded.maps.get(name)?.fd ?? -1;
    this.#tables = new FlowTables(
      { flows: fd("flows"), replies: fd("replies"), tableUse: fd("table_use") },
      async (budget) => {
        const { moved, removed, left } = await this.#sweep(SweepMode.SWEEP_MOVE, budget);
        this.moved += Number(moved);
        return { moved: Number(moved), removed: Number(removed), left: left !== 0n };
      },
      this.#queue,
    );
  }

  #table(name: MapName): Table<unknown, unknown> {
    const fd = duplicate(this.#loaded.maps.get(name)?.fd ?? -1);
    return new Table(new BpfMap(fd, name), MAPS[name] as never);
  }

  get program(): number {
    return this.programNamed("fire");
  }

  programNamed(name: string): number {
    return (this.#loaded.programs as ReadonlyMap<string, number>).get(name) ?? -1;
  }

  /** fd of a map, the data plane's or one of the fire's. */
  mapFd(name: string): number {
    return (this.#loaded.maps as ReadonlyMap<string, { fd: number }>).get(name)?.fd ?? -1;
  }

  get tables(): FlowTables {
    return this.#tables;
  }

  /** Brings a growth to its end that has been begun by hand. */
  finish(): Promise<void> {
    return this.#tables.finish();
  }

  #sweep(mode: number, budget = 0): Promise<ReturnType<typeof sweepResultCodec.read>> {
    return this.#queue.run(async () => {
      const ctx = new Uint8Array(sweepResultCodec.size);
      const view = new DataView(ctx.buffer);
      sweepResultCodec.write(view, 0, { ...sweepResultCodec.read(view, 0), mode, budget });
      const run = await progTestRunAside({ fd: this.#loaded.programs.get("sweep") ?? -1, ctx });
      return sweepResultCodec.read(new DataView(run.ctx.buffer, run.ctx.byteOffset), 0);
    });
  }

  async sweep(): Promise<void> {
    this.swept += Number((await this.#sweep(0)).removed);
  }

  async grow(hasty: boolean): Promise<void> {
    const size = { flows: TABLE, replies: TABLE };
    await (hasty ? this.#growHastily() : this.#tables.grow(size));
  }

  /** The new tables first, the old ones after them. */
  async #growHastily(): Promise<void> {
    using flows = this.#table("flows");
    using replies = this.#table("replies");
    const { mapById, mapCreate } = await import("../../src/kernel/bpf.ts");
    const { slotSetAside } = await import("../../src/kernel/bpf-aside.ts");
    const outer = [flows, replies];
    const old = outer.map((map) => mapById(Number(map.get(0))));
    const fresh = [56, 24].map((valueSize) =>
      mapCreate({ name: "fresh", type: 1, keySize: 40, valueSize, maxEntries: TABLE }),
    );
    for (const [i, map] of outer.entries()) {
      await slotSetAside(map.map.fd, 0, fresh[i] ?? -1);
      await slotSetAside(map.map.fd, 1, old[i] ?? -1);
    }
    await this.#tables.finish();
  }

  tally(): RaceResult["tally"] {
    const fd = (this.#loaded.maps as ReadonlyMap<string, { fd: number }>).get("tallies")?.fd ?? -1;
    using map = new BpfMap(duplicate(fd), "tallies");
    map.lookup();
    const sum = (field: number): number => {
      let total = 0n;
      for (let cpu = 0; cpu < map.cpus; cpu++)
        total += map.valueView.getBigUint64(cpu * map.stride + field * 8, true);
      return Number(total);
    };
    return Object.fromEntries(TALLY.map((name, field) => [name, sum(field)])) as RaceResult["tally"];
  }

  /** What does not fit together when nothing runs any more. */
  check(): { broken: number; miscounted: number } {
    const [flows, ...oldFlows] = openInner(this.#bpfRoot, "flows");
    const [replies, ...oldReplies] = openInner(this.#bpfRoot, "replies");
    const records = [...(flows?.entries() ?? [])];
    const entries = [...(replies?.entries() ?? [])];
    for (const table of [flows, replies, ...oldFlows, ...oldReplies]) table?.close();
    const named = new Map(
      entries.map(([tuple, { saddr, sport }]) => [
        `${tuple.proto} ${tuple.saddr} ${tuple.sport} ${tuple.daddr} ${tuple.dport}`,
        `${saddr} ${sport}`,
      ]),
    );
    let broken = oldFlows.length + oldReplies.length;
    for (const [key, flow] of records) {
      const tuple = `${key.proto} ${flow.xdaddr} ${flow.xdport} ${flow.xsaddr} ${flow.xsport}`;
      if (named.get(tuple) === `${key.saddr} ${key.sport}`) named.delete(tuple);
      else broken++;
    }
    using owners = this.#table("owners") as Table<number, { flows: number }>;
    const counted = owners.get(1)?.flows ?? 0;
    using use = this.#table("table_use") as Table<number, bigint>;
    const all = Number(use.get(0));
    const miscounted = Math.abs(counted - records.length) + Math.abs(all - records.length);
    return { broken: broken + named.size, miscounted };
  }

  /** Ends a growth that cannot come to its end: records that are in both tables stay in both. */
  giveUp(): void {
    this.#tables.close();
  }

  close(): void {
    void this.#queue.idle().then(() => closeLoaded(this.#loaded));
  }
}

/** Runs one variant for some seconds, and on until `enough` has happened, for a minute at most. */
export async function race(
  name: string,
  seconds: number,
  enough: (soFar: Omit<RaceResult, "broken" | "miscounted">) => boolean = () => true,
): Promise<RaceResult> {
  const variant = VARIANTS[name];
  if (variant === undefined) throw new Error(`no variant is called "${name}"`);
  const folder = mkdtempSync(join(tmpdir(), "hlb-race-"));
  const bpfRoot = join(folder, "bpffs");
  mountBpffs(bpfRoot);
  const workers = startWorkers(availableParallelism());
  try {
    const fire = new Fire(
      compileChanged([...FIRE, ...DAWDLE, ...variant.changes], folder),
      join(bpfRoot, "race"),
    );
    const until = performance.now() + seconds * 1000;
    const latest = until + LONGEST_S * 1000;
    let growths = 0;
    let hung = false;
    let running = true;
    let flushed = 0;
    const shooting = (async () => {
      while (running) await runTogether(workers, fire.program, RUNS);
    })();
    const flushing = (async () => {
      while (running && variant.flush) flushed += await variant.flush(join(bpfRoot, "race"));
    })();
    const soFar = () => ({ tally: fire.tally(), growths, moved: fire.moved, swept: fire.swept, flushed });
    const giveUp = (): void => {
      hung = true;
      fire.giveUp();
    };
    const over = (now: number): boolean => hung || (now > until && (enough(soFar()) || now > latest));
    while (!over(performance.now())) {
      const patience = setTimeout(giveUp, 1000 * (variant.sound ? LONGEST_S : PATIENCE_S));
      await fire.grow(variant.hasty ?? false);
      clearTimeout(patience);
      growths++;
      await fire.sweep();
    }
    fire.giveUp();
    running = false;
    await Promise.all([shooting, flushing]);
    const result = { ...soFar(), ...fire.check() };
    fire.close();
    return result;
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
    unmount(bpfRoot, { lazy: true });
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Whether anything went wrong. */
export function wrongs({ tally, broken, miscounted }: RaceResult): number {
  return tally.lost + tally.halves + broken + miscounted;
}

if (import.meta.main || process.argv[1]?.endsWith("bench.ts")) {
  const { values } = parseArgs({
    options: { seconds: { type: "string", default: "10" }, only: { type: "string" } },
  });
  mkdirSync(join(ROOT, "build/bench"), { recursive: true });
  const columns = ["growths", "moved", "swept", "flushed", ...TALLY, "half flows left", "miscounted"];
  console.log(`| variant | ${columns.join(" | ")} |\n|---|${columns.map(() => "---|").join("")}`);
  for (const name of Object.keys(VARIANTS).filter((each) => each === (values.only ?? each))) {
    const result = await race(name, Number(values.seconds));
    const { growths, moved, swept, flushed, tally, broken, miscounted } = result;
    const row = [
      name,
      growths,
      moved,
      swept,
      flushed,
      ...TALLY.map((each) => tally[each]),
      broken,
      miscounted,
    ];
    console.log(`| ${row.join(" | ")} |`);
    if (wrongs(result) > 0 === (VARIANTS[name]?.sound ?? false)) process.exitCode = 1;
  }
}
