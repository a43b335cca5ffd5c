// SPDX-License-Identifier: Apache-2.0
// Frames as devices hand them over: checksums and segments that are left to the device, packets whose headers lie outside the linear
// part of the buffer, and VLAN tags. Over cables, because a test run builds none of these.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { waitFor } from "../../src/base/async.ts";
import { isErrno } from "../../src/kernel/errno.ts";
import { DropReason, FlowState, Hook } from "../../src/maps/gen/verdict.ts";
import { cablesOf, type OffloadEnd, PagesEnd } from "../support/cable.ts";
import { isOurs, L4, leftToDevice, SEGMENTS, SUM_AT, summed } from "../support/offload.ts";
import { openTranslated } from "../support/opened-flow.ts";
import { eth, type Packet } from "../support/packet.ts";
import { corpus } from "../support/packet-corpus.ts";
import { differences } from "../support/packet-fields.ts";
import { INTERNET, MAC, NODE, POD_A, POD_B } from "../support/packet-node.ts";
import { readShape } from "../support/packet-oracle.ts";
import { type Bench, reset } from "../support/packet-rows.ts";
import {
  FAMILIES,
  type Family,
  forAll,
  fromNet,
  fromPodA,
  Rig,
  SERVICE_PORT,
  TCP,
  type Transport,
  toPodA,
  UDP,
} from "../support/transports.ts";

const PORT = 44000;
/** The port that pod a's flow has on the node. */
const XPORT = 53000;

let rig: Rig;
let bench: Bench;
let pod: OffloadEnd;
let net: OffloadEnd;
before(() => {
  rig = new Rig();
  bench = rig.load();
  ({ pod, net } = cablesOf(rig.node, (hook) => bench.datapath.program(hook)));
});
after(async () => {
  pod?.[Symbol.dispose]();
  net?.[Symbol.dispose]();
  await rig?.close();
});

function open(family: Family, transport: Transport): void {
  reset(bench);
  openTranslated(bench, { family, transport, port: PORT, xport: XPORT });
  bench.datapath.forget();
}

const BODY = new Uint8Array(3000).map((_, i) => i);

/** Tried, not concluded from a version. */
function sendsUdpSegments(): boolean {
  const { frame, offload } = leftToDevice(
    fromPodA(4, POD_B, INTERNET).udp({ sport: 1, dport: 1 }).payload(BODY),
    4,
    "UDP",
  );
  try {
    pod.send(frame, { ...offload, gsoType: SEGMENTS.UDP[4], gsoSize: 1000 });
    return true;
  } catch (thrown) {
    if (isErrno(thrown, "EINVAL")) return false;
    throw thrown;
  }
}

for (const f of FAMILIES) {
  for (const t of [TCP, UDP]) {
    const name = t.name as "TCP" | "UDP";
    for (const [what, body, gso] of [
      ["checksum is left to the device", "odd", {}],
      ["segments are left to the device", BODY, { gsoType: SEGMENTS[name][f], gsoSize: 1000 }],
    ] as const) {
      const say = (on: Packet, sport: number, dport: number): Packet =>
        (t === TCP ? on.tcp({ sport, dport, flags: "A" }) : on.udp({ sport, dport })).payload(body);
      test(`IPv${f} ${name} whose ${what}, out and back`, async (test) => {
        if (what.startsWith("segments") && t === UDP && !sendsUdpSegments())
          return test.skip("packet sockets of this kernel send no UDP segments (since 6.2)");
        open(f, t);
        const sent = leftToDevice(say(fromPodA(f, POD_A, INTERNET), PORT, SERVICE_PORT), f, name);
        pod.send(sent.frame, { ...sent.offload, ...gso });
        const out = await net.receive(isOurs);
        const wanted = { sumFrom: L4[f], sumAt: SUM_AT[name], gsoType: 0, gsoSize: 0, ...gso };
        assert.deepEqual(out.offload, wanted);
        const left = eth(MAC.eth0, MAC.gateway).ip({ src: NODE[f], dst: INTERNET[f], ttl: 63 });
        const away = say(left, XPORT, SERVICE_PORT).bytes();
        assert.deepEqual(differences(away, summed(out.frame, out.offload)), []);

        const answer = leftToDevice(say(fromNet(f, INTERNET, NODE), SERVICE_PORT, XPORT), f, name);
        net.send(answer.frame, { ...answer.offload, ...gso });
        const back = await pod.receive(isOurs);
        assert.deepEqual(back.offload, wanted);
        const home = say(toPodA(f, INTERNET, POD_A, 63), SERVICE_PORT, PORT).bytes();
        assert.deepEqual(differences(home, summed(back.frame, back.offload)), []);
      });
    }
  }
}

for (const { f, t } of forAll((f, t) => ({ f, t }))) {
  test(`IPv${f} ${t.name} with all headers outside the linear part, out and back`, async () => {
    open(f, t);
    using podPages = new PagesEnd(rig.node, "hla");
    using netPages = new PagesEnd(rig.node, "eth0");
    podPages.send(t.more(fromPodA(f, POD_A, INTERNET), PORT, f).bytes());
    const out = await net.receive(isOurs);
    const left = eth(MAC.eth0, MAC.gateway).ip({ src: NODE[f], dst: INTERNET[f], ttl: 63 });
    assert.deepEqual(differences(t.more(left, XPORT, f).bytes(), out.frame), []);
    netPages.send(t.answer(fromNet(f, INTERNET, NODE), XPORT, f).bytes());
    const back = await pod.receive(isOurs);
    assert.deepEqual(differences(t.answer(toPodA(f, INTERNET, POD_A, 63), PORT, f).bytes(), back.frame), []);
  });

  test(`IPv${f} ${t.name} quoted by an error outside the linear part`, async () => {
    open(f, t);
    using netPages = new PagesEnd(rig.node, "eth0");
    const error = (on: Packet, src: typeof NODE, port: number): Packet =>
      on.icmp({ type: f === 4 ? 3 : 1, code: 1 }).payload(
        t
          .more(eth().ip({ src: src[f], dst: INTERNET[f] }), port, f)
          .bytes()
          .subarray(14),
      );
    netPages.send(error(fromNet(f, INTERNET, NODE), NODE, XPORT).bytes());
    const back = await pod.receive(isOurs);
    assert.deepEqual(differences(error(toPodA(f, INTERNET, POD_A, 63), POD_A, PORT).bytes(), back.frame), []);
  });
}

/** With tags behind the addresses, outermost first. */
function tagged(frame: Uint8Array, ...tags: number[]): Uint8Array {
  const bytes = tags.flatMap((tag) => [0x81, 0x00, tag >> 8, tag & 0xff]);
  return new Uint8Array(Buffer.concat([frame.subarray(0, 12), Uint8Array.from(bytes), frame.subarray(12)]));
}

/** VLAN 0: the tag carries a priority only. */
const PRIORITY = 0xa000;

for (const f of FAMILIES) {
  test(`IPv${f} frame with a priority tag is as one without, out and back`, async () => {
    reset(bench);
    pod.send(tagged(TCP.open(fromPodA(f, POD_A, INTERNET), PORT, f).bytes(), PRIORITY));
    const out = await net.receive(isOurs);
    const left = eth(MAC.eth0, MAC.gateway).ip({ src: NODE[f], dst: INTERNET[f], ttl: 63 });
    assert.deepEqual(differences(TCP.open(left, PORT, f).bytes(), out.frame), []);
    net.send(tagged(TCP.answer(fromNet(f, INTERNET, NODE), PORT, f).bytes(), PRIORITY));
    const back = await pod.receive(isOurs);
    assert.deepEqual(
      differences(TCP.answer(toPodA(f, INTERNET, POD_A, 63), PORT, f).bytes(), back.frame),
      [],
    );
    const state = bench.datapath.flows.entries()[0]?.[1].state ?? 0;
    assert.ok(state & FlowState.FLOW_REPLIED);
  });

  test(`IPv${f} frame of a pod with two priority tags does not get past the rules`, async () => {
    reset(bench);
    const count = (reason: number): bigint => bench.datapath.counter(Hook.HOOK_FROM_POD, reason).packets;
    const before = count(DropReason.DROP_UNSUPPORTED_L3);
    pod.send(tagged(TCP.open(fromPodA(f, POD_A, INTERNET), PORT, f).bytes(), PRIORITY, PRIORITY));
    await waitFor("the frame to be dropped", () => count(DropReason.DROP_UNSUPPORTED_L3) === before + 1n);
  });

  test(`IPv${f} frame of another VLAN is that VLAN's device's`, async () => {
    reset(bench);
    const count = (): bigint => bench.datapath.counter(Hook.HOOK_FROM_POD, DropReason.FORWARDED).packets;
    const before = count();
    pod.send(tagged(TCP.open(fromPodA(f, POD_A, INTERNET), PORT, f).bytes(), 5));
    await waitFor("the frame to be counted", () => count() > before);
    assert.deepEqual(bench.datapath.flows.entries(), []);
  });
}

test("the corpus outside the linear part: what is dropped there is what is dropped within", async () => {
  reset(bench);
  using pages = new PagesEnd(rig.node, "hla");
  const lying = [DropReason.DROP_INVALID, DropReason.DROP_CT_INVALID_HDR, DropReason.DROP_INVALID_EXTHDR];
  const sum = (reasons: readonly number[]): number =>
    reasons
      .map((reason) => Number(bench.datapath.counter(Hook.HOOK_FROM_POD, reason).packets))
      .reduce((all, packets) => all + packets, 0);
  const before = [sum(lying), sum(Object.values(DropReason))] as const;
  const cases = [...corpus(1, 120_000)].filter(({ bytes }, i) => i % 53 === 0 && bytes.length < 1514);
  const kinds = cases.map(({ bytes }) => readShape(bytes).kind);
  for (const { bytes } of cases) {
    await waitFor("room in the ring", () => pages.ready, { intervalMs: 1 });
    pages.send(bytes);
  }
  await waitFor("all to be seen", () => sum(Object.values(DropReason)) - before[1] >= cases.length);
  assert.equal(sum(lying) - before[0], kinds.filter((kind) => kind === "malformed").length);
  bench.datapath.events();
});
