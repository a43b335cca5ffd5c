// SPDX-License-Identifier: Apache-2.0
// Growth as the loader does it: the exchange of the tables, and how the next process goes on where one has died.
import assert from "node:assert/strict";
import { closeSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { after, test } from "node:test";
import { SerialQueue, sleep } from "../../src/base/async.ts";
import type { AdoptedFlow } from "../../src/engine/masquerade/handover.ts";
import { mapById, mapCreate, mapInfo } from "../../src/kernel/bpf.ts";
import { slotSetAside } from "../../src/kernel/bpf-aside.ts";
import { mountBpffs, unmount } from "../../src/kernel/mount.ts";
import { type Datapath, openDatapath } from "../../src/loader/datapath.ts";
import { FlowTables } from "../../src/loader/flow-tables.ts";
import { openInner, type Table } from "../../src/maps/table.ts";
import { ALL_ON, OBJECT } from "../support/datapath.ts";

const bpffs = mkdtempSync(`${tmpdir()}/hlt-bpf-`);
mountBpffs(bpffs);
after(() => {
  unmount(bpffs, { lazy: true });
  rmSync(bpffs, { recursive: true });
});

let roots = 0;

function options() {
  return {
    objectPath: OBJECT,
    bpfRoot: `${bpffs}/node${++roots}`,
    config: ALL_ON,
    sizes: { flows: 1024, replies: 1024, events: 65536, ipcache: 100 },
  };
}

const RECORDS = 700;

/** Puts live flows into the table in use, with their entries, and counts them as the data plane does. */
function fill(datapath: Datapath, bpfRoot: string): void {
  const [flows] = openInner(bpfRoot, "flows");
  const [replies] = openInner(bpfRoot, "replies");
  using use = datapath.table("table_use");
  const [pod, node, far] = ["10.244.1.7", "172.20.0.11", "198.51.100.10"];
  const record = { created: 1, endpoint: 0, proxyPort: 0, service: 0, state: 32, rule: 9, identity: 0 };
  const expires = Number((process.hrtime.bigint() >> 24n) & 0xffff_ffffn) + 100_000;
  for (let port = 1; port <= RECORDS; port++) {
    const key = { saddr: pod, daddr: far, sport: port, dport: 443, proto: 6 };
    const tuple = { saddr: far, daddr: node, sport: 443, dport: port, proto: 6 };
    flows?.set(key, { ...record, xsaddr: node, xdaddr: far, xsport: port, xdport: 443, expires });
    replies?.set(tuple, { saddr: pod, sport: port, service: 0, claim: 1 });
  }
  use.set(0, BigInt(RECORDS));
  flows?.close();
  replies?.close();
}

/** Sizes and entries of what lies in the slots. */
function slots(bpfRoot: string, name: "flows" | "replies"): [size: number, entries: number][] {
  return openInner(bpfRoot, name).map((table) => {
    const found: [number, number] = [table.maxEntries, table.count()];
    table.close();
    return found;
  });
}

function assertGrown(datapath: Datapath, bpfRoot: string, size: number, records = RECORDS): void {
  for (const name of ["flows", "replies"] as const) {
    assert.deepEqual(slots(bpfRoot, name), [[size, records]], name);
  }
  assert.equal(datapath.flowTables.unfinished, false);
  assert.deepEqual(datapath.flowTables.size, { flows: size, replies: size });
  assert.equal(datapath.flowTables.records, records);
  using use = datapath.table("table_use");
  assert.equal(use.get(1), BigInt(size), "the data plane knows");
}

test("the tables grow with their entries, step by step up to a million", async () => {
  const o = options();
  using datapath = openDatapath(o);
  fill(datapath, o.bpfRoot);
  const id = (): number => openInner(o.bpfRoot, "flows")[0]?.map.info.btf.key ?? 0;
  const types = id();
  for (const size of [16_384, 65_536, 1_048_576]) {
    await datapath.flowTables.grow({ flows: size, replies: size });
    assertGrown(datapath, o.bpfRoot, size);
  }
  assert.equal(id(), types, "bpftool can still print the records");
});

type Name = "flows" | "replies";
const BOTH: readonly Name[] = ["flows", "replies"];

/** Puts a table into a slot as growth does: the one of slot 0, or a new one of some size. */
async function put(datapath: Datapath, name: Name, slot: number, size?: number): Promise<void> {
  using outer = datapath.table(name) as unknown as Table<number, number>;
  const old = mapById(outer.get(0) ?? -1);
  const { type, keySize, valueSize, flags } = mapInfo(old, name);
  const fd =
    size === undefined ? old : mapCreate({ name, type, keySize, valueSize, flags, maxEntries: size });
  await slotSetAside(outer.map.fd, slot, fd);
  closeSync(old);
  if (fd !== old) closeSync(fd);
}

const DEATHS: [when: string, announced: readonly Name[], swapped: readonly Name[], size: number][] = [
  ["after the first slot was announced", ["flows"], [], 1024],
  ["after both slots were announced", BOTH, [], 1024],
  ["after the flow table alone was exchanged", BOTH, ["flows"], 4096],
  ["after the index alone was exchanged", BOTH, ["replies"], 4096],
  ["after both were exchanged", BOTH, BOTH, 4096],
];
for (const [when, announced, swapped, size] of DEATHS) {
  test(`an agent that died ${when} is followed by one that brings it to its end`, async () => {
    const o = options();
    {
      using first = openDatapath(o);
      fill(first, o.bpfRoot);
      for (const name of announced) await put(first, name, 1);
      for (const name of swapped) await put(first, name, 0, 4096);
    }
    using second = openDatapath(o);
    assert.equal(second.flowTables.unfinished, true);
    await second.flowTables.finish();
    assertGrown(second, o.bpfRoot, size);
  });
}

test("an agent that died before the index was let go is followed by one that lets it go", async () => {
  const o = options();
  using datapath = openDatapath(o);
  await put(datapath, "replies", 1);
  for (const name of BOTH) await put(datapath, name, 0, 4096);
  fill(datapath, o.bpfRoot);
  assert.equal(datapath.flowTables.unfinished, true);
  await datapath.flowTables.finish();
  assertGrown(datapath, o.bpfRoot, 4096);
});

test("two growths at once come one after the other", async () => {
  const o = options();
  using datapath = openDatapath(o);
  fill(datapath, o.bpfRoot);
  const sizes = [4096, 16_384].map((size) => ({ flows: size, replies: size }));
  await Promise.all(sizes.map((size) => datapath.flowTables.grow(size)));
  assertGrown(datapath, o.bpfRoot, 16_384);
});

test("a table that cannot be made leaves everything as it was", async () => {
  const o = options();
  using datapath = openDatapath(o);
  fill(datapath, o.bpfRoot);
  await assert.rejects(datapath.flowTables.grow({ flows: 4096, replies: 0 }), { code: "KERNEL_REFUSED" });
  assertGrown(datapath, o.bpfRoot, 1024);
});

/** A connection that netfilter translates. */
function translated(port: number): AdoptedFlow {
  const key = { saddr: "10.244.1.8", daddr: "198.51.100.10", sport: port, dport: 443, proto: 6 };
  return { key, xsaddr: "172.20.0.11", xsport: 20_000 + port, endpoint: 0, identity: 0, state: 32 };
}

test("connections taken over from netfilter while the tables grow are there once each, and counted", async () => {
  const o = options();
  using datapath = openDatapath(o);
  fill(datapath, o.bpfRoot);
  let growing = true;
  let size = 2048;
  const flows: AdoptedFlow[] = [];
  const growth = (async () => {
    // Until there was time for some, however the machine shares it out.
    while (size < 16_384 || flows.length <= 50) {
      size *= 2;
      await datapath.flowTables.grow({ flows: size, replies: size });
    }
  })().finally(() => {
    growing = false;
  });
  while (growing) {
    // Some that are new, after some that are known.
    for (let i = 0; i < 10; i++) flows.push(translated(flows.length + 1));
    assert.equal(await datapath.adopt(flows.slice(-20)), 10, `${flows.length}`);
    await sleep(1);
  }
  await growth;
  assert.equal(await datapath.adopt(flows), 0);
  assertGrown(datapath, o.bpfRoot, size, RECORDS + flows.length);
});

test("what user space runs beside a growth meets no exchange that is half done", async () => {
  const o = options();
  using datapath = openDatapath(o);
  using stack = new DisposableStack();
  const outer = BOTH.map((name) => stack.use(datapath.table(name) as unknown as Table<number, number>));
  const alone = new SerialQueue();
  const fds = {
    flows: datapath.map("flows"),
    replies: datapath.map("replies"),
    tableUse: datapath.map("table_use"),
  };
  const tables = new FlowTables(fds, async () => ({ moved: 0, removed: 0, left: false }), alone);
  stack.defer(() => tables.close());
  let growing = true;
  const growth = tables.grow({ flows: 4096, replies: 4096 }).finally(() => {
    growing = false;
  });
  const met = new Set<string>();
  while (growing) {
    // Whether slot 1 of each is empty, holds the table in use, or another one.
    await alone.run(() => {
      const of = (table: Table<number, number>) =>
        table.get(1) === undefined ? "whole" : table.get(1) === table.get(0) ? "announced" : "growing";
      met.add(outer.map(of).join());
    });
    await sleep(1);
  }
  await growth;
  assert.ok(met.has("whole,whole"));
  assert.deepEqual(
    [...met].filter((state) => !["whole,whole", "growing,growing"].includes(state)),
    [],
  );
});
