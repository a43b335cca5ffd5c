// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { waitFor } from "../base/async.ts";
import { type Prefix, parsePrefix } from "../base/prefix.ts";
import { MapType, mapCreate } from "../kernel/bpf.ts";
import { BpfMap } from "../kernel/bpf-map.ts";
import { duplicate } from "../kernel/ffi.ts";
import { prefixCodec, u32Codec, u64Codec } from "./codec.ts";
import { Reconciler } from "./reconcile.ts";
import { Table } from "./table.ts";

function hash(maxEntries: number): Table<number, bigint> {
  const fd = mapCreate({ name: "hlt_map", type: MapType.hash, keySize: 4, valueSize: 8, maxEntries });
  return new Table(new BpfMap(fd), { key: u32Codec, value: u64Codec });
}

function sharing<K, V>(table: Table<K, V>): Table<K, V> {
  return new Table(new BpfMap(duplicate(table.map.fd), table.name), table.row);
}

const sorted = (table: Table<number, bigint>) => [...table.entries()].sort(([a], [b]) => a - b);

test("a map follows what is desired, and foreign changes are undone", () => {
  using table = hash(10);
  using reconciler = new Reconciler(sharing(table));
  table.set(99, 1n);
  const first = reconciler.setDesired(
    new Map([
      [1, 10n],
      [2, 20n],
    ]),
  );
  assert.deepEqual(sorted(table), [
    [1, 10n],
    [2, 20n],
  ]);
  assert.deepEqual(
    [first.desired, first.realised, first.pending, first.generation, first.lastWrites],
    [2, 2, 0, 1, 3],
  );
  table.set(1, 11n);
  table.set(5, 5n);
  table.delete(2);
  assert.equal(reconciler.sync().lastWrites, 3);
  assert.deepEqual(sorted(table), [
    [1, 10n],
    [2, 20n],
  ]);
  assert.equal(reconciler.sync().lastWrites, 0);
  reconciler.setDesired(new Map());
  assert.deepEqual(sorted(table), []);
});

test("what does not fit stays pending, with the reason, and is written once there is room", async () => {
  using table = hash(2);
  const seen: number[] = [];
  using reconciler = new Reconciler(sharing(table), {
    retryMs: { first: 5, longest: 20 },
    onChange: ({ pending }) => seen.push(pending),
  });
  const status = reconciler.setDesired(
    new Map([
      [1, 1n],
      [2, 2n],
      [3, 3n],
    ]),
  );
  assert.deepEqual([status.desired, status.realised, status.pending], [3, 2, 1]);
  assert.deepEqual(status.failures, [{ key: "3", error: "map.update E2BIG hlt_map (2 of 2 entries)" }]);
  await waitFor("two retries", () => seen.length >= 3);
  assert.ok(seen.every((pending) => pending === 1));
  reconciler.setDesired(
    new Map([
      [2, 2n],
      [3, 3n],
    ]),
  );
  assert.deepEqual(sorted(table), [
    [2, 2n],
    [3, 3n],
  ]);
  assert.equal(reconciler.status().pending, 0);
});

test("a full map is exchanged for another set in one go", () => {
  using table = hash(3);
  using reconciler = new Reconciler(sharing(table));
  reconciler.setDesired(
    new Map([
      [1, 1n],
      [2, 2n],
      [3, 3n],
    ]),
  );
  const status = reconciler.setDesired(
    new Map([
      [4, 4n],
      [5, 5n],
      [6, 6n],
    ]),
  );
  assert.equal(status.pending, 0);
  assert.deepEqual(
    sorted(table).map(([key]) => key),
    [4, 5, 6],
  );
});

test("an entry that no map can hold is refused by name, the others are written", () => {
  using table = hash(3);
  using reconciler = new Reconciler(sharing(table));
  const status = reconciler.setDesired(
    new Map([
      [-1, 1n],
      [2, 2n],
    ]),
  );
  assert.deepEqual([status.desired, status.realised, status.pending], [2, 1, 1]);
  assert.deepEqual(status.failures, [{ key: "-1", error: "-1 does not fit into 32 bits" }]);
  assert.deepEqual(sorted(table), [[2, 2n]]);
});

test("in an array what is not desired is zero", () => {
  const fd = mapCreate({ name: "hlt_array", type: MapType.array, keySize: 4, valueSize: 8, maxEntries: 8 });
  using table = new Table(new BpfMap(fd), { key: u32Codec, value: u64Codec });
  using reconciler = new Reconciler(sharing(table));
  reconciler.setDesired(
    new Map([
      [0, 7n],
      [3, 9n],
      [4, 0n],
    ]),
  );
  assert.deepEqual(
    [...table.entries()].map(([, value]) => value),
    [7n, 0n, 0n, 9n, 0n, 0n, 0n, 0n],
  );
  const status = reconciler.setDesired(new Map([[3, 9n]]));
  assert.deepEqual([table.get(0), table.get(3), status.lastWrites], [0n, 9n, 1]);
});

/** A map of prefixes and its reconciler; `seen` is what a lookup of 10.1.2.3 gave after each write (+) and removal (-). */
function watchedPrefixes(stack: DisposableStack): { reconciler: Reconciler<Prefix, number>; seen: string[] } {
  const spec = {
    name: "hlt_lpm",
    type: MapType.lpmTrie,
    keySize: 20,
    valueSize: 4,
    maxEntries: 10,
    flags: 1,
  };
  const writer = new Table(new BpfMap(mapCreate(spec)), { key: prefixCodec, value: u32Codec });
  const reader = stack.use(sharing(writer));
  const seen: string[] = [];
  const update = writer.map.update.bind(writer.map);
  const remove = writer.map.delete.bind(writer.map);
  const look = (sign: string): number => seen.push(`${sign}${reader.get(parsePrefix("10.1.2.3/32"))}`);
  writer.map.update = (flag) => {
    update(flag);
    look("+");
  };
  writer.map.delete = () => {
    const gone = remove();
    look("-");
    return gone;
  };
  return { reconciler: stack.use(new Reconciler(writer)), seen };
}

const prefixes = (entries: Record<string, number>): Map<Prefix, number> =>
  new Map(Object.entries(entries).map(([prefix, value]) => [parsePrefix(prefix), value]));

test("no lookup misses while one set of prefixes takes the place of another", () => {
  using stack = new DisposableStack();
  const { reconciler, seen } = watchedPrefixes(stack);
  reconciler.setDesired(prefixes({ "10.0.0.0/8": 8 }));
  reconciler.setDesired(prefixes({ "10.0.0.0/9": 9 }));
  assert.deepEqual(seen, ["+8", "+9", "-9"]);
});

test("a prefix that is desired before the shorter ones around it stands before them and goes after them", () => {
  using stack = new DisposableStack();
  const { reconciler, seen } = watchedPrefixes(stack);
  reconciler.setDesired(prefixes({ "0.0.0.0/0": 9, "2001:db8::/32": 7, "::/0": 7, "::/8": 7 }));
  reconciler.setDesired(new Map());
  assert.deepEqual(seen, ["+9", "+9", "+9", "+9", "-9", "-9", "-9", "-undefined"]);
});
