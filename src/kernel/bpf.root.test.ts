// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { MapType, mapCreate } from "./bpf.ts";
import { BpfMap, UpdateFlag } from "./bpf-map.ts";

function hash(maxEntries: number): BpfMap {
  return new BpfMap(
    mapCreate({ name: "hlt_hash", type: MapType.hash, keySize: 4, valueSize: 8, maxEntries }),
  );
}

test("what is written is read back, overwritten, deleted", () => {
  using map = hash(8);
  map.keyView.setUint32(0, 7, true);
  map.valueView.setBigUint64(0, 99n, true);
  map.update();
  map.valueView.setBigUint64(0, 0n, true);
  assert.ok(map.lookup());
  assert.equal(map.valueView.getBigUint64(0, true), 99n);
  assert.throws(() => map.update(UpdateFlag.noExist), { detail: "map.update EEXIST hlt_hash" });
  assert.ok(map.delete());
  assert.ok(!map.delete());
  assert.ok(!map.lookup());
});

test("a full map says so with its size", () => {
  using map = hash(2);
  const put = (key: number) => {
    map.keyView.setUint32(0, key, true);
    map.update();
  };
  put(1);
  put(2);
  assert.throws(() => put(3), { detail: "map.update E2BIG hlt_hash (2 of 2 entries)" });
});

test("batches give every entry once, whatever the chunk", () => {
  using map = hash(5000);
  for (let i = 0; i < 5000; i++) {
    map.keyView.setUint32(0, i, true);
    map.valueView.setBigUint64(0, BigInt(i) * 3n, true);
    map.update();
  }
  for (const chunk of [1, 100, 8192]) {
    const seen = new Set<number>();
    for (const { keys, values, count } of map.batches(chunk)) {
      const k = new DataView(keys.buffer);
      const v = new DataView(values.buffer);
      for (let i = 0; i < count; i++) {
        const key = k.getUint32(4 * i, true);
        assert.equal(v.getBigUint64(8 * i, true), BigInt(key) * 3n);
        assert.ok(!seen.has(key));
        seen.add(key);
      }
    }
    assert.equal(seen.size, 5000);
  }
});

test("walking by next key visits all", () => {
  using map = hash(10);
  for (let i = 0; i < 10; i++) {
    map.keyView.setUint32(0, i, true);
    map.update();
  }
  let count = 0;
  for (let first = true; map.next(first); first = false) count++;
  assert.equal(count, 10);
});

test("a per-CPU value has one part for each processor", () => {
  using map = new BpfMap(
    mapCreate({ name: "hlt_percpu", type: MapType.percpuArray, keySize: 4, valueSize: 12, maxEntries: 1 }),
  );
  assert.equal(map.stride, 16);
  assert.equal(map.value.length, 16 * map.cpus);
  assert.ok(map.lookup());
});

test("an fd that is no map is refused by name", () => {
  assert.throws(() => new BpfMap(0, "nothing"), {
    code: "KERNEL_REFUSED",
    detail: /object.info EINVAL nothing|object.info EBADF/,
  });
});
