// SPDX-License-Identifier: Apache-2.0
// Fragments of masqueraded flows, both ways and in both orders: the first fragment is translated like a whole packet, later
// ones take its flow's translation in the IP header alone. What comes before its first fragment never leaves untranslated.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { MAPS } from "../../src/maps/gen/maps.ts";
import { DropReason, Hook } from "../../src/maps/gen/verdict.ts";
import { ALL_ON } from "../support/datapath.ts";
import { openTranslated } from "../support/opened-flow.ts";
import { eth, type Packet } from "../support/packet.ts";
import { differences } from "../support/packet-fields.ts";
import { type Both, INTERNET, MAC, NODE, POD_A, POD_B, POD_FAR } from "../support/packet-node.ts";
import { type Bench, type Row, reset, runRows, send, waiting } from "../support/packet-rows.ts";
import {
  FAMILIES,
  type Family,
  forAll,
  Rig,
  TRANSPORTS,
  type Transport,
  UDP,
} from "../support/transports.ts";

const PORT = 44000;
/** The port that pod a's flow has on the node. */
const XPORT = 53000;
const ID = 0x4321;
const REST = "what did not fit into the first";

let rig: Rig;
let bench: Bench;
let stack: Bench;
/** Tracking is off for one family. */
let untracked: Record<Family, Bench>;
before(() => {
  rig = new Rig();
  bench = rig.load();
  stack = rig.load({ ...ALL_ON, hostRouting: 0 });
  untracked = {
    4: rig.load({ ...ALL_ON, trackFragmentsIpv4: 0 }),
    6: rig.load({ ...ALL_ON, trackFragmentsIpv6: 0 }),
  };
});
after(() => rig?.close());

/** Where a fragment is, and between whom. */
interface Way {
  link: () => Packet;
  src: Both;
  dst: Both;
  ttl: number;
}

const out = (src = POD_A, ttl = 64): Way => ({
  link: () => eth(MAC.podA, MAC.hostA),
  src,
  dst: INTERNET,
  ttl,
});
const back = (dst = NODE, ttl = 64): Way => ({
  link: () => eth(MAC.gateway, MAC.eth0),
  src: INTERNET,
  dst,
  ttl,
});
const backToPodA = (ttl = 63): Way => ({ ...back(POD_A, ttl), link: () => eth(MAC.hostA, MAC.podA) });

function ip(
  f: Family,
  way: Way,
  part: { offset: number; more: boolean; id: number; protocol?: number },
): Packet {
  const { src, dst, ttl } = way;
  const { offset, more, id, protocol } = part;
  if (f === 6) {
    const on = way.link().ipv6({ src: src[6], dst: dst[6], hopLimit: ttl });
    return on.fragment6(protocol === undefined ? { offset, more, id } : { offset, more, id, next: protocol });
  }
  const ends = { src: src[4], dst: dst[4], ttl, id, df: false, mf: more, offset };
  return way.link().ipv4(protocol === undefined ? ends : { ...ends, protocol });
}

type Kind = "open" | "answer";

function first(f: Family, t: Transport, kind: Kind, [way, port, id = ID]: [Way, number, number?]): Packet {
  return t[kind](ip(f, way, { offset: 0, more: true, id }), port, f);
}

function later(f: Family, t: Transport, way: Way, id = ID): Packet {
  return ip(f, way, { offset: 1400, more: false, id, protocol: t.proto[f] }).payload(REST);
}

/** Pod a has a flow to the internet, under port XPORT of the node. */
const opened =
  (family: Family, transport: Transport) =>
  (b: Bench): void =>
    openTranslated(b, { family, transport, port: PORT, xport: XPORT, byStack: b === stack });

const rows = forAll((f, t): Row[] => [
  {
    name: `IPv${f} ${t.name} first fragment leaves translated`,
    given: opened(f, t),
    hook: "from_pod",
    device: "hla",
    packet: first(f, t, "open", [out(), PORT]),
    expect: { verdict: "redirect", packet: first(f, t, "open", [out(NODE, 63), XPORT]) },
  },
  {
    name: `IPv${f} ${t.name} first fragment opens a flow`,
    hook: "from_pod",
    device: "hla",
    packet: first(f, t, "open", [out(), PORT]),
    expect: { verdict: "redirect", packet: first(f, t, "open", [out(NODE, 63), PORT]), fresh: true },
  },
  {
    name: `IPv${f} ${t.name} later fragment leaves translated`,
    given: (b) => {
      opened(f, t)(b);
      send(b, "from_pod", "hla", first(f, t, "open", [out(), PORT]));
    },
    hook: "from_pod",
    device: "hla",
    packet: later(f, t, out()),
    expect: {
      verdict: "redirect",
      packet: later(f, t, out(NODE, 63)),
      rule: "MASQ_POD",
      flows: (entries) => assert.equal(entries.length, 1),
    },
  },
  {
    name: `IPv${f} ${t.name} later fragment before its first waits`,
    given: opened(f, t),
    hook: "from_pod",
    device: "hla",
    packet: later(f, t, out(), ID + 100),
    expect: { verdict: "drop", held: true },
  },
  {
    name: `IPv${f} ${t.name} first fragment of an answer reaches the pod`,
    given: opened(f, t),
    hook: "from_net",
    device: "eth0",
    packet: first(f, t, "answer", [back(), XPORT]),
    expect: { verdict: "redirect", packet: first(f, t, "answer", [backToPodA(), PORT]) },
  },
  {
    name: `IPv${f} ${t.name} later fragment of an answer reaches the pod`,
    given: (b) => {
      opened(f, t)(b);
      send(b, "from_net", "eth0", first(f, t, "answer", [back(), XPORT]));
    },
    hook: "from_net",
    device: "eth0",
    packet: later(f, t, back()),
    expect: { verdict: "redirect", packet: later(f, t, backToPodA()) },
  },
  {
    name: `IPv${f} ${t.name} later fragment of another datagram is the stack's, and waits too`,
    given: (b) => {
      opened(f, t)(b);
      send(b, "from_net", "eth0", first(f, t, "answer", [back(), XPORT]));
    },
    hook: "from_net",
    device: "eth0",
    packet: later(f, t, back(), ID + 200),
    expect: { verdict: "pass", held: "copy" },
  },
]).flat();

const untranslated = FAMILIES.flatMap((f): Row[] => {
  const far = (ttl: number): Way => ({ ...out(POD_A, ttl), dst: POD_FAR });
  return [
    {
      name: `IPv${f} later fragment to another node's pod needs no first`,
      hook: "from_pod",
      device: "hla",
      packet: later(f, UDP, far(64), ID + 300),
      expect: { verdict: "redirect", packet: later(f, UDP, far(63), ID + 300) },
    },
    {
      name: `IPv${f} first fragment under another pod's address is remembered for nobody`,
      given: (b) => {
        opened(f, UDP)(b);
        send(b, "from_pod", "hlb", first(f, UDP, "open", [out(), PORT, ID + 400]));
      },
      hook: "from_pod",
      device: "hla",
      packet: later(f, UDP, out(), ID + 400),
      expect: { verdict: "drop", held: true },
    },
    {
      name: `IPv${f} fragment sent by pod b under its own address finds its own flow`,
      given: (b) => {
        opened(f, UDP)(b);
        send(b, "from_pod", "hla", first(f, UDP, "open", [out(), PORT, ID + 500]));
      },
      hook: "from_pod",
      device: "hlb",
      packet: later(f, UDP, { ...out(POD_B), link: () => eth(MAC.podB, MAC.hostB) }, ID + 500),
      expect: { verdict: "drop", held: true },
    },
  ];
});

runRows(import.meta.filename, () => bench, [...rows, ...untranslated]);

const byStack = forAll(
  (f, t): Row => ({
    name: `plain stack: IPv${f} ${t.name} later fragment leaves translated`,
    given: (b) => {
      opened(f, t)(b);
      send(b, "to_net", "eth0", first(f, t, "open", [out(POD_A, 63), PORT]));
    },
    hook: "to_net",
    device: "eth0",
    packet: later(f, t, out(POD_A, 63)),
    expect: { verdict: "pass", packet: later(f, t, out(NODE, 63)) },
  }),
);

runRows(import.meta.filename, () => stack, byStack);

const OTHER: Record<Family, Family> = { 4: 6, 6: 4 };
for (const off of FAMILIES) {
  const far = (ttl: number): Way => ({ ...out(POD_A, ttl), dst: POD_FAR });
  const dropped = {
    verdict: "drop",
    reason: "DROP_FRAG_NOSUPPORT",
    rule: "MASQ_POD",
    flows: (entries: unknown[]) => assert.equal(entries.length, 0),
  } as const;
  const rows = TRANSPORTS.flatMap((t): Row[] => [
    {
      name: `tracking off: IPv${off} ${t.name} first fragment to the internet is dropped`,
      hook: "from_pod",
      device: "hla",
      packet: first(off, t, "open", [out(), PORT]),
      expect: dropped,
    },
    {
      name: `tracking off: IPv${off} ${t.name} later fragment to the internet is dropped`,
      given: (b) => send(b, "from_pod", "hla", first(off, t, "open", [out(), PORT])),
      hook: "from_pod",
      device: "hla",
      packet: later(off, t, out()),
      expect: dropped,
    },
    {
      name: `tracking off: IPv${off} ${t.name} first fragment to another node's pod goes on`,
      hook: "from_pod",
      device: "hla",
      packet: first(off, t, "open", [far(64), PORT]),
      expect: { verdict: "redirect", packet: first(off, t, "open", [far(63), PORT]) },
    },
    {
      name: `tracking off: IPv${off} ${t.name} fragment to the node is the stack's`,
      hook: "from_net",
      device: "eth0",
      packet: first(off, t, "answer", [back(), XPORT]),
      expect: { verdict: "pass" },
    },
    {
      name: `tracking off for IPv${off}: IPv${OTHER[off]} ${t.name} first fragment opens a flow`,
      hook: "from_pod",
      device: "hla",
      packet: first(OTHER[off], t, "open", [out(), PORT]),
      expect: {
        verdict: "redirect",
        packet: first(OTHER[off], t, "open", [out(NODE, 63), PORT]),
        fresh: true,
      },
    },
  ]);
  runRows(import.meta.filename, () => untracked[off], rows);
}

for (const f of FAMILIES) {
  test(`IPv${f}: more datagrams than the table holds; none leaves untranslated`, () => {
    reset(bench);
    opened(f, UDP)(bench);
    const { maxEntries } = MAPS.frag_datagrams;
    const ids = Array.from({ length: 1.25 * maxEntries }, (_, i) => i + 1);
    for (const id of ids) send(bench, "from_pod", "hla", first(f, UDP, "open", [out(), PORT, id]));
    const ends = (id: number): string => {
      const { verdict, packet } = bench.datapath.run("from_pod", later(f, UDP, out(), id).bytes(), {
        ifindex: bench.devices.hla,
      });
      if (verdict === "drop") return "dropped";
      return differences(later(f, UDP, out(NODE, 63), id).bytes(), packet).join() || "translated";
    };
    assert.deepEqual(new Set(ids.slice(-100).map(ends)), new Set(["translated"]), "the latest are known");
    assert.deepEqual(new Set(ids.slice(0, 100).map(ends)), new Set(["dropped"]), "the oldest are forgotten");
    const middle = new Set(ids.filter((id) => id % 32 === 0).map(ends));
    assert.deepEqual(middle, new Set(["translated", "dropped"]));
    const { packets } = bench.datapath.counter(Hook.HOOK_FROM_POD, DropReason.DROP_FRAG_NOT_FOUND);
    assert.ok(Number(packets) + waiting(bench) >= 100);
  });
}
