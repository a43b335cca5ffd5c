// SPDX-License-Identifier: Apache-2.0
// A first fragment and a later one of its datagram, at the same moment on two processors: whichever sees the other, none is left
// waiting. Without the second look of whoever holds a fragment many rounds leave one.
import assert from "node:assert/strict";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { test } from "node:test";
import { withNetns } from "../../src/kernel/netns.ts";
import { MAPS } from "../../src/maps/gen/maps.ts";
import { FragmentFate } from "../../src/maps/gen/verdict.ts";
import { cut } from "../support/fragments.ts";
import { runRound, startLaterSender } from "../support/later-sender.ts";
import { eth } from "../support/packet.ts";
import { INTERNET, MAC, POD_A } from "../support/packet-node.ts";
import { reset, waiting } from "../support/packet-rows.ts";
import { TestRun } from "../support/test-run.ts";
import { Rig } from "../support/transports.ts";

const ROUNDS = 500;

const skip = availableParallelism() < 2 && "it takes two processors";
test("a later fragment that comes at the very moment of its first is not left behind", { skip }, async () => {
  const rig = new Rig();
  try {
    const bench = rig.load();
    reset(bench);
    const way = { link: eth(MAC.podA, MAC.hostA), src: POD_A[4], dst: INTERNET[4], id: 0 };
    const [first, later] = cut(
      4,
      way,
      (on) => on.udp({ sport: 44000, dport: 80 }).payload(new Uint8Array(600)),
      400,
    );
    assert.ok(first && later);
    const gate = new SharedArrayBuffer(8);
    const rounds = new Int32Array(gate);
    const { netns } = rig.node;
    const job = { program: bench.datapath.program("from_pod"), netns, ifindex: bench.devices.hla };
    const sender = startLaterSender({ ...job, frame: later, rounds: ROUNDS, gate });
    const ended = once(sender, "exit");
    await once(sender, "online");
    const run = new TestRun();
    let left = 0;
    withNetns(netns, () => {
      for (let round = 1; round <= ROUNDS; round++) {
        Atomics.store(rounds, 0, round);
        runRound(run, { ...job, frame: first }, round, 53);
        while (Atomics.load(rounds, 1) < round);
        if (round % 50 > 0) continue;
        left += waiting(bench);
        reset(bench);
      }
    });
    await ended;
    assert.equal(left, 0, `of ${ROUNDS} rounds`);
    const count = (fate: number): number =>
      bench.datapath
        .table(MAPS.frag_counts)
        .getPerCpu(fate)
        .reduce((sum, n) => sum + Number(n), 0);
    assert.equal(count(FragmentFate.FRAGMENT_HELD), count(FragmentFate.FRAGMENT_RELEASED));
    assert.equal(count(FragmentFate.FRAGMENT_ENDED), 0);
  } finally {
    await rig.close();
  }
});
