// SPDX-License-Identifier: Apache-2.0
// What is remembered of a packet for the rest of its tick: which packets are told the same, which go the whole way, and that
// nothing of it outlives the tick.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { pinThread } from "../../bench/object.ts";
import { FlowState } from "../../src/maps/gen/verdict.ts";
import type { RunResult } from "../support/datapath.ts";
import type { Packet } from "../support/packet.ts";
import { differences } from "../support/packet-fields.ts";
import { BY_NARROW, INTERNET, NODE, POD_A, POD_B } from "../support/packet-node.ts";
import { type Bench, reset } from "../support/packet-rows.ts";
import {
  FAMILIES,
  type Family,
  fromNet,
  fromPodA,
  fromPodB,
  GRE,
  Rig,
  SERVICE_PORT,
  TCP,
  toPodA,
  UDP,
} from "../support/transports.ts";

const PORT = 47000;
let rig: Rig;
let bench: Bench;
before(() => {
  // What is remembered on one processor is forgotten there: none of these packets may come by another.
  pinThread(0);
  rig = new Rig();
  bench = rig.load();
});
beforeEach(() => reset(bench));
after(() => rig?.close());

function out(packet: Packet, device: "hla" | "hlb" = "hla"): RunResult {
  return bench.datapath.run("from_pod", packet.bytes(), { ifindex: bench.devices[device] });
}

function back(packet: Packet): RunResult {
  return bench.datapath.run("from_net", packet.bytes(), { ifindex: bench.devices.eth0 });
}

/** Runs `attempt` until both of its packets met the same tick: `recalled` says so, by what only memory can explain. */
function inOneTick(attempt: () => boolean): void {
  for (let tries = 0; tries < 20; tries++) {
    reset(bench);
    if (attempt()) return;
  }
  assert.fail("no two packets in 20 pairs were told the same without the flow table");
}

const udp = (family: Family, more = false): Packet =>
  (more ? UDP.more : UDP.open)(fromPodA(family, POD_A, INTERNET), PORT, family);

for (const family of FAMILIES) {
  test(`IPv${family} later packet of the tick is translated without asking the table`, () => {
    inOneTick(() => {
      assert.equal(out(udp(family)).verdict, "redirect");
      bench.datapath.flows.clear();
      const again = out(udp(family, true));
      if (bench.datapath.flows.entries().length > 0) return false;
      const expected = UDP.more(fromPodA(family, NODE, INTERNET, 63), PORT, family);
      assert.deepEqual(differences(expected.bytes(), again.packet), []);
      return true;
    });
  });

  test(`IPv${family} answer of the tick is delivered without asking the table`, () => {
    inOneTick(() => {
      out(udp(family));
      const answer = UDP.answer(fromNet(family, INTERNET, NODE), PORT, family);
      assert.equal(back(answer).verdict, "redirect");
      bench.datapath.flows.clear();
      const again = back(answer);
      if (again.verdict !== "redirect") return false;
      const expected = UDP.answer(toPodA(family, INTERNET, POD_A, 63), PORT, family);
      assert.deepEqual(differences(expected.bytes(), again.packet), []);
      return true;
    });
  });

  test(`IPv${family} packets of a protocol without ports are told the same, both ways`, () => {
    const first = GRE.open(fromNet(family, INTERNET, POD_B), 0, family);
    const answer = GRE.answer(fromPodB(family, POD_B, INTERNET), 0, family);
    inOneTick(() => {
      for (const [packet, run] of [
        [first, back],
        [answer, (p: Packet) => out(p, "hlb")],
      ] as const) {
        assert.equal(run(packet).verdict, "redirect");
      }
      bench.datapath.flows.clear();
      return (
        [out(answer, "hlb"), back(first)].every(({ verdict }) => verdict === "redirect") &&
        bench.datapath.flows.entries().length === 0
      );
    });
  });

  test(`IPv${family} nothing is remembered in the next tick`, () => {
    out(udp(family));
    bench.datapath.flows.clear();
    bench.datapath.forget();
    assert.equal(out(udp(family, true)).verdict, "redirect");
    assert.equal(bench.datapath.flows.entries().length, 1, "the packet opened a flow anew");
  });

  test(`IPv${family} another pod is not told what pod a was`, () => {
    out(udp(family));
    const forged = out(udp(family, true), "hlb");
    assert.equal(forged.verdict, "drop");
  });

  test(`IPv${family} packets that close or reset go the whole way`, () => {
    const tcp = (flags: string): Packet =>
      fromPodA(family, POD_A, INTERNET).tcp({ sport: PORT, dport: SERVICE_PORT, flags });
    const state = (): number => bench.datapath.flows.entries()[0]?.[1].state ?? 0;
    for (const flags of ["S", "A", "A"]) out(tcp(flags));
    assert.equal(state() & FlowState.FLOW_OPENER_FIN, 0);
    out(tcp("FA"));
    assert.ok(state() & FlowState.FLOW_OPENER_FIN);
    out(tcp("R"));
    assert.ok(state() & FlowState.FLOW_RESET);
  });

  test(`IPv${family} a reset makes what was remembered forgotten`, () => {
    const net = (flags: string): Packet =>
      fromNet(family, INTERNET, NODE).tcp({ sport: SERVICE_PORT, dport: PORT, flags });
    inOneTick(() => {
      out(TCP.open(fromPodA(family, POD_A, INTERNET), PORT, family));
      for (const flags of ["SA", "A"]) assert.equal(back(net(flags)).verdict, "redirect");
      bench.datapath.flows.clear();
      const remembered = back(net("A")).verdict === "redirect";
      back(net("R"));
      assert.equal(back(net("A")).verdict, "pass");
      return remembered;
    });
  });

  test(`IPv${family} packet larger than the way's MTU goes the whole way, to the stack`, () => {
    const small = UDP.open(fromPodA(family, POD_A, BY_NARROW), PORT, family);
    assert.equal(out(small).verdict, "redirect");
    assert.equal(out(small.payload("x".repeat(1300))).verdict, "pass");
  });

  test(`IPv${family} packet with its TTL used up goes the whole way, to the stack`, () => {
    assert.equal(out(udp(family)).verdict, "redirect");
    assert.equal(out(UDP.more(fromPodA(family, POD_A, INTERNET, 1), PORT, family)).verdict, "pass");
  });
}

test("the same tuple from the net is not what the pod was told", () => {
  out(TCP.open(fromPodA(4, POD_A, POD_B), PORT, 4));
  out(TCP.more(fromPodA(4, POD_A, POD_B), PORT, 4));
  const forged = back(TCP.more(fromNet(4, POD_A, POD_B), PORT, 4));
  assert.equal(forged.verdict, "redirect");
  assert.equal(bench.datapath.flows.entries().length, 1);
});
