// SPDX-License-Identifier: Apache-2.0
// Two processors want the same at the moment at which the tables are exchanged, in each order that there is: one stands still
// between taking its table and inserting into it, while the other runs, or stands still as well. In the data plane as it is one of
// them gets it; with one look to the other side left out both do.
import assert from "node:assert/strict";
import { closeSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type Change, compileChanged, FIRE, Fire } from "../../bench/shapes/growth.ts";
import { waitFor } from "../../src/base/async.ts";
import { mapById, mapCreate, mapInfo, progTestRun } from "../../src/kernel/bpf.ts";
import { progTestRunAside, slotSetAside } from "../../src/kernel/bpf-aside.ts";
import { BpfMap } from "../../src/kernel/bpf-map.ts";
import { allocate, duplicate } from "../../src/kernel/ffi.ts";
import { mountBpffs, unmount } from "../../src/kernel/mount.ts";

type Place = "port" | "record";
const HALT: Readonly<Record<Place, Change>> = {
  port: {
    file: "stage/table.h",
    from: "	err = bpf_map_update_elem(table, tuple, mine, BPF_NOEXIST);",
    to: "	halt();\n	err = bpf_map_update_elem(table, tuple, mine, BPF_NOEXIST);",
  },
  record: {
    file: "stage/open.h",
    from: "	err = bpf_map_update_elem(table, &key, &made, BPF_NOEXIST);",
    to: "	halt();\n	err = bpf_map_update_elem(table, &key, &made, BPF_NOEXIST);",
  },
};
/** The look to the other side, left out. */
const BLIND: Readonly<Record<Place, Change>> = {
  port: {
    file: "stage/table.h",
    from: "!bpf_map_lookup_elem(other, tuple))",
    to: "other)",
  },
  record: {
    file: "stage/open.h",
    from: "	return f && flow_alive(f, p->now) && owner_holds(f, p, &key->saddr);",
    to: "	return f && !p;",
  },
};
const INCLUDE: Change = {
  file: "datapath.bpf.c",
  from: '#include "stage/recent.h"',
  to: '#include "bench/halt.h"\n#include "stage/recent.h"',
};

let dir: string;
before(() => {
  dir = mkdtempSync(join(tmpdir(), "hlt-order-"));
});
after(() => rmSync(dir, { recursive: true, force: true }));

/** A data plane that halts at one place. */
class Halted implements Disposable {
  readonly #bpffs: string;
  readonly #fire: Fire;
  readonly #halts: BpfMap;

  constructor(place: Place, changes: readonly Change[]) {
    const folder = mkdtempSync(join(dir, "object-"));
    this.#bpffs = join(folder, "bpffs");
    mountBpffs(this.#bpffs);
    const object = compileChanged([...FIRE, INCLUDE, HALT[place], ...changes], folder);
    this.#fire = new Fire(object, join(this.#bpffs, "order"));
    this.#halts = new BpfMap(duplicate(this.#fire.mapFd("halts")), "halts");
  }

  #run(opener: number, v6: number): Parameters<typeof progTestRun>[0] {
    const ctx = allocate(192);
    new DataView(ctx.buffer).setUint32(8, opener * 2 + v6, true);
    const data = new Uint8Array(64);
    data.set([8, 0, 0x45], 12);
    return { fd: this.#fire.programNamed("fire_one"), data, ctx, repeat: 1 };
  }

  /** The port that the opener's packet leaves under; 0: dropped. */
  now(opener: number, v6: number): number {
    return progTestRun(this.#run(opener, v6)).retval;
  }

  async aside(opener: number, v6: number): Promise<number> {
    return (await progTestRunAside(this.#run(opener, v6))).retval;
  }

  /** The next `tickets` to come by wait; the first has the highest number, and goes on when the second waits. */
  sell(tickets: number): void {
    this.#halts.value.fill(0);
    this.#halts.valueView.setUint32(0, tickets, true);
    this.#halts.update();
  }

  async waiting(ticket: number): Promise<void> {
    await waitFor(
      `ticket ${ticket} to wait`,
      () => {
        this.#halts.lookup();
        return ((this.#halts.valueView.getUint32(4, true) >> ticket) & 1) === 1;
      },
      { intervalMs: 1 },
    );
  }

  open(ticket: number): void {
    this.#halts.lookup();
    this.#halts.valueView.setUint32(8, this.#halts.valueView.getUint32(8, true) | (1 << ticket), true);
    this.#halts.update();
  }

  /** The first half of an exchange: both slots hold the old pair. */
  async announce(): Promise<void> {
    for (const name of ["flows", "replies"]) {
      using outer = new BpfMap(duplicate(this.#fire.mapFd(name)), name);
      outer.keyView.setUint32(0, 0, true);
      outer.lookup();
      const old = mapById(outer.valueView.getUint32(0, true));
      await slotSetAside(outer.fd, 1, old);
      closeSync(old);
    }
  }

  /** The second: slot 0 holds a new pair when this resolves to a promise for the end of the wait. */
  async exchange(): Promise<{ done: Promise<unknown> }> {
    const waits: Promise<void>[] = [];
    for (const name of ["flows", "replies"]) {
      using outer = new BpfMap(duplicate(this.#fire.mapFd(name)), name);
      outer.keyView.setUint32(0, 0, true);
      outer.lookup();
      const id = outer.valueView.getUint32(0, true);
      const old = mapById(id);
      const { type, keySize, valueSize, maxEntries } = mapInfo(old, name);
      closeSync(old);
      const fresh = mapCreate({ name, type, keySize, valueSize, maxEntries });
      waits.push(slotSetAside(outer.fd, 0, fresh).finally(() => closeSync(fresh)));
      await waitFor("the exchange", () => outer.lookup() && outer.valueView.getUint32(0, true) !== id, {
        intervalMs: 1,
      });
    }
    return { done: Promise.all(waits) };
  }

  /** Moves what is left; gives what does not fit together then. What is broken may not come to an end. */
  async end(patienceMs = 60_000): Promise<{ broken: number; miscounted: number }> {
    const patience = setTimeout(() => this.#fire.giveUp(), patienceMs);
    await this.#fire.finish();
    clearTimeout(patience);
    return this.#fire.check();
  }

  [Symbol.dispose](): void {
    this.#halts.close();
    this.#fire.giveUp();
    this.#fire.close();
    unmount(this.#bpffs, { lazy: true });
  }
}

const ONE = 1;
/** Would like to keep the same port, towards the same remote: FIRE_WISHES, bpf/bench/growth.h. */
const OTHER = 9;

/** `first` halts in the old table, the exchange comes, `second` runs in the new one, `first` goes on. */
async function oldWaits(at: Halted, second: number, v6: number): Promise<[number, number]> {
  await at.announce();
  at.sell(1);
  const first = at.aside(ONE, v6);
  await at.waiting(1);
  const { done } = await at.exchange();
  const port = at.now(second, v6);
  at.open(1);
  const result: [number, number] = [await first, port];
  await done;
  return result;
}

/** Both halt, and the one in the old table goes on first, as soon as the other waits: the two may have all processors. */
async function bothWait(at: Halted, second: number, v6: number): Promise<[number, number]> {
  await at.announce();
  at.sell(2);
  const first = at.aside(ONE, v6);
  await at.waiting(2);
  const { done } = await at.exchange();
  const late = at.aside(second, v6);
  const port = await first;
  at.open(1);
  const result: [number, number] = [port, await late];
  await done;
  return result;
}

const ORDERS = [
  ["the new table's goes first", oldWaits],
  ["the old table's goes first", bothWait],
] as const;
for (const [v6, family] of ["IPv4", "IPv6"].entries()) {
  for (const [order, play] of ORDERS) {
    describe(`${family}, ${order}`, () => {
      test("two pods that want the same port get two", async () => {
        using at = new Halted("port", []);
        const [a, b] = await play(at, OTHER, v6);
        assert.ok(a > 0 && b > 0 && a !== b, `${a} and ${b}`);
        assert.deepEqual(await at.end(), { broken: 0, miscounted: 0 });
      });

      test("two first packets of one flow get one record", async () => {
        using at = new Halted("record", []);
        const [a, b] = await play(at, ONE, v6);
        assert.ok(a > 0 && a === b, `${a} and ${b}`);
        assert.deepEqual(await at.end(), { broken: 0, miscounted: 0 });
      });
    });
  }
}

test("without the look to the other side two pods have the same port", async () => {
  using at = new Halted("port", [BLIND.port]);
  const [a, b] = await oldWaits(at, OTHER, 0);
  assert.equal(a, b);
  assert.notEqual((await at.end(1000)).broken, 0);
});

test("without the look to the other side one flow has two records", async () => {
  using at = new Halted("record", [BLIND.record]);
  const [a, b] = await oldWaits(at, ONE, 0);
  assert.notEqual(a, b);
});
