// SPDX-License-Identifier: Apache-2.0
// Whether pods are told of connections that nobody knows, over the loads of a data plane: not before somebody says again that
// all which decides is in the maps.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { after, test } from "node:test";
import { mountBpffs, unmount } from "../kernel/mount.ts";
import { nodeConfigCodec } from "../maps/gen/config.ts";
import { permitResets } from "../maps/resets.ts";
import { openDatapath } from "./datapath.ts";

const OBJECT = new URL("../../build/datapath.bpf.o", import.meta.url).pathname;
const bpffs = mkdtempSync(`${tmpdir()}/hlt-bpf-`);
mountBpffs(bpffs);
after(() => {
  unmount(bpffs, { lazy: true });
  rmSync(bpffs, { recursive: true });
});

test("every load takes the permission back; the counts go on", () => {
  const blank = nodeConfigCodec.read(new DataView(new ArrayBuffer(nodeConfigCodec.size)), 0);
  const config = { ...blank, enableIpv4: 1, portMin: 1024, portMax: 65535 };
  const sizes = { flows: 64, replies: 64, events: 4096, ipcache: 100 };
  const options = { objectPath: OBJECT, bpfRoot: `${bpffs}/node`, config, sizes };
  using first = openDatapath(options);
  using table = first.table("resets");
  assert.equal(table.get(0), 0n, "a new map permits nothing");
  table.set(1, 5n);
  const loads = [() => first.reload({ ...config, events: 1 }), () => openDatapath(options)[Symbol.dispose]()];
  for (const load of loads) {
    permitResets(table, true);
    assert.equal(table.get(0), 1n);
    load();
    assert.deepEqual([table.get(0), table.get(1)], [0n, 5n]);
  }
});
