// SPDX-License-Identifier: Apache-2.0
// No pod takes another's room: who holds more than eight times what is free opens nothing more, whether it opens flows itself or
// is flooded from outside, and everybody else goes on, with what he has and with new flows.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { MAPS } from "../../src/maps/gen/maps.ts";
import { DropReason, EventKind } from "../../src/maps/gen/verdict.ts";
import type { Packet } from "../support/packet.ts";
import { ENDPOINT_A, ENDPOINT_B, INTERNET, NODE, POD_A, POD_B, POD_FAR } from "../support/packet-node.ts";
import { type Bench, reset, send } from "../support/packet-rows.ts";
import { FAMILIES, type Family, fromNet, fromPodA, fromPodB, Rig, TCP, UDP } from "../support/transports.ts";

const SIZE = 900;
/** Of 900: the largest n with n - 1 <= 8 * (900 - (n - 1)). */
const SHARE = 801;
const FIRST = 20_000;
let rig: Rig;
let bench: Bench;
before(() => {
  rig = new Rig();
  bench = rig.load(undefined, SIZE);
});
beforeEach(() => reset(bench));
after(() => rig?.close());

const counted = (id: number) => bench.datapath.table(MAPS.owners).get(id);

/** Sends first packets until one is dropped; gives how many got through. */
function flood(
  hook: "from_pod" | "from_net",
  device: "hla" | "eth0",
  packet: (port: number) => Packet,
): number {
  for (let n = 0; n < SIZE; n++) {
    if (send(bench, hook, device, packet(FIRST + n)) === "drop") return n;
  }
  return SIZE;
}

const fromA = (f: Family, port: number): Packet => UDP.open(fromPodA(f, POD_A, INTERNET), port, f);
const fromB = (f: Family, port: number): Packet => UDP.open(fromPodB(f, POD_B, INTERNET), port, f);
const towardsA = (f: Family, port: number): Packet => TCP.open(fromNet(f, POD_FAR, POD_A), port, f);
const towardsB = (f: Family, port: number): Packet => TCP.open(fromNet(f, POD_FAR, POD_B), port, f);

for (const f of FAMILIES) {
  describe(`IPv${f}`, () => {
    const floods = [
      ["opens flows without end", () => flood("from_pod", "hla", (port) => fromA(f, port))],
      ["is flooded from outside", () => flood("from_net", "eth0", (port) => towardsA(f, port))],
    ] as const;
    for (const [what, fill] of floods) {
      test(`a pod that ${what} leaves a ninth of the table to its neighbours`, () => {
        assert.equal(send(bench, "from_pod", "hlb", fromB(f, 1024)), "redirect");
        const own = 1;
        const got = fill();
        assert.equal(got, SHARE - own, "one record is the neighbour's");
        const drops = bench.datapath.events().filter((event) => event.kind === EventKind.EVENT_DROP);
        assert.deepEqual(
          drops.map(({ reason, endpoint }) => [reason, endpoint]),
          [[DropReason.DROP_CT_INSERT_FAILED, ENDPOINT_A]],
        );
        assert.deepEqual(counted(ENDPOINT_A), { flows: got, refused: 1 });
        bench.datapath.forget();
        // What it has goes on, and so does the neighbour, with old and new flows of both directions.
        const first = what === "is flooded from outside" ? towardsA(f, FIRST) : fromA(f, FIRST);
        const [hook, device] =
          what === "is flooded from outside"
            ? (["from_net", "eth0"] as const)
            : (["from_pod", "hla"] as const);
        assert.equal(send(bench, hook, device, first), "redirect");
        assert.equal(send(bench, "from_pod", "hlb", fromB(f, 1024)), "redirect");
        const back = UDP.answer(fromNet(f, INTERNET, NODE), 1024, f);
        assert.equal(send(bench, "from_net", "eth0", back), "redirect");
        for (let n = 1; n <= 40; n++) {
          assert.equal(send(bench, "from_pod", "hlb", fromB(f, 1024 + n)), "redirect", `flow ${n}`);
          assert.equal(send(bench, "from_net", "eth0", towardsB(f, 1024 + n)), "redirect", `flow ${n}`);
        }
        assert.deepEqual(counted(ENDPOINT_B), { flows: 81, refused: 0 });
        const more = what === "is flooded from outside" ? towardsA(f, FIRST + SIZE) : fromA(f, FIRST + SIZE);
        assert.equal(send(bench, hook, device, more), "drop");
      });
    }

    test("a pod that has ended flows may open as many again", () => {
      const got = flood("from_pod", "hla", (port) => fromA(f, port));
      assert.equal(got, SHARE);
      for (const [key, flow] of bench.datapath.flows.entries().slice(0, 100)) {
        bench.datapath.flows.set(key, { ...flow, expires: 3 });
      }
      bench.datapath.sweep();
      bench.datapath.forget();
      let again = 0;
      for (let n = 0; n < SIZE; n++) {
        if (send(bench, "from_pod", "hla", fromA(f, 40_000 + n)) === "drop") break;
        again++;
      }
      assert.equal(again, 100);
    });
  });
}

test("a larger table has room for more at once", () => {
  assert.equal(
    flood("from_pod", "hla", (port) => fromA(4, port)),
    SHARE,
  );
  const grown = rig.load(undefined, 90);
  grown.restore();
  const open = (n: number) => send(grown, "from_pod", "hla", fromA(4, FIRST + n));
  let n = 0;
  while (open(n) === "redirect") n++;
  assert.equal(n, 81);
  grown.datapath.grow(SIZE);
  assert.equal(open(n), "redirect");
});
