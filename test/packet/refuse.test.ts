// SPDX-License-Identifier: Apache-2.0
// A pod's TCP segment of a connection that no record knows is dropped, and the pod gets the RST that RFC 9293 3.10.7.1 asks for,
// whatever stood in the segment and however it was handed over; and where it gets none.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { MAPS } from "../../src/maps/gen/maps.ts";
import { DropReason, Hook } from "../../src/maps/gen/verdict.ts";
import { attachIngress, FarEnd, OffloadEnd, PagesEnd } from "../support/cable.ts";
import { ALL_ON, longAgo } from "../support/datapath.ts";
import { isOurs, L4, leftToDevice, SEGMENTS, SUM_AT, summed } from "../support/offload.ts";
import { eth, type Packet, type Tcp } from "../support/packet.ts";
import { differences } from "../support/packet-fields.ts";
import { EXCLUDED, INTERNET, MAC, POD_A, POD_B, POD_FAR } from "../support/packet-node.ts";
import { type Bench, type Expectation, type Row, reset, runRows, send } from "../support/packet-rows.ts";
import {
  FAMILIES,
  type Family,
  fromPodA,
  PING,
  Rig,
  SERVICE_PORT,
  TCP,
  toNet,
  UDP,
} from "../support/transports.ts";

const PORT = 45000;
const [SEQ, ACK] = [0xffff_fff0, 0x8000_0001];

let rig: Rig;
let bench: Bench;
let plain: Bench;
let withheld: Bench;
let pod: OffloadEnd;
before(() => {
  rig = new Rig();
  bench = rig.load();
  plain = rig.load({ ...ALL_ON, hostRouting: 0 });
  withheld = rig.load();
  bench.datapath.permitResets();
  plain.datapath.permitResets();
  attachIngress(rig.node, "hla", bench.datapath.program("from_pod"));
  pod = new OffloadEnd(rig.node, "hla");
});
after(async () => {
  pod?.[Symbol.dispose]();
  await rig?.close();
});

/** From pod a to the internet, with what stands before the transport header. */
type Headers = (f: Family) => Packet;
const toInternet: Headers = (f) => fromPodA(f, POD_A, INTERNET);

/** A segment of pod a. */
const segment = (f: Family, tcp: Partial<Tcp>, headers = toInternet): Packet =>
  headers(f).tcp({ sport: PORT, dport: SERVICE_PORT, flags: "A", seq: SEQ, ack: ACK, ...tcp });

/** The answer to it. */
function answer(f: Family, tcp: Partial<Tcp>): Packet {
  const ends = { src: INTERNET[f], dst: POD_A[f] };
  const on = eth(MAC.hostA, MAC.podA);
  const headed = f === 4 ? on.ipv4({ ...ends, id: 0 }) : on.ipv6({ ...ends, label: 0 });
  return headed.tcp({ sport: SERVICE_PORT, dport: PORT, flags: "R", ack: 0, window: 0, ...tcp });
}

const dropped: Expectation = { verdict: "drop", reason: "DROP_CT_CANT_CREATE" };
const none = (entries: unknown[]): void => assert.deepEqual(entries, []);
const refused = (packet: Packet): Expectation => ({ ...dropped, verdict: "redirect", packet, flows: none });

/** With ACK: RST where the other end is waited for. */
const acknowledged = (f: Family): Packet => answer(f, { seq: ACK });
/** Without: RST and ACK of `length` bytes from sequence number SEQ on. */
const unacknowledged = (f: Family, length: number): Packet =>
  answer(f, { flags: "RA", seq: 0, ack: (SEQ + length) >>> 0 });

const OPTIONS = new Uint8Array([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
const WORDS_OF_OPTIONS: Headers = (f) =>
  f === 4
    ? eth(MAC.podA, MAC.hostA).ipv4({ src: POD_A[4], dst: INTERNET[4], options: new Uint8Array(40).fill(1) })
    : toInternet(f).extension({ type: 0, size: 16 }).extension({ type: 60, size: 256 });

const answered = FAMILIES.flatMap((f): Row[] => {
  const row = (what: string, packet: Packet, reply: Packet, more: Partial<Row> = {}): Row => ({
    name: `IPv${f} ${what}`,
    hook: "from_pod",
    device: "hla",
    packet,
    expect: refused(reply),
    ...more,
  });
  const says = (what: string, flags: string, body: string, reply: Packet): Row =>
    row(what, segment(f, { flags }).payload(body), reply);
  return [
    says("ACK", "A", "", acknowledged(f)),
    says("data", "PA", "an odd number of bytes", acknowledged(f)),
    says("FIN", "FA", "", acknowledged(f)),
    says("SYN and ACK", "SA", "", acknowledged(f)),
    says("all flags but RST", "FSPAU", "x", acknowledged(f)),
    says("no flags at all", "", "", unacknowledged(f, 0)),
    says("data without ACK, its sequence numbers beginning again", "P", "data", unacknowledged(f, 4)),
    says("data without ACK, up to the last sequence number", "P", "16 bytes of data", unacknowledged(f, 16)),
    says("FIN without ACK", "F", "end", unacknowledged(f, 4)),
    says("SYN and FIN with data", "FS", "TFO", unacknowledged(f, 5)),
    row("with TCP options", segment(f, { options: OPTIONS }).payload("data"), acknowledged(f)),
    row(
      "with TCP options, without ACK",
      segment(f, { flags: "P", options: OPTIONS }).payload("data"),
      unacknowledged(f, 4),
    ),
    row("with IP options or extension headers", segment(f, {}, WORDS_OF_OPTIONS), acknowledged(f)),
    row(
      "with options of both kinds and data, without ACK",
      segment(f, { flags: "P", options: OPTIONS }, WORDS_OF_OPTIONS).payload("data"),
      unacknowledged(f, 4),
    ),
    row(
      "behind which the frame is padded",
      eth().raw(new Uint8Array(Buffer.concat([segment(f, { flags: "F" }).bytes(), Buffer.alloc(9, 7)]))),
      unacknowledged(f, 1),
    ),
    row("whose checksum is wrong", segment(f, { checksum: 0x1234 }), acknowledged(f)),
    row("of many segments", segment(f, {}).payload("x".repeat(3000)), acknowledged(f), {
      options: { gso: { size: 1000, segments: 3 } },
    }),
    row("of a record that has expired", segment(f, { flags: "PA" }).payload("late"), acknowledged(f), {
      given: (b) => {
        send(b, "from_pod", "hla", TCP.open(toInternet(f), PORT, f));
        for (const [key, flow] of b.datapath.flows.entries())
          b.datapath.flows.set(key, { ...flow, expires: longAgo() });
      },
      expect: { ...dropped, verdict: "redirect", packet: acknowledged(f) },
    }),
  ];
});
runRows(import.meta.filename, () => bench, answered);

const silent = FAMILIES.flatMap((f): Row[] => {
  const row = (what: string, packet: Packet, expect: Expectation = dropped): Row => ({
    name: `no RST: IPv${f} ${what}`,
    hook: "from_pod",
    device: "hla",
    packet,
    expect,
  });
  const fragmented: Headers = (of) =>
    of === 4
      ? eth(MAC.podA, MAC.hostA).ipv4({ src: POD_A[4], dst: INTERNET[4], df: false, mf: true })
      : toInternet(of).fragment6({ more: true });
  const kept = (to: typeof EXCLUDED): Row["packet"] => TCP.more(fromPodA(f, POD_A, to), PORT, f);
  return [
    row("RST", segment(f, { flags: "R" })),
    row("RST with ACK and data", segment(f, { flags: "RPA" }).payload("why")),
    row("fragment", segment(f, { flags: "PA" }, fragmented).payload("12345678")),
    row("echo reply", PING.answer(toInternet(f), PORT, f)),
    row("under another pod's address", TCP.more(fromPodA(f, POD_B, INTERNET), PORT, f), {
      verdict: "drop",
      reason: "DROP_INVALID_SOURCE_IP",
    }),
    row("to an address that is kept", kept(EXCLUDED), {
      verdict: "redirect",
      packet: TCP.more(fromPodA(f, POD_A, EXCLUDED, 63), PORT, f),
    }),
    row("to another node's pod", kept(POD_FAR), {
      verdict: "redirect",
      packet: TCP.more(fromPodA(f, POD_A, POD_FAR, 63), PORT, f),
    }),
    row("SYN opens a flow", TCP.open(toInternet(f), PORT, f), {
      verdict: "redirect",
      packet: "any",
      fresh: true,
    }),
    row("datagram opens a flow", UDP.more(toInternet(f), PORT, f), {
      verdict: "redirect",
      packet: "any",
      fresh: true,
    }),
  ];
});
runRows(import.meta.filename, () => bench, silent);

/** Before the agent says that it knows all there is, a record may still be on its way. */
const early = FAMILIES.map(
  (f): Row => ({
    name: `no RST before it is permitted: IPv${f} ACK`,
    hook: "from_pod",
    device: "hla",
    packet: segment(f, {}),
    expect: dropped,
  }),
);
runRows(import.meta.filename, () => withheld, early);

/** Behind the stack it may be a packet that netfilter should have translated, and has not. */
const byStack = FAMILIES.map(
  (f): Row => ({
    name: `no RST to what the stack has routed: IPv${f} ACK`,
    hook: "to_net",
    device: "eth0",
    packet: TCP.more(toNet(f, POD_A, INTERNET), PORT, f),
    expect: dropped,
  }),
);
runRows(import.meta.filename, () => plain, byStack);

for (const f of FAMILIES) {
  test(`IPv${f}: answers are counted by family`, () => {
    reset(bench);
    const sent = (): bigint[] => [1, 2].map((index) => bench.datapath.table(MAPS.resets).get(index) ?? 0n);
    const before = sent();
    for (let i = 0; i < 3; i++) assert.equal(send(bench, "from_pod", "hla", segment(f, {})), "redirect");
    send(bench, "from_pod", "hla", segment(f, { flags: "R" }));
    const grown = sent().map((now, i) => now - (before[i] ?? 0n));
    assert.deepEqual(grown, f === 4 ? [3n, 0n] : [0n, 3n]);
  });
}

const BODY = new Uint8Array(30_000).map((_, i) => i);

/** One for each way in which a stack hands a segment to the device. */
const frames = (f: Family): [what: string, packet: Packet, gso: object][] => [
  ["bare ACK", segment(f, {}), {}],
  ["data behind TCP options", segment(f, { options: OPTIONS }).payload("odd"), {}],
  ["data behind IP options or extension headers", segment(f, {}, WORDS_OF_OPTIONS).payload("odd"), {}],
  ["thirty segments", segment(f, {}).payload(BODY), { gsoType: SEGMENTS.TCP[f], gsoSize: 1000 }],
];

for (const f of FAMILIES) {
  for (const [what, packet, gso] of frames(f)) {
    test(`IPv${f} ${what} whose checksum is left to the device: the answer's is too, and would be right`, async () => {
      reset(bench);
      const { frame, offload } = leftToDevice(packet, f, "TCP");
      pod.send(frame, { ...offload, ...gso });
      const back = await pod.receive(isOurs);
      assert.deepEqual(back.offload, { sumFrom: L4[f], sumAt: SUM_AT.TCP, gsoType: 0, gsoSize: 0 });
      assert.deepEqual(differences(acknowledged(f).bytes(), summed(back.frame, back.offload)), []);
    });
  }

  test(`IPv${f} segment with all headers outside the linear part: its answer`, async () => {
    reset(bench);
    using pages = new PagesEnd(rig.node, "hla");
    pages.send(segment(f, { options: OPTIONS }, WORDS_OF_OPTIONS).payload("data").bytes());
    const back = await pod.receive(isOurs);
    assert.deepEqual(back.offload, { sumFrom: 0, sumAt: 0, gsoType: 0, gsoSize: 0 });
    assert.deepEqual(differences(acknowledged(f).bytes(), back.frame), []);
  });

  test(`IPv${f}: an answer that comes back to the node is answered by nobody`, async () => {
    reset(bench);
    using end = new FarEnd(rig.node, "hla");
    const count = (): bigint =>
      bench.datapath.counter(Hook.HOOK_FROM_POD, DropReason.DROP_CT_CANT_CREATE).packets;
    const before = count();
    end.send(segment(f, { flags: "F" }).bytes());
    const { frame } = await pod.receive(isOurs);
    assert.deepEqual(differences(unacknowledged(f, 1).bytes(), frame), []);
    // As if the pod sent it on.
    end.send(fromPodA(f, POD_A, INTERNET).tcp({ sport: PORT, dport: SERVICE_PORT, flags: "RA" }).bytes());
    end.send(TCP.more(fromPodA(f, POD_A, INTERNET), PORT + 1, f).bytes());
    const next = await pod.receive(isOurs);
    assert.equal(new DataView(next.frame.buffer).getUint16(L4[f] + 2), PORT + 1, "the next answer");
    assert.equal(count() - before, 3n);
  });
}
