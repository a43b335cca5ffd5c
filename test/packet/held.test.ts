// SPDX-License-Identifier: Apache-2.0
// Fragments that come before the first of their datagram: they wait for it, leave behind it translated like the rest, and are
// dropped and counted if it does not come. Over cables, where the programs are attached; limits and ends by test runs.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { waitFor } from "../../src/base/async.ts";
import { withNetns } from "../../src/kernel/netns.ts";
import { MAPS } from "../../src/maps/gen/maps.ts";
import { DropReason, EventKind, FragmentFate, Hook, SweepMode } from "../../src/maps/gen/verdict.ts";
import { cablesOf, type OffloadEnd } from "../support/cable.ts";
import { ALL_ON, type HookName, longAgo, nowTicks, TICKS_PER_SECOND } from "../support/datapath.ts";
import { cut, type Envelope, inTime, isOf, orders, SOON } from "../support/fragments.ts";
import { ip } from "../support/netns.ts";
import { openTranslated } from "../support/opened-flow.ts";
import { eth, type Packet } from "../support/packet.ts";
import { differences } from "../support/packet-fields.ts";
import {
  ENDPOINT_A,
  ENDPOINT_B,
  INTERNET,
  MAC,
  NODE,
  POD_A,
  POD_B,
  POD_FAR,
  setLive,
} from "../support/packet-node.ts";
import { type Bench, reset, waiting } from "../support/packet-rows.ts";
import { TestRun } from "../support/test-run.ts";
import { FAMILIES, type Family, forAll, Rig, type Transport, UDP } from "../support/transports.ts";

const PORT = 44000;
/** The port that pod a's flow has on the node. */
const XPORT = 53000;
/** Bytes of a fragment. */
const PART = 400;
const BODY = new Uint8Array(2 * PART + 200).map((_, i) => i * 7 + (i >> 8));

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

/** Nothing is held, remembered or counted, and pod a has a flow if a transport is given. */
function begin(family?: Family, transport?: Transport, b = bench): void {
  reset(b);
  b.datapath.table(MAPS.frag_datagrams).clear();
  for (const fate of Object.values(FragmentFate)) b.datapath.table(MAPS.frag_counts).zero(fate);
  if (family !== undefined && transport !== undefined)
    openTranslated(b, { family, transport, port: PORT, xport: XPORT });
  b.datapath.forget();
  b.datapath.events();
}

/** How many were held, released and ended since `begin`, and how many wait. */
function fates(b = bench): Record<"held" | "released" | "ended" | "waiting", number> {
  const count = (fate: number): number =>
    b.datapath
      .table(MAPS.frag_counts)
      .getPerCpu(fate)
      .reduce((sum, n) => sum + Number(n), 0);
  return {
    held: count(FragmentFate.FRAGMENT_HELD),
    released: count(FragmentFate.FRAGMENT_RELEASED),
    ended: count(FragmentFate.FRAGMENT_ENDED),
    waiting: waiting(b),
  };
}

const dropped = (hook: number, b = bench): number =>
  Number(b.datapath.counter(hook, DropReason.DROP_FRAG_NOT_FOUND).packets);

type Place = Omit<Envelope, "id">;
const fromA = (f: Family): Place => ({ link: eth(MAC.podA, MAC.hostA), src: POD_A[f], dst: INTERNET[f] });
const fromB = (f: Family): Place => ({ link: eth(MAC.podB, MAC.hostB), src: POD_B[f], dst: INTERNET[f] });
const away = (f: Family): Place => ({
  link: eth(MAC.eth0, MAC.gateway),
  src: NODE[f],
  dst: INTERNET[f],
  ttl: 63,
});
const back = (f: Family): Place => ({ link: eth(MAC.gateway, MAC.eth0), src: INTERNET[f], dst: NODE[f] });
const home = (f: Family): Place => ({
  link: eth(MAC.hostA, MAC.podA),
  src: INTERNET[f],
  dst: POD_A[f],
  ttl: 63,
});

/** What one side sends of one datagram, and how it must arrive. */
function ways(f: Family, t: Transport, id: number) {
  const of =
    (kind: "more" | "answer", port: number) =>
    (on: Packet): Packet =>
      t[kind](on, port, f).payload(BODY);
  return {
    out: {
      sends: cut(f, { ...fromA(f), id }, of("more", PORT), PART),
      arrives: cut(f, { ...away(f), id }, of("more", XPORT), PART),
    },
    back: {
      sends: cut(f, { ...back(f), id }, of("answer", XPORT), PART),
      arrives: cut(f, { ...home(f), id }, of("answer", PORT), PART),
    },
  };
}

let lastId = 100;

for (const direction of ["out", "back"] as const) {
  for (const { f, t } of forAll((f, t) => ({ f, t }))) {
    test(`IPv${f} ${t.name} ${direction}: in every order the first fragment goes first and all arrive translated`, async () => {
      const [from, to] = direction === "out" ? [pod, net] : [net, pod];
      for (const order of orders(3)) {
        await inTime(async () => {
          begin(f, t);
          const lost = dropped(Hook.HOOK_FROM_POD);
          const { sends, arrives } = ways(f, t, ++lastId)[direction];
          const waited = order.indexOf(0);
          const got: Uint8Array[] = [];
          const ofIt = (frame: Uint8Array): boolean => isOf(frame, arrives[0] as Uint8Array, f);
          // Each is sent when the one before has been seen: two processors may take up two frames in any order.
          for (const [i, n] of order.entries()) {
            from.send(sends[n] as Uint8Array);
            if (i < waited) await waitFor(`${i + 1} to wait`, () => fates().held === i + 1, SOON);
            else while (got.length <= i) got.push((await to.receive(ofIt, SOON.timeoutMs)).frame);
          }
          assert.deepEqual(differences(arrives[0] as Uint8Array, got[0] as Uint8Array), [], `order ${order}`);
          const text = (frames: readonly Uint8Array[]): string[] =>
            frames.map((one) => Buffer.from(one).toString("hex")).sort();
          assert.deepEqual(text(got), text(arrives), `order ${order}`);
          // A frame arrives before the program that sent it has come to its end.
          await waitFor("all to be counted", () => fates().released === waited, SOON);
          assert.deepEqual(
            fates(),
            { held: waited, released: waited, ended: 0, waiting: 0 },
            `order ${order}`,
          );
          assert.equal(dropped(Hook.HOOK_FROM_POD), lost, "none is dropped");
        });
      }
    });
  }
}

/** Runs one frame through a hook; what became of it, and the events of that. */
function run(hook: HookName, device: "hla" | "hlb" | "eth0", frame: Uint8Array, b = bench) {
  const { verdict, packet } = b.datapath.run(hook, frame, { ifindex: b.devices[device] });
  return { verdict, packet, events: b.datapath.events() };
}

const udp = (on: Packet): Packet => on.udp({ sport: PORT, dport: 80 }).payload(BODY);

/** A datagram of a pod in three pieces, and of nobody else's identification. */
const pieces = (f: Family, place = fromA(f)): [Uint8Array, Uint8Array, Uint8Array] =>
  cut(f, { ...place, id: ++lastId }, udp, PART) as [Uint8Array, Uint8Array, Uint8Array];

/** Makes all that wait have waited for ever, and what was refused be long ago. */
function age(b = bench): void {
  const ago = longAgo();
  for (const [place, held] of b.datapath.table(MAPS.frag_held).entries())
    if (held.since !== 0 || held.refused !== 0)
      b.datapath.table(MAPS.frag_held).set(place, { ...held, since: held.since && ago, refused: ago });
}

/** Of the cables that the pod's packets take. */
function setMtu(mtu: number): void {
  for (const device of ["hla", "eth0"]) {
    ip(rig.node.netns, [`link set ${device} mtu ${mtu}`]);
    ip(rig.node.far, [`link set far-${device} mtu ${mtu}`]);
  }
}

for (const f of FAMILIES) {
  test(`IPv${f}: what waits is neither counted nor told; what ends is both, once`, () =>
    inTime(() => {
      begin();
      const hook = Hook.HOOK_FROM_POD;
      const [, second, third] = pieces(f);
      const before = {
        drops: bench.datapath.counter(hook, DropReason.DROP_FRAG_NOT_FOUND),
        forwarded: bench.datapath.counter(hook, 0),
      };
      for (const frame of [second, third]) assert.deepEqual(run("from_pod", "hla", frame).events, []);
      assert.deepEqual(fates(), { held: 2, released: 0, ended: 0, waiting: 2 });
      assert.deepEqual(bench.datapath.counter(hook, DropReason.DROP_FRAG_NOT_FOUND), before.drops);
      assert.deepEqual(bench.datapath.counter(hook, 0), before.forwarded);
      bench.datapath.sweep(SweepMode.SWEEP_FRAGMENTS);
      assert.equal(fates().waiting, 2, "their time is not over");
      age();
      bench.datapath.sweep(SweepMode.SWEEP_FRAGMENTS);
      assert.deepEqual(fates(), { held: 2, released: 0, ended: 2, waiting: 0 });
      const after = bench.datapath.counter(hook, DropReason.DROP_FRAG_NOT_FOUND);
      assert.equal(after.packets - before.drops.packets, 2n);
      assert.equal(after.bytes - before.drops.bytes, BigInt(second.length + third.length));
      const events = bench.datapath.events();
      assert.deepEqual(
        events.map(({ kind, reason, saddr, daddr, endpoint, proto }) => ({
          kind,
          reason,
          saddr,
          daddr,
          endpoint,
          proto,
        })),
        Array(2).fill({
          kind: EventKind.EVENT_DROP,
          reason: DropReason.DROP_FRAG_NOT_FOUND,
          saddr: POD_A[f],
          daddr: INTERNET[f],
          endpoint: ENDPOINT_A,
          proto: 17,
        }),
      );
      assert.deepEqual(events.map(({ len }) => len).sort(), [third.length, second.length].sort());
    }));

  test(`IPv${f}: a pod has half of the places, its neighbour and the network what is left; without an agent the late make room`, () =>
    inTime(() => {
      begin(f, UDP);
      const hook = Hook.HOOK_FROM_POD;
      const places = MAPS.frag_held.maxEntries;
      const table = bench.datapath.table(MAPS.frag_held);
      run("from_pod", "hla", pieces(f)[1]);
      const [, one] = table.entries().find(([, { since }]) => since !== 0) ?? [];
      assert.ok(one);
      // None ends before its time, however slow the machine.
      for (let place = 0; place < places / 2 - 1; place++)
        table.set(place, { ...one, key: { ...one.key, id: place }, since: (nowTicks() + 100_000) >>> 0 });
      const before = dropped(hook);
      for (let i = 0; i < 3; i++) run("from_pod", "hla", pieces(f)[1]);
      assert.equal(waiting(bench), places / 2);
      assert.equal(dropped(hook) - before, 2, "the others as if nothing could be held");

      const [first, second, third] = pieces(f, fromB(f));
      for (const frame of [third, second]) run("from_pod", "hlb", frame);
      assert.equal(fates().waiting, places / 2 + 2);
      run("from_pod", "hlb", first);
      assert.deepEqual(fates(), { held: 4, released: 2, ended: 0, waiting: places / 2 });
      const answer = cut(
        f,
        { ...back(f), id: ++lastId },
        (on) => on.udp({ sport: 80, dport: XPORT }).payload(BODY),
        PART,
      );
      for (const frame of answer.slice(1)) run("from_net", "eth0", frame);
      assert.equal(fates().waiting, places / 2 + 2);

      age();
      const late = dropped(hook);
      run("from_pod", "hla", pieces(f)[1]);
      assert.equal(fates().waiting, 1);
      assert.equal(fates().ended, places / 2 + 2);
      assert.equal(
        dropped(hook) - late,
        places / 2,
        "and those of the network are no drops: the stack has them",
      );
    }));

  test(`IPv${f}: a pod that is gone holds nothing; another with its address gets nothing of it`, () =>
    inTime(() => {
      begin();
      const [first, second] = pieces(f);
      run("from_pod", "hla", second);
      run("from_pod", "hlb", pieces(f, fromB(f))[1]);
      const endpoints = bench.datapath.table(MAPS.endpoints);
      const a = endpoints.get(bench.devices.hla);
      assert.ok(a);
      endpoints.set(bench.devices.hla, { ...a, id: 150 });
      run("from_pod", "hla", first);
      assert.deepEqual(fates(), { held: 2, released: 0, ended: 0, waiting: 2 });
      setLive(bench.datapath, [ENDPOINT_B]);
      bench.datapath.sweep(0);
      assert.deepEqual(fates(), { held: 2, released: 0, ended: 1, waiting: 1 });
    }));

  test(`IPv${f}: only what needs its first is held`, () => {
    begin();
    const other = { ...fromA(f), dst: POD_FAR[f] };
    assert.equal(run("from_pod", "hla", pieces(f, other)[1]).verdict, "redirect");
    for (const to of [POD_A, INTERNET])
      assert.equal(run("from_net", "eth0", pieces(f, { ...back(f), dst: to[f] })[1]).verdict, "pass");
    const sctp = pieces(f)[1];
    sctp[f === 4 ? 23 : 54] = 132;
    assert.equal(run("from_pod", "hla", sctp).verdict, "drop");
    // Of IPv4 it has its tuple; of IPv6 only the first tells the protocol of all.
    const held = f === 4 ? 0 : 1;
    assert.deepEqual(fates(), { held, released: 0, ended: 0, waiting: held });
  });

  test(`IPv${f}: from the network it goes on to the stack as well; the pod's first fragment takes it, the node's does not`, () =>
    inTime(() => {
      begin(f, UDP);
      const datagram = (dport: number): Uint8Array[] =>
        cut(f, { ...back(f), id: ++lastId }, (on) => on.udp({ sport: 80, dport }).payload(BODY), PART);
      for (const [dport, released] of [
        [XPORT, 2],
        [XPORT + 1, 2],
      ] as const) {
        const [first, second, third] = datagram(dport) as [Uint8Array, Uint8Array, Uint8Array];
        for (const frame of [third, second]) {
          const { verdict, packet } = run("from_net", "eth0", frame);
          assert.equal(verdict, "pass");
          assert.deepEqual(differences(frame, packet), []);
        }
        const { verdict } = run("from_net", "eth0", first);
        assert.equal(verdict, dport === XPORT ? "drop" : "pass", "the pod's comes by again");
        assert.equal(fates().released, released);
      }
      assert.equal(fates().waiting, 2);
      const before = dropped(Hook.HOOK_FROM_NET);
      age();
      bench.datapath.sweep(SweepMode.SWEEP_FRAGMENTS);
      assert.deepEqual(fates(), { held: 4, released: 2, ended: 2, waiting: 0 });
      assert.equal(dropped(Hook.HOOK_FROM_NET), before, "the stack had them");
      assert.deepEqual(bench.datapath.events(), []);
    }));

  test(`IPv${f}: a first fragment that came long ago is of another datagram`, () =>
    inTime(() => {
      begin(f, UDP);
      const [first, second] = pieces(f);
      run("from_pod", "hla", first);
      const table = bench.datapath.table(MAPS.frag_datagrams);
      const [[key, datagram] = []] = table.entries();
      assert.ok(key && datagram);
      const ago = (seconds: number): void =>
        table.set(key, { ...datagram, seen: (nowTicks() - Math.round(seconds * TICKS_PER_SECOND)) >>> 0 });
      ago(28);
      assert.equal(run("from_pod", "hla", second).verdict, "redirect");
      ago(33);
      assert.equal(run("from_pod", "hla", second).verdict, "drop");
      assert.equal(fates().waiting, 1);
    }));

  // What is longer or shorter than the first leaves without the device's sum: the kernel makes its own.
  test(`IPv${f}: the device's sum of the first fragment is made that of one as long that leaves in its buffer`, () =>
    inTime(() => {
      begin(f, UDP);
      const test = new TestRun();
      const answer = cut(
        f,
        { ...back(f), id: ++lastId },
        (on) => on.udp({ sport: 80, dport: XPORT }).payload(BODY.subarray(0, 2 * PART - 8)),
        PART,
      );
      assert.equal(answer.length, 2);
      withNetns(rig.node.netns, () => {
        const program = bench.datapath.program("from_net");
        test.probe(bench.datapath.program("to_pod"), answer[0] as Uint8Array);
        for (const n of [1, 0]) {
          const verdict = test.run(program, answer[n] as Uint8Array, { ifindex: bench.devices.eth0 });
          assert.equal(typeof verdict, "number", `fragment ${n}: ${verdict}`);
        }
      });
      assert.equal(fates().released, 1);
    }));

  test(`IPv${f}: with tracking off nothing is held`, () => {
    const off = rig.load({ ...ALL_ON, [f === 4 ? "trackFragmentsIpv4" : "trackFragmentsIpv6"]: 0 });
    begin(undefined, undefined, off);
    assert.equal(run("from_pod", "hla", pieces(f)[1], off).events[0]?.reason, DropReason.DROP_FRAG_NOSUPPORT);
    run("from_net", "eth0", pieces(f, back(f))[1], off);
    assert.deepEqual(fates(off), { held: 0, released: 0, ended: 0, waiting: 0 });
  });

  test(`IPv${f}: a jumbo fragment waits; one beyond any device's is dropped`, () =>
    inTime(async () => {
      setMtu(12_000);
      begin(f, UDP);
      const large = (size: number): Uint8Array =>
        cut(
          f,
          { ...fromA(f), id: ++lastId },
          (on) => on.udp({ sport: PORT, dport: 80 }).payload(new Uint8Array(2 * size)),
          size,
        )[1] as Uint8Array;
      const before = dropped(Hook.HOOK_FROM_POD);
      pod.send(large(8952));
      await waitFor("the first", () => fates().waiting === 1);
      pod.send(large(9208));
      await waitFor("the second", () => dropped(Hook.HOOK_FROM_POD) === before + 1);
      assert.equal(fates().waiting, 1);
      setMtu(1500);
    }));
}
