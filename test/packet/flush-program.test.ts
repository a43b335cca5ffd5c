// SPDX-License-Identifier: Apache-2.0
// The program that ends flows is found by its pin, without the agent: it is always the loaded one, and comes back when somebody
// unpins it.
import assert from "node:assert/strict";
import { closeSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { after, test } from "node:test";
import { progInfo } from "../../src/kernel/bpf.ts";
import { mountBpffs, unmount } from "../../src/kernel/mount.ts";
import { type Datapath, openDatapath } from "../../src/loader/datapath.ts";
import { flushFlows } from "../../src/loader/flush.ts";
import { listPins, openPin, programPin, removePins, unpin } from "../../src/maps/pins.ts";
import { ALL_ON, OBJECT } from "../support/datapath.ts";

const bpffs = mkdtempSync(`${tmpdir()}/hlt-bpf-`);
mountBpffs(bpffs);
after(() => {
  unmount(bpffs, { lazy: true });
  rmSync(bpffs, { recursive: true });
});

const bpfRoot = `${bpffs}/node`;
const path = programPin(bpfRoot, "flush");
const open = (): Datapath =>
  openDatapath({ objectPath: OBJECT, bpfRoot, config: ALL_ON, sizes: { events: 65536, ipcache: 100 } });

/** Kernel ids of the pinned program and of the loaded one. */
function ids(datapath: Datapath): [pinned: number, loaded: number | undefined] {
  const fd = openPin(path);
  assert.ok(fd !== undefined, "nothing is pinned");
  const { id } = progInfo(fd, "flush");
  closeSync(fd);
  return [id, datapath.programs().find(({ name }) => name === "flush")?.id];
}

test("the pinned program is the loaded one, whatever is loaded, and is pinned again when somebody has unpinned it", () => {
  using datapath = open();
  const [first, loaded] = ids(datapath);
  assert.equal(first, loaded);
  datapath.reload({ ...ALL_ON, portMin: 2000 });
  const [second, reloaded] = ids(datapath);
  assert.notEqual(second, first);
  assert.equal(second, reloaded);
  unpin(path);
  assert.deepEqual(datapath.restorePins(), [path]);
  assert.deepEqual(ids(datapath), [second, second]);
  assert.deepEqual(readdirSync(`${bpfRoot}/programs`), ["flush"]);
  removePins(bpfRoot);
  assert.deepEqual(listPins(bpfRoot, "programs"), []);
});

test("flows of a data plane that a release without the program has loaded stay, and it is said why", async () => {
  using _ = open();
  unpin(path);
  await assert.rejects(
    flushFlows(bpfRoot, () => true),
    { code: "NO_PROGRAM", message: /start the agent of this one/ },
  );
  removePins(bpfRoot);
});
