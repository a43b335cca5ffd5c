// SPDX-License-Identifier: Apache-2.0
// Valid packets with headers that are seldom seen, through the translation and back: IP options, extension headers, checksums that
// are absent, wrong, or become zero, and every combination of TCP flags.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { DropReason, Hook } from "../../src/maps/gen/verdict.ts";
import { openTranslated } from "../support/opened-flow.ts";
import { eth, onesSum, type Packet } from "../support/packet.ts";
import { type Both, EXCLUDED, INTERNET, MAC, NODE, POD_A } from "../support/packet-node.ts";
import { type Bench, type Row, reset, runRows, send } from "../support/packet-rows.ts";
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
before(() => {
  rig = new Rig();
  bench = rig.load();
});
after(() => rig?.close());

const opened =
  (family: Family, transport: Transport) =>
  (b: Bench): void =>
    openTranslated(b, { family, transport, port: PORT, xport: XPORT });

/** An IP header with something behind it, and what that is. */
interface Carrier {
  name: string;
  family: Family;
  on(link: Packet, src: Both, dst: Both, ttl: number): Packet;
}

const CHAINS: readonly number[][] = [[43], [0, 60, 43, 60], [60, 60, 60, 60, 60, 60]];
/** Record route with room for one address, nothing. */
const OPTIONS = [[7, 7, 4, 0, 0, 0, 0, 0], Array(40).fill(1)];
const carriers: Carrier[] = [
  ...CHAINS.map(
    (chain): Carrier => ({
      name: `behind extension headers ${chain.join(", ")}`,
      family: 6,
      on: (link, src, dst, hopLimit) =>
        chain.reduce((on, type) => on.extension({ type }), link.ipv6({ src: src[6], dst: dst[6], hopLimit })),
    }),
  ),
  {
    name: "behind destination options of 960 bytes",
    family: 6,
    on: (link, src, dst, hopLimit) =>
      link.ipv6({ src: src[6], dst: dst[6], hopLimit }).extension({ type: 60, size: 960 }),
  },
  {
    name: "in an atomic fragment",
    family: 6,
    on: (link, src, dst, hopLimit) => link.ipv6({ src: src[6], dst: dst[6], hopLimit }).fragment6({}),
  },
  ...OPTIONS.map(
    (options): Carrier => ({
      name: `with IP options ${options.slice(0, 8).join(" ")}`,
      family: 4,
      on: (link, src, dst, ttl) =>
        link.ipv4({ src: src[4], dst: dst[4], ttl, options: Uint8Array.from(options) }),
    }),
  ),
];

const fromPod = eth(MAC.podA, MAC.hostA);
const fromGateway = eth(MAC.gateway, MAC.eth0);
const toPod = eth(MAC.hostA, MAC.podA);

const carried = carriers.flatMap(({ name, family, on }) =>
  forAll((f, t) => ({ f, t }))
    .filter(({ f }) => f === family)
    .flatMap(({ f, t }): Row[] => [
      {
        name: `IPv${f} ${t.name} ${name} opens a flow`,
        hook: "from_pod",
        device: "hla",
        packet: t.open(on(fromPod, POD_A, INTERNET, 64), PORT, f),
        expect: {
          verdict: "redirect",
          packet: t.open(on(fromPod, NODE, INTERNET, 63), PORT, f),
          fresh: true,
          rule: "MASQ_POD",
        },
      },
      {
        name: `IPv${f} ${t.name} ${name} leaves translated`,
        given: opened(f, t),
        hook: "from_pod",
        device: "hla",
        packet: t.more(on(fromPod, POD_A, INTERNET, 64), PORT, f),
        expect: { verdict: "redirect", packet: t.more(on(fromPod, NODE, INTERNET, 63), XPORT, f) },
      },
      {
        name: `IPv${f} ${t.name} ${name} comes back to the pod`,
        given: opened(f, t),
        hook: "from_net",
        device: "eth0",
        packet: t.answer(on(fromGateway, INTERNET, NODE, 64), XPORT, f),
        expect: { verdict: "redirect", packet: t.answer(on(toPod, INTERNET, POD_A, 63), PORT, f) },
      },
    ]),
);

/** In IPv6 a sum of zero is forbidden (RFC 8200 8.1), except in tunnels (RFC 6935): the receiver's business. */
const unsummed = FAMILIES.flatMap((f): Row[] => {
  const none = (on: Packet, sport: number, dport: number): Packet =>
    on.udp({ sport, dport, checksum: 0 }).payload("odd");
  return [
    {
      name: `IPv${f} UDP without a checksum leaves without one`,
      given: opened(f, UDP),
      hook: "from_pod",
      device: "hla",
      packet: none(fromPodA(f, POD_A, INTERNET), PORT, 80),
      expect: { verdict: "redirect", packet: none(fromPodA(f, NODE, INTERNET, 63), XPORT, 80) },
    },
    {
      name: `IPv${f} UDP without a checksum comes back without one`,
      given: opened(f, UDP),
      hook: "from_net",
      device: "eth0",
      packet: none(fromNet(f, INTERNET, NODE), 80, XPORT),
      expect: { verdict: "redirect", packet: none(toPodA(f, INTERNET, POD_A, 63), 80, PORT) },
    },
  ];
});

/** A payload with which the UDP checksum of a packet is zero, and so sent as ones (RFC 768). */
function zeroing(on: Packet, ports: { sport: number; dport: number }): Uint8Array {
  const empty = on.udp(ports).payload(new Uint8Array(2)).bytes();
  const at = empty.length - 4;
  const payload = empty.slice(at, at + 2);
  const sum = on
    .udp(ports)
    .payload(payload)
    .bytes()
    .subarray(at, at + 2);
  assert.equal(onesSum(sum), 0xffff, "the checksum is all ones");
  return payload;
}

const zeroed = FAMILIES.flatMap((f): Row[] => {
  const out = { sport: XPORT, dport: 80 };
  const back = { sport: 80, dport: PORT };
  const left = fromPodA(f, NODE, INTERNET, 63);
  const arrived = toPodA(f, INTERNET, POD_A, 63);
  return [
    {
      name: `IPv${f} UDP whose checksum becomes zero leaves with all ones`,
      given: opened(f, UDP),
      hook: "from_pod",
      device: "hla",
      packet: fromPodA(f, POD_A, INTERNET).udp({ sport: PORT, dport: 80 }).payload(zeroing(left, out)),
      expect: { verdict: "redirect", packet: left.udp(out).payload(zeroing(left, out)) },
    },
    {
      name: `IPv${f} UDP whose checksum becomes zero comes back with all ones`,
      given: opened(f, UDP),
      hook: "from_net",
      device: "eth0",
      packet: fromNet(f, INTERNET, NODE).udp({ sport: 80, dport: XPORT }).payload(zeroing(arrived, back)),
      expect: { verdict: "redirect", packet: arrived.udp(back).payload(zeroing(arrived, back)) },
    },
  ];
});

const wrong = forAll((f, t): Row => {
  const broken = (src: typeof POD_A, ttl: number): Packet => {
    const bytes = t.open(fromPodA(f, src, INTERNET, ttl), PORT, f).bytes();
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 0x55;
    return eth().raw(bytes);
  };
  return {
    name: `IPv${f} ${t.name} with a wrong checksum leaves with a wrong checksum`,
    hook: "from_pod",
    device: "hla",
    packet: broken(POD_A, 64),
    expect: { verdict: "redirect", packet: broken(NODE, 63), fresh: true },
  };
});

runRows(import.meta.filename, () => bench, [...carried, ...unsummed, ...zeroed, ...wrong]);

const [FIN, SYN, RST, ACK] = [1, 2, 4, 16];

for (const f of FAMILIES) {
  test(`IPv${f} TCP with every combination of flags: SYN without ACK, RST and FIN opens a flow, nothing else does`, () => {
    const flagged = (flags: number, to: Both): Packet => {
      const bytes = TCP.open(fromPodA(f, POD_A, to), PORT + flags, f).bytes();
      bytes[(f === 4 ? 34 : 54) + 13] = flags;
      return eth().raw(bytes);
    };
    reset(bench);
    const count = (): bigint =>
      bench.datapath.counter(Hook.HOOK_FROM_POD, DropReason.DROP_CT_CANT_CREATE).packets;
    const sent = (flags: number, to: Both): [string, boolean, bigint] => {
      const before = count();
      const verdict = send(bench, "from_pod", "hla", flagged(flags, to));
      const ports = { sport: PORT + flags, dport: SERVICE_PORT, proto: 6 };
      const made = bench.datapath.flows.get({ saddr: POD_A[f], daddr: to[f], ...ports }) !== undefined;
      return [verdict, made, count() - before];
    };
    for (let flags = 0; flags < 256; flags++) {
      const opens = (flags & (SYN | ACK | RST | FIN)) === SYN;
      assert.deepEqual(
        sent(flags, INTERNET),
        opens ? ["redirect", true, 0n] : ["drop", false, 1n],
        `flags ${flags}`,
      );
      // Where nothing is translated a record is no condition.
      assert.deepEqual(sent(flags, EXCLUDED), ["redirect", opens, 0n], `flags ${flags}, kept address`);
    }
  });
}
