// SPDX-License-Identifier: Apache-2.0
// From 16 Ki to 1 Mi records, as the agent decides it, while all processors open flows of both families and look for earlier ones in
// both directions: each is found, every answer finds its flow, none is refused, and at the end every record has its entry and every
// entry its record, so no two have the same port towards one remote.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { compileChanged, Fire, PROGRAMS, tickOf } from "../../bench/shapes/growth.ts";
import { runTogether, startWorkers } from "../../bench/shapes/worker.ts";
import { firstSize, lookMs, nextSize } from "../../src/agent/table-size.ts";
import { sleep, waitFor } from "../../src/base/async.ts";
import { BpfMap } from "../../src/kernel/bpf-map.ts";
import { duplicate } from "../../src/kernel/ffi.ts";
import { mountBpffs, unmount } from "../../src/kernel/mount.ts";
import { flushFlows } from "../../src/loader/flush.ts";

const MOST = { flows: 1_048_576, replies: 1_048_576 };
/** Beyond 70 % of 256 Ki. */
const FLOWS = 220_000;
/** Program runs per call and thread, and a pause after each: some 50,000 new flows a second. */
const RUNS = 200;
const PAUSE_MS = 8;
const FILLED = 0.85;
/** Its flows live for 73 minutes: none expires on a busy machine. */
const CLOCK = tickOf(12);

test("from 16 Ki to 1 Mi records under traffic nothing is lost", async () => {
  const dir = mkdtempSync(join(tmpdir(), "hlt-million-"));
  const bpffs = join(dir, "bpffs");
  mountBpffs(bpffs);
  const workers = startWorkers(availableParallelism());
  try {
    const table = firstSize(MOST).flows;
    const bpfRoot = join(bpffs, "million");
    const fire = new Fire(compileChanged([CLOCK, PROGRAMS], dir), bpfRoot, {
      table,
      first: 1024,
      last: 65535,
    });
    let running = true;
    const sizes = [table];
    const growing = (async () => {
      while (running) {
        const { records, size } = fire.tables;
        const to = nextSize(records, size, MOST);
        if (to === undefined) await sleep(lookMs(records, size));
        else {
          await fire.tables.grow(to);
          sizes.push(to.flows);
        }
      }
    })();
    const program = fire.programNamed("fire_many");
    using next = new BpfMap(duplicate(fire.mapFd("fire_next")), "fire_next");
    for (let opened = 0; opened < FLOWS; opened += RUNS * workers.length) {
      await runTogether(workers, program, RUNS);
      next.keyView.setUint32(0, 0, true);
      next.lookup();
      next.keyView.setUint32(0, 1, true);
      next.update();
      await sleep(PAUSE_MS);
      // How fast it grows is the benchmark's subject; a busy machine must not fail here.
      while (fire.tables.records > FILLED * fire.tables.size.flows) await sleep(PAUSE_MS);
    }
    await waitFor("the last growth", () => fire.tables.size.flows === MOST.flows);
    running = false;
    await growing;
    const tally = fire.tally();
    assert.deepEqual(sizes, [16_384, 65_536, 262_144, 1_048_576]);
    assert.deepEqual(
      { refused: tally.refused, lost: tally.lost, halves: tally.halves },
      { refused: 0, lost: 0, halves: 0 },
    );
    assert.ok(tally.opened >= FLOWS && tally.found > FLOWS / 2);
    assert.equal(fire.tables.records, tally.opened, "none has gone");
    assert.deepEqual(fire.check(), { broken: 0, miscounted: 0 });
    assert.equal(await flushFlows(bpfRoot, () => true), tally.opened, "all of them can be ended");
    assert.deepEqual([fire.tables.records, fire.check()], [0, { broken: 0, miscounted: 0 }]);
    fire.giveUp();
    fire.close();
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
    unmount(bpffs, { lazy: true });
    rmSync(dir, { recursive: true, force: true });
  }
});
