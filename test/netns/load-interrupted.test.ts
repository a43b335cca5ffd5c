// SPDX-License-Identifier: Apache-2.0
// A load that signals interrupt: each makes the verifier give up, and so does stopping and continuing the process, which
// debuggers, freezers and batch systems do to an agent.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { after, test } from "node:test";
import { mountBpffs, unmount } from "../../src/kernel/mount.ts";
import { openDatapath } from "../../src/loader/datapath.ts";
import { PROGRAMS } from "../../src/loader/load.ts";
import { removePins } from "../../src/maps/pins.ts";
import { ALL_ON } from "../support/datapath.ts";

const OBJECT = new URL("../../build/datapath.bpf.o", import.meta.url).pathname;

const bpffs = mkdtempSync(`${tmpdir()}/hlt-bpf-`);
mountBpffs(bpffs);
after(() => {
  unmount(bpffs, { lazy: true });
  rmSync(bpffs, { recursive: true });
});

test("is tried again", async () => {
  // Thirty stops of the process that loads, 10 ms apart: more than libbpf's five tries last.
  const stops = `echo; for i in $(seq 30); do kill -STOP ${process.pid}; kill -CONT ${process.pid}; sleep 0.01; done`;
  const child = spawn("sh", ["-c", stops], { stdio: ["ignore", "pipe", "ignore"] });
  const exit = once(child, "exit");
  await once(child.stdout, "data");
  {
    using datapath = openDatapath({ objectPath: OBJECT, bpfRoot: `${bpffs}/node`, config: ALL_ON });
    assert.equal(datapath.programs().length, PROGRAMS.length);
  }
  removePins(`${bpffs}/node`);
  assert.deepEqual(await exit, [0, null]);
});
