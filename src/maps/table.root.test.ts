// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { closeSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { after, test } from "node:test";
import { MapType, mapCreate, objPin } from "../kernel/bpf.ts";
import { BpfMap, UpdateFlag } from "../kernel/bpf-map.ts";
import { mountBpffs, unmount } from "../kernel/mount.ts";
import { prefixCodec, u32Codec, u64Codec } from "./codec.ts";
import { MAPS } from "./gen/maps.ts";
import { layoutDifferences, listPins, makePinFolders, mapPin, removePins } from "./pins.ts";
import { openInner, openPinned, Table } from "./table.ts";

const bpffs = mkdtempSync(`${tmpdir()}/hlt-bpf-`);
mountBpffs(bpffs);
after(() => {
  unmount(bpffs, { lazy: true });
  rmSync(bpffs, { recursive: true });
});

test("prefixes of both families are found by the longest match and listed as they were put", () => {
  const spec = {
    name: "hlt_lpm",
    type: MapType.lpmTrie,
    keySize: 20,
    valueSize: 4,
    maxEntries: 10,
    flags: 1,
  };
  using table = new Table(new BpfMap(mapCreate(spec)), { key: prefixCodec, value: u32Codec });
  table.set({ address: "10.0.0.0", length: 8 }, 1);
  table.set({ address: "10.1.0.0", length: 16 }, 2);
  table.set({ address: "fd00::", length: 8 }, 3);
  assert.equal(table.get({ address: "10.1.2.3", length: 32 }), 2);
  assert.equal(table.get({ address: "10.2.2.3", length: 32 }), 1);
  assert.equal(table.get({ address: "fd12::1", length: 128 }), 3);
  assert.equal(table.get({ address: "11.0.0.1", length: 32 }), undefined);
  assert.equal(table.count(), 3);
  assert.deepEqual(
    [...table.entries()].map(([{ address, length }, value]) => `${address}/${length} ${value}`).sort(),
    ["10.0.0.0/8 1", "10.1.0.0/16 2", "fd00::/8 3"],
  );
  assert.ok(table.delete({ address: "10.0.0.0", length: 8 }));
  assert.ok(!table.delete({ address: "10.0.0.0", length: 8 }));
  assert.throws(() => table.set({ address: "10.1.0.0", length: 16 }, 9, UpdateFlag.noExist), {
    detail: /EEXIST/,
  });
});

test("a per-CPU map gives one value for each processor", () => {
  const spec = { name: "hlt_percpu", type: MapType.percpuHash, keySize: 4, valueSize: 8, maxEntries: 4 };
  using table = new Table(new BpfMap(mapCreate(spec)), { key: u32Codec, value: u64Codec });
  table.map.keyView.setUint32(0, 7, true);
  for (let cpu = 0; cpu < table.map.cpus; cpu++)
    table.map.valueView.setBigUint64(8 * cpu, BigInt(cpu + 1), true);
  table.map.update();
  const expected = Array.from({ length: table.map.cpus }, (_, cpu) => BigInt(cpu + 1));
  assert.deepEqual(table.getPerCpu(7), expected);
  assert.deepEqual([...table.entriesPerCpu()], [[7, expected]]);
  assert.equal(table.getPerCpu(8), undefined);
});

test("pinned maps are opened by name, and refused if missing or of another shape", () => {
  const root = `${bpffs}/node`;
  makePinFolders(root);
  assert.throws(() => openPinned(root, "devices"), { code: "NO_PIN", detail: /is the agent running/ });
  const { type, keySize, valueSize, flags } = MAPS.devices;
  const fd = mapCreate({ name: "devices", type, keySize, valueSize, flags, maxEntries: 4 });
  objPin(fd, mapPin(root, "devices"));
  objPin(fd, mapPin(root, "endpoints"));
  closeSync(fd);
  using devices = openPinned(root, "devices");
  const device = { addr4: "192.0.2.1", addr6: "2001:db8::1", mtu: 1500, flags: 0 };
  devices.set(3, device);
  assert.deepEqual(devices.get(3), device);
  assert.throws(() => openPinned(root, "endpoints"), {
    code: "PIN_MISMATCH",
    detail: /value size 40, wanted/,
  });
  removePins(root);
  assert.deepEqual(listPins(root, "maps"), []);
});

test("tables in a map of maps are found by slot", () => {
  const root = `${bpffs}/inner`;
  makePinFolders(root);
  const { type, keySize, valueSize, flags } = MAPS.flows.inner;
  const table = (maxEntries: number) =>
    mapCreate({ name: "flows", type, keySize, valueSize, flags, maxEntries });
  const [small, large] = [table(10), table(20)];
  const { name, maxEntries } = MAPS.flows;
  const spec = { name, type: MAPS.flows.type, keySize: 4, valueSize: 4, maxEntries, innerFd: small };
  using outer = new BpfMap(mapCreate(spec));
  objPin(outer.fd, mapPin(root, "flows"));
  assert.throws(() => openInner(root, "flows"), { code: "NO_SLOT" });
  for (const [slot, fd] of [large, small].entries()) {
    outer.keyView.setUint32(0, slot, true);
    outer.valueView.setUint32(0, fd, true);
    outer.update();
    closeSync(fd);
  }
  const tables = openInner(root, "flows");
  assert.deepEqual(
    tables.map((t) => [t.name, t.maxEntries, t.count()]),
    [
      ["flows[0]", 20, 0],
      ["flows[1]", 10, 0],
    ],
  );
  for (const t of tables) t.close();
  removePins(root);
});

test("how a layout differs is told field by field", () => {
  const layout = { type: 1, keySize: 4, valueSize: 8, flags: 0 };
  assert.deepEqual(layoutDifferences(layout, { ...layout }), []);
  assert.deepEqual(layoutDifferences({ ...layout, flags: 0x8 }, layout), []);
  assert.deepEqual(layoutDifferences(layout, { type: 9, keySize: 4, valueSize: 16, flags: 1 }), [
    "type 1, wanted 9",
    "value size 8, wanted 16",
    "flags 0, wanted 1",
  ]);
});
