// SPDX-License-Identifier: Apache-2.0
// What a first packet that leaves under the node's address found out about its destination, and which later first packets of
// the same tick are told it: told by changing what they would find out themselves. Each told pair is tried until both fell into
// one tick; the others must hold in every one of PAIRS pairs.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { parsePrefix } from "../../src/base/prefix.ts";
import { MAPS } from "../../src/maps/gen/maps.ts";
import { EndpointFlag, MasqueradeRule } from "../../src/maps/gen/verdict.ts";
import { ALL_ON } from "../support/datapath.ts";
import type { Packet } from "../support/packet.ts";
import { differences } from "../support/packet-fields.ts";
import { type Both, BY_NARROW, INTERNET, NODE, POD_A, POD_B, ROUTE_SOURCE } from "../support/packet-node.ts";
import { type Bench, reset } from "../support/packet-rows.ts";
import {
  FAMILIES,
  type Family,
  forAll,
  fromPodA,
  fromPodB,
  Rig,
  type Transport,
  UDP,
} from "../support/transports.ts";

const PORT = 47000;
const TRIES = 20;
const PAIRS = 5;
/** A tick and a jiffy, rounded up. */
const TICK_MS = 30;
let rig: Rig;
let bench: Bench;
let routeSource: Bench;
before(() => {
  rig = new Rig();
  bench = rig.load();
  routeSource = rig.load({ ...ALL_ON, masqueradeToRouteSource: 1 });
});
beforeEach(() => reset(bench));
after(() => rig?.close());

interface Pair {
  /** What becomes of the second packet; undefined: it passes to the stack as it came. */
  readonly becomes: Packet | undefined;
  readonly second: Packet;
  readonly device?: "hla" | "hlb";
  /** Between the two. The destination is excluded from masquerading in any case. */
  readonly change?: () => void;
  readonly on?: Bench;
  readonly first?: Packet;
}

/** A first packet, then the change, then the second: whether of that became what the pair says. */
function holds(family: Family, transport: Transport, pair: Pair): boolean {
  const { datapath, devices } = pair.on ?? bench;
  const first = pair.first ?? transport.open(fromPodA(family, POD_A, INTERNET), PORT, family);
  reset(pair.on ?? bench);
  // What is found out is found out at once, so this happens within the tick nearly always.
  assert.equal(datapath.run("from_pod", first.bytes(), { ifindex: devices.hla }).verdict, "redirect");
  exclude(pair.on ?? bench, family, INTERNET);
  pair.change?.();
  const { verdict, packet } = datapath.run("from_pod", pair.second.bytes(), {
    ifindex: devices[pair.device ?? "hla"],
  });
  if (pair.becomes === undefined) return verdict === "pass";
  return verdict === "redirect" && differences(pair.becomes.bytes(), packet).length === 0;
}

function exclude({ datapath }: Bench, family: Family, { [family]: address }: Both): void {
  const rule = { rule: MasqueradeRule.MASQ_NONMASQ_CIDR, source: 0 };
  datapath.table(MAPS.nonmasq_cidrs).set(parsePrefix(address), rule);
}

function setFlag(map: "endpoints" | "devices", index: number, flags: number): void {
  const table = bench.datapath.table<number, { flags: number }>(MAPS[map] as never);
  const value = table.get(index);
  assert.ok(value);
  table.set(index, { ...value, flags });
}

/** The pair comes out so at least once, for which both must fall into one tick. */
function told(family: Family, transport: Transport, pair: Pair): void {
  for (let tries = 0; tries < TRIES; tries++) if (holds(family, transport, pair)) return;
  assert.fail(`the second packet was not told what the first found out in ${TRIES} pairs`);
}

function notTold(family: Family, transport: Transport, pair: Pair): void {
  for (let tries = 0; tries < PAIRS; tries++) assert.ok(holds(family, transport, pair), `pair ${tries}`);
}

forAll((family, transport) => {
  const named = (text: string): string => `IPv${family} ${transport.name}: ${text}`;
  const open = (src: Both, ttl = 64, port = PORT + 1): Packet =>
    transport.open(fromPodA(family, src, INTERNET, ttl), port, family);

  test(named("another flow to the same destination is told"), () => {
    told(family, transport, { second: open(POD_A), becomes: open(NODE, 63) });
  });

  test(named("the address is the one that the device has now"), () => {
    const change = (): void => {
      const devices = bench.datapath.table(MAPS.devices);
      const device = devices.get(bench.devices.eth0);
      assert.ok(device);
      devices.set(bench.devices.eth0, { ...device, addr4: ROUTE_SOURCE[4], addr6: ROUTE_SOURCE[6] });
    };
    told(family, transport, { change, second: open(POD_A), becomes: open(ROUTE_SOURCE, 63) });
  });

  test(named("not in the next tick"), () => {
    const change = (): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, TICK_MS);
    assert.ok(holds(family, transport, { change, second: open(POD_A), becomes: open(POD_A, 63) }));
  });

  test(named("not where routes depend on source ports"), () => {
    const on = bench;
    const first = transport.open(fromPodA(family, POD_A, INTERNET), PORT, family);
    for (let tries = 0; tries < PAIRS; tries++) {
      reset(on);
      setFlag("devices", on.devices.eth0, 0);
      on.datapath.run("from_pod", first.bytes(), { ifindex: on.devices.hla });
      exclude(on, family, INTERNET);
      const { packet } = on.datapath.run("from_pod", open(POD_A).bytes(), { ifindex: on.devices.hla });
      assert.deepEqual(differences(open(POD_A, 63).bytes(), packet), []);
    }
  });

  test(named("not where the route names the address"), () => {
    notTold(family, transport, { on: routeSource, second: open(POD_A), becomes: open(POD_A, 63) });
  });

  test(named("not another pod"), () => {
    const from = (ttl: number): Packet =>
      transport.open(fromPodB(family, POD_B, INTERNET, ttl), PORT, family);
    notTold(family, transport, { device: "hlb", second: from(64), becomes: from(63) });
  });

  test(named("not a pod that is exempt by now"), () => {
    const change = (): void => setFlag("endpoints", bench.devices.hla, EndpointFlag.ENDPOINT_NO_MASQUERADE);
    notTold(family, transport, { change, second: open(POD_A), becomes: open(POD_A, 63) });
  });

  test(named("not a packet whose TTL is used up"), () => {
    notTold(family, transport, { second: open(POD_A, 1), becomes: undefined });
  });
});

for (const family of FAMILIES) {
  const open = (src: Both, dport: number, ttl = 64): Packet =>
    fromPodA(family, src, INTERNET, ttl).udp({ sport: PORT, dport }).payload("question");

  test(`IPv${family} not to another port`, () => {
    notTold(family, UDP, { second: open(POD_A, 81), becomes: open(POD_A, 81, 63) });
  });

  test(`IPv${family} not a packet larger than the way's MTU`, () => {
    const first = UDP.open(fromPodA(family, POD_A, BY_NARROW), PORT, family);
    const second = UDP.open(fromPodA(family, POD_A, BY_NARROW), PORT + 1, family).payload("x".repeat(1300));
    notTold(family, UDP, { first, second, becomes: undefined });
  });
}
