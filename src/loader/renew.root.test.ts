// SPDX-License-Identifier: Apache-2.0
// Pins of another release: the same sizes, but other fields. What the agent writes is carried over by the names of the fields
// into new maps, flows are not, and the refusal says what to do.
import assert from "node:assert/strict";
import { closeSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { after, test } from "node:test";
import type { Fault } from "../base/fault.ts";
import { mapCreate, mapInfo } from "../kernel/bpf.ts";
import { BpfMap } from "../kernel/bpf-map.ts";
import { mountBpffs, unmount } from "../kernel/mount.ts";
import { nodeConfigCodec } from "../maps/gen/config.ts";
import { MAPS } from "../maps/gen/maps.ts";
import { mapPin, openPin, pinMap, readLayout, removePins, writeLayout } from "../maps/pins.ts";
import { openPinned } from "../maps/table.ts";
import { openDatapath } from "./datapath.ts";

const OBJECT = new URL("../../build/datapath.bpf.o", import.meta.url).pathname;
const bpffs = mkdtempSync(`${tmpdir()}/hlt-bpf-`);
mountBpffs(bpffs);
after(() => {
  unmount(bpffs, { lazy: true });
  rmSync(bpffs, { recursive: true });
});

let roots = 0;

function options() {
  const blank = nodeConfigCodec.read(new DataView(new ArrayBuffer(nodeConfigCodec.size)), 0);
  const config = { ...blank, enableIpv4: 1, portMin: 1024, portMax: 65535 };
  const sizes = { flows: 64, replies: 64, events: 4096, ipcache: 100 };
  return { objectPath: OBJECT, bpfRoot: `${bpffs}/node${++roots}`, config, sizes };
}

/** As if a release with the fields of prefix_rule the other way round, and one more of the devices, had run here. */
const SWAPPED = "prefix:0:20:struct prefix|source:0:4:__u32,rule:4:4:__u32";

test("a map whose fields have moved is made anew with what it held", () => {
  const o = options();
  openDatapath(o).close();
  const { type, keySize, valueSize, flags } = MAPS.nonmasq_cidrs;
  const fd = mapCreate({ name: "nonmasq_cidrs", type, keySize, valueSize, flags, maxEntries: 8 });
  const old = new BpfMap(fd, "nonmasq_cidrs");
  MAPS.nonmasq_cidrs.key.write(old.keyView, 0, { address: "10.0.0.0", length: 8 });
  old.valueView.setUint32(0, 3, true);
  old.valueView.setUint32(4, 7, true);
  old.update();
  pinMap(o.bpfRoot, { name: "nonmasq_cidrs", fd, layout: SWAPPED });
  assert.throws(
    () => openPinned(o.bpfRoot, "nonmasq_cidrs"),
    { code: "PIN_MISMATCH" },
    "the CLI does not misread it",
  );
  const { id } = old.info;
  old.close();

  using datapath = openDatapath(o);
  const [map] = datapath.maps.filter(({ name }) => name === "nonmasq_cidrs");
  assert.equal(map?.adopted, false);
  using table = openPinned(o.bpfRoot, "nonmasq_cidrs");
  assert.deepEqual(
    [...table.entries()],
    [
      [
        { address: "10.0.0.0", length: 8 },
        { rule: 7, source: 3 },
      ],
    ],
  );
  assert.notEqual(table.map.info.id, id);
  assert.equal(readLayout(o.bpfRoot, "nonmasq_cidrs"), MAPS.nonmasq_cidrs.layout);
  assert.ok(datapath.maps.filter(({ adopted }) => !adopted).length === 1, "all others are taken over");
});

for (const name of ["flows", "replies"] as const) {
  test(`${name} of another layout are refused, and nothing that ran has changed`, () => {
    const o = options();
    openDatapath(o).close();
    const is = MAPS[name].layout.replace(/sport:(\d+):2:__be16/, "sport:$1:2:__u16");
    writeLayout(o.bpfRoot, { name, layout: is });
    const before = openPin(mapPin(o.bpfRoot, name)) ?? -1;
    assert.throws(
      () => openDatapath(o),
      (thrown: Fault) => {
        assert.equal(thrown.code, "LAYOUT_CHANGED");
        assert.match(
          thrown.detail,
          new RegExp(`map ${name} pinned at .*: key field sport is __u16, 2 bytes at 32, wanted __be16`),
        );
        assert.match(thrown.detail, /hookline cleanup/);
        return true;
      },
    );
    const after = openPin(mapPin(o.bpfRoot, name)) ?? -1;
    assert.equal(mapInfo(after).id, mapInfo(before).id);
    closeSync(before);
    closeSync(after);
    removePins(o.bpfRoot);
    assert.equal(existsSync(o.bpfRoot), false);
    openDatapath(o).close();
  });
}

test("pins that say nothing of their layout are taken over by their sizes, and say it from then on", () => {
  const o = options();
  openDatapath(o).close();
  rmSync(`${o.bpfRoot}/layouts/devices`);
  using datapath = openDatapath(o);
  assert.ok(datapath.maps.every(({ adopted }) => adopted));
  assert.equal(readLayout(o.bpfRoot, "devices"), MAPS.devices.layout);
});
