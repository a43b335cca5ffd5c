// SPDX-License-Identifier: Apache-2.0
// A kernel that lacks what the data plane requires is refused with the names of what it lacks, and nothing stays pinned.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { after, test } from "node:test";
import type { Fault } from "../../src/base/fault.ts";
import { missingFeatures, probe } from "../../src/kernel/features.ts";
import { mountBpffs, unmount } from "../../src/kernel/mount.ts";
import { openDatapath } from "../../src/loader/datapath.ts";
import { listPins } from "../../src/maps/pins.ts";
import { ALL_ON, OBJECT } from "../support/datapath.ts";

const lacks = missingFeatures(probe());
const folder = mkdtempSync(`${tmpdir()}/hlt-old-`);
const bpfRoot = `${folder}/bpf`;
mountBpffs(bpfRoot);

after(() => {
  unmount(bpfRoot, { lazy: true });
  rmSync(folder, { recursive: true });
});

test("the load is refused with what the kernel lacks", {
  skip: lacks.length === 0 && "it lacks nothing",
}, () => {
  assert.throws(
    () => openDatapath({ objectPath: OBJECT, bpfRoot, config: ALL_ON, logFolder: folder }),
    (fault: Fault) => {
      assert.equal(fault.code, "KERNEL_LACKS", fault.message);
      for (const line of lacks) assert.ok(fault.detail.includes(line), `${fault.detail}\nlacks: ${line}`);
      return true;
    },
  );
  assert.deepEqual(listPins(bpfRoot, "maps"), []);
});
