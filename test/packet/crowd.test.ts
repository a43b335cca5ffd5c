// SPDX-License-Identifier: Apache-2.0
// A remote endpoint towards which all ports are held, or all but one: what is remembered of it (map crowded) spares searches,
// and hides no port. A port that comes free, in whatever way, is found by the next flow.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { MAPS } from "../../src/maps/gen/maps.ts";
import type { Crowd, Flow } from "../../src/maps/gen/types.ts";
import { DropReason, FlowState } from "../../src/maps/gen/verdict.ts";
import { ALL_ON, nowTicks, TICKS_PER_SECOND } from "../support/datapath.ts";
import { hold, repliesTo } from "../support/held-ports.ts";
import { ENDPOINT_B, INTERNET, NODE, POD_A, POD_B, setLive } from "../support/packet-node.ts";
import { type Bench, reset, send } from "../support/packet-rows.ts";
import { crowdTogether } from "../support/port-crowd.ts";
import {
  FAMILIES,
  type Family,
  fromNet,
  fromPodA,
  fromPodB,
  PING,
  Rig,
  SERVICE_PORT,
  TCP,
  TRANSPORTS,
  type Transport,
  UDP,
} from "../support/transports.ts";

/** 1,100 ports: more than are looked at one by one, and both ends inside of a chunk of 64. */
const RANGE = { portMin: 40_010, portMax: 41_109 };
const PORTS = RANGE.portMax - RANGE.portMin + 1;
const MIDDLE = 40_500;
const RETRY_SLOTS = MAPS.nat_retries_v4.maxEntries;

let rig: Rig;
let bench: Bench;

before(() => {
  rig = new Rig();
  bench = rig.load({ ...ALL_ON, ...RANGE, timeoutAny: Math.round(0.4 * TICKS_PER_SECOND) }, 4096);
});
after(async () => {
  await rig?.close();
});

/** Pod a holds the whole range, but not what `free` names. */
function holdAll(family: Family, transport: Transport, free: readonly number[] = []): void {
  for (let port = RANGE.portMin; port <= RANGE.portMax; port++)
    if (!free.includes(port)) hold({ datapath: bench.datapath, family, transport }, port);
}

/** Pod b opens a flow from a port that is held or out of range: the port that it got, undefined if it was dropped for want of one. */
function opens(family: Family, transport: Transport, sport: number): number | undefined {
  const { datapath } = bench;
  datapath.events();
  const verdict = send(
    bench,
    "from_pod",
    "hlb",
    transport.open(fromPodB(family, POD_B, INTERNET), sport, family),
  );
  const [event] = datapath.events();
  assert.ok(event, "each new flow and each drop is told");
  if (verdict === "redirect") return event.xsport;
  assert.deepEqual([verdict, event.reason], ["drop", DropReason.DROP_NAT_NO_MAPPING]);
  return undefined;
}

function crowdOf(family: Family, transport: Transport): Crowd | undefined {
  return bench.datapath.table(MAPS.crowded).get(repliesTo(family, transport, 0));
}

/** Sum over all processors. */
function retries(family: Family): number[] {
  const table = bench.datapath.table(family === 4 ? MAPS.nat_retries_v4 : MAPS.nat_retries_v6);
  return table.entriesPerCpu().map(([, values]) => Number(values.reduce((sum, value) => sum + value, 0n)));
}

/** Pod a's record of a port becomes another, as no packet would make it. */
function rewrite(family: Family, transport: Transport, port: number, fields: Partial<Flow>): void {
  hold({ datapath: bench.datapath, family, transport }, port, fields);
}

const tcpEnds = {
  "by the opener's FIN and the answer's": ["FA", "FA"],
  "by the opener's RST": ["R", ""],
  "by the other side's RST": ["", "R"],
} as const;

for (const family of FAMILIES) {
  for (const transport of TRANSPORTS) {
    // An identifier has no range of its own; its 65,536 are held below.
    if (transport === PING) continue;
    describe(`IPv${family} ${transport.name} towards a crowded endpoint`, () => {
      test("finds the only free port, again and again", () => {
        reset(bench);
        holdAll(family, transport, [MIDDLE]);
        for (let sport = 1; sport <= 50; sport++) {
          assert.equal(opens(family, transport, sport), MIDDLE);
          rewrite(family, transport, MIDDLE, {});
          assert.equal(opens(family, transport, 500 + sport), undefined, "none is left");
          // Pod a's flow ends: the sweep finds its record dead.
          rewrite(family, transport, MIDDLE, { expires: (nowTicks() - 200) >>> 0 });
          bench.datapath.sweep();
        }
      });

      test("refuses without looking when all are held, and counts it", () => {
        reset(bench);
        holdAll(family, transport);
        const before = retries(family);
        assert.equal(opens(family, transport, 1), undefined);
        // What nobody could tell the data plane is overlooked for a while: it does not look.
        bench.datapath.flows.delete({
          saddr: POD_A[family],
          daddr: INTERNET[family],
          sport: MIDDLE,
          dport: SERVICE_PORT,
          proto: transport.proto[family],
        });
        bench.datapath.replies.delete(repliesTo(family, transport, MIDDLE));
        assert.equal(opens(family, transport, 2), undefined);
        const crowd = crowdOf(family, transport);
        assert.equal(crowd?.refused, 2n);
        assert.ok((nowTicks() - crowd.refusedAt) >>> 0 < 60 * TICKS_PER_SECOND, "and when");
        const after = retries(family);
        assert.equal((after[RETRY_SLOTS - 1] ?? 0) - (before[RETRY_SLOTS - 1] ?? 0), 2);
        // Another endpoint is not meant.
        const other = fromPodB(family, POD_B, { 4: "198.51.100.11", 6: "2001:db8:100::11" });
        assert.equal(send(bench, "from_pod", "hlb", transport.open(other, MIDDLE, family)), "redirect");
        bench.datapath.table(MAPS.crowded).clear();
        assert.equal(opens(family, transport, 3), MIDDLE);
      });

      test("finds a port when its flow expires, without a sweep", async () => {
        let expires: number;
        let early: number | undefined;
        // Asked for before it expires, however slow the machine: our clock is not behind the data plane's.
        do {
          reset(bench);
          holdAll(family, transport, [MIDDLE]);
          expires = (nowTicks() + Math.round(TICKS_PER_SECOND)) >>> 0;
          rewrite(family, transport, MIDDLE, { expires });
          early = opens(family, transport, 1);
        } while (nowTicks() >= expires);
        assert.equal(early, undefined);
        // The data plane's clock counts jiffies, which lie up to a second behind.
        await sleep(2100);
        assert.equal(opens(family, transport, 2), MIDDLE);
      });

      test("finds the ports of a pod that is gone, after the sweep", () => {
        reset(bench);
        holdAll(family, transport);
        assert.equal(opens(family, transport, 1), undefined);
        bench.datapath.table(MAPS.endpoint_addrs).delete(POD_A[family]);
        setLive(bench.datapath, [ENDPOINT_B]);
        bench.datapath.sweep();
        assert.notEqual(opens(family, transport, 2), undefined);
      });

      test("is dropped when every port is reserved, and not a second after that", async () => {
        reset(bench);
        const reserved = bench.datapath.table(MAPS.reserved_ports);
        const first = transport === UDP ? 1024 : 0;
        for (let word = 0; word < 1024; word++) reserved.set(first + word, 0xffff_ffff_ffff_ffffn);
        assert.equal(opens(family, transport, MIDDLE), undefined);
        assert.equal(opens(family, transport, 1), undefined);
        for (let word = 0; word < 1024; word++) reserved.set(first + word, 0n);
        assert.equal(opens(family, transport, MIDDLE), MIDDLE, "the kept port is always asked for");
        await sleep(1300);
        assert.notEqual(opens(family, transport, 2), undefined);
      });
    });
  }

  describe(`IPv${family} TCP: ports of closed flows`, () => {
    for (const [how, [pod, far]] of Object.entries(tcpEnds)) {
      test(`one that is closed ${how} is found at once`, () => {
        reset(bench);
        holdAll(family, TCP);
        assert.equal(opens(family, TCP, 1), undefined);
        const [sport, dport] = [MIDDLE, SERVICE_PORT];
        if (pod) {
          const packet = fromPodA(family, POD_A, INTERNET).tcp({ sport, dport, flags: pod });
          send(bench, "from_pod", "hla", packet);
        }
        if (far) {
          const packet = fromNet(family, INTERNET, NODE).tcp({ sport: dport, dport: sport, flags: far });
          send(bench, "from_net", "eth0", packet);
        }
        assert.equal(opens(family, TCP, 2), MIDDLE);
        assert.equal(opens(family, TCP, 3), undefined, "it was the only one");
      });
    }

    test("all of them are found, one after the other, and only when no other is left", () => {
      reset(bench);
      holdAll(family, TCP, [MIDDLE]);
      const state = FlowState.FLOW_XSOURCE | FlowState.FLOW_OPENER_FIN | FlowState.FLOW_REPLIER_FIN;
      const closed = Array.from({ length: 150 }, (_, i) => RANGE.portMin + 1 + 7 * i);
      for (const port of closed) rewrite(family, TCP, port, { state });
      assert.equal(opens(family, TCP, 1), MIDDLE);
      const got = closed.map((_, i) => opens(family, TCP, 2 + i) ?? 0);
      assert.deepEqual(
        got.sort((a, b) => a - b),
        closed,
      );
      assert.equal(opens(family, TCP, 999), undefined);
    });
  });

  test(`IPv${family}: two processors open and reset flows at once; no port is hidden, none given twice`, async () => {
    reset(bench);
    const { datapath, devices } = bench;
    // 200 ports are left to 1,200 openers.
    const left = Array.from({ length: 200 }, (_, i) => RANGE.portMin + 5 * i);
    holdAll(family, TCP, left);
    for (let round = 0; round < 2; round++) {
      const job = { fd: datapath.program("from_pod"), netns: rig.node.netns, ifindex: devices.hlb, family };
      const threads = [2 * round, 2 * round + 1].map((thread) => ({ ...job, thread, packets: 10_000 }));
      const opened = await crowdTogether(threads);
      assert.ok(
        opened.every((flows) => flows > 0),
        `${opened} flows opened`,
      );
      datapath.forget();
      const flows = datapath.flows.entries();
      assert.equal(datapath.replies.entries().length, flows.length, "no halves");
      assert.equal(new Set(flows.map(([, flow]) => flow.xsport)).size, flows.length, "no port twice");
      // What is left for newcomers, whose source ports nobody used before: the free and those of reset flows.
      const taken = flows.filter(([, flow]) => !(flow.state & FlowState.FLOW_RESET)).length;
      let found = 0;
      for (let sport = 30_000 + 300 * round; opens(family, TCP, sport) !== undefined; sport++) found++;
      assert.equal(found, PORTS - taken);
      // Room for the next round.
      for (const [key] of datapath.flows.entries()) {
        if (key.saddr !== POD_B[family]) continue;
        const flags = "R";
        const packet = fromPodB(family, POD_B, INTERNET).tcp({
          sport: key.sport,
          dport: SERVICE_PORT,
          flags,
        });
        send(bench, "from_pod", "hlb", packet);
      }
    }
  });

  test(`IPv${family} ping: the last of 65,536 identifiers is found, then none`, () => {
    const wide = rig.load(ALL_ON, 131_072).datapath;
    const here = { ...bench, datapath: wide };
    const last = 54_321;
    rig.node.describe(wide);
    for (let id = 0; id <= 65_535; id++)
      if (id !== last) hold({ datapath: wide, family, transport: PING }, id);
    const ping = (id: number) => PING.open(fromPodB(family, POD_B, INTERNET), id, family);
    assert.equal(send(here, "from_pod", "hlb", ping(17)), "redirect");
    assert.equal(wide.events()[0]?.xsport, last);
    assert.equal(send(here, "from_pod", "hlb", ping(18)), "drop");
    assert.equal(wide.events()[0]?.reason, DropReason.DROP_NAT_NO_MAPPING);
    assert.equal(wide.table(MAPS.crowded).get(repliesTo(family, PING, 0))?.refused, 1n);
  });

  test(`IPv${family}: retries are counted by how many ports were refused`, () => {
    reset(bench);
    const before = retries(family);
    const transport = TCP;
    assert.equal(opens(family, transport, MIDDLE + 1), MIDDLE + 1);
    // Another one is held, and hardly any else: the second port tried is free.
    hold({ datapath: bench.datapath, family, transport }, MIDDLE);
    assert.notEqual(opens(family, transport, MIDDLE), MIDDLE);
    const counted = retries(family).map((count, slot) => count - (before[slot] ?? 0));
    assert.deepEqual(counted.slice(0, 3), [1, 1, 0]);
  });
}
