// SPDX-License-Identifier: Apache-2.0
// Protocols without ports that somebody outside has begun with a pod: all between the two addresses is one flow, which the other
// side opened, so the pod's packets are replies and keep its address, as long as the record lives, its fragments included.
// What the pod begins itself is in protocol.test.ts, the record's life as anybody's in reply.test.ts.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { MAPS } from "../../src/maps/gen/maps.ts";
import type { Flow, FlowKey } from "../../src/maps/gen/types.ts";
import { FlowState, MasqueradeRule } from "../../src/maps/gen/verdict.ts";
import { ALL_ON, longAgo, nowTicks, TICKS_PER_SECOND } from "../support/datapath.ts";
import { eth, type Packet } from "../support/packet.ts";
import { BY_ETH1, ENDPOINT_B, INTERNET, MAC, NODE, POD_B } from "../support/packet-node.ts";
import {
  assertLives,
  type Bench,
  type Expectation,
  type Row,
  reset,
  runRows,
  send,
} from "../support/packet-rows.ts";
import {
  FAMILIES,
  type Family,
  forEach,
  fromNet,
  fromPodB,
  GRE,
  Rig,
  SESSIONS,
  type Transport,
  toNet,
  toPodB,
  UDP,
} from "../support/transports.ts";

const NO_PORT = 0;
/** A time at which a record that is used until then has been refreshed. */
const soon = (): number => nowTicks() + Math.round(50 * TICKS_PER_SECOND);
let rig: Rig;
let bench: Bench;
let stack: Bench;
let netfilter: Bench;
let untracked: Bench;
before(() => {
  rig = new Rig();
  bench = rig.load();
  stack = rig.load({ ...ALL_ON, hostRouting: 0 });
  netfilter = rig.load({ ...ALL_ON, hostRouting: 0, netfilter: 1, masqueradeIpv4: 0, masqueradeIpv6: 0 });
  untracked = rig.load({ ...ALL_ON, trackFragmentsIpv4: 0, trackFragmentsIpv6: 0 });
});
after(() => rig?.close());

const opened =
  (f: Family, t: Transport) =>
  (b: Bench): void => {
    send(b, "from_net", "eth0", t.open(fromNet(f, INTERNET, POD_B), NO_PORT, f));
    assert.equal(b.datapath.flows.entries().length, 1, "the record");
  };

/** Changes the one record of the table. */
function change(b: Bench, fields: Partial<Flow>): void {
  const [entry] = b.datapath.flows.entries();
  assert.ok(entry, "no flow was opened");
  b.datapath.flows.set(entry[0], { ...entry[1], ...fields });
}

const lives =
  (f: Family, t: Transport, state: number) =>
  (entries: [FlowKey, Flow][], sent: number): void => {
    const [key, flow] = entries[0] ?? assert.fail("no record");
    assert.equal(entries.length, 1, "records");
    assert.deepEqual(
      [key.saddr, key.daddr, key.sport, key.dport, key.proto, flow.state, flow.endpoint, flow.xsaddr],
      [INTERNET[f], POD_B[f], 0, 0, t.proto[f], state, ENDPOINT_B, INTERNET[f]],
    );
    assertLives(flow, 60, sent);
  };

const refused: Expectation = { verdict: "drop", reason: "DROP_NAT_UNSUPP_PROTO", rule: "MASQ_POD" };

/** The pod sends to the internet, though it may not. */
function not(f: Family, t: Transport, why: string, given: Row["given"]): Row {
  return {
    name: `IPv${f} ${t.name} of a pod ${why} is dropped`,
    ...(given ? { given } : {}),
    hook: "from_pod",
    device: "hlb",
    packet: t.answer(fromPodB(f, POD_B, INTERNET), NO_PORT, f),
    expect: refused,
  };
}

const rows = forEach(SESSIONS, (f, t): Row[] => {
  const answer: Row = {
    name: `IPv${f} ${t.name} of a pod to who began it keeps its address`,
    given: (b) => {
      opened(f, t)(b);
      change(b, { expires: soon() });
    },
    hook: "from_pod",
    device: "hlb",
    packet: t.answer(fromPodB(f, POD_B, INTERNET), NO_PORT, f),
    expect: {
      verdict: "redirect",
      packet: t.answer(fromPodB(f, POD_B, INTERNET, 63), NO_PORT, f),
      flows: lives(f, t, FlowState.FLOW_INBOUND | FlowState.FLOW_REPLIED),
    },
  };
  return [
    {
      name: `IPv${f} ${t.name} from outside opens a flow of the two addresses`,
      hook: "from_net",
      device: "eth0",
      packet: t.open(fromNet(f, INTERNET, POD_B), NO_PORT, f),
      expect: {
        verdict: "redirect",
        packet: t.open(toPodB(f, INTERNET, POD_B, 63), NO_PORT, f),
        fresh: true,
        rule: "MASQ_REPLY",
        flows: lives(f, t, FlowState.FLOW_INBOUND),
      },
    },
    answer,
    {
      ...answer,
      name: `IPv${f} ${t.name} of a pod that was refused before keeps its address once the other side has begun`,
      given: (b) => {
        assert.equal(send(b, "from_pod", "hlb", answer.packet), "drop");
        opened(f, t)(b);
      },
    },
    not(f, t, "a minute later", (b) => {
      opened(f, t)(b);
      change(b, { expires: longAgo() });
    }),
    not(f, t, "that has the address of the one it was begun with", (b) => {
      opened(f, t)(b);
      change(b, { endpoint: 999 });
    }),
    not(f, t, "with which another began", (b) => {
      send(b, "from_net", "eth0", t.open(fromNet(f, BY_ETH1, POD_B), NO_PORT, f));
    }),
    {
      name: `IPv${f} ${t.name} from outside to a pod that has its share of the table is dropped`,
      given: (b) => b.datapath.table(MAPS.owners).set(ENDPOINT_B, { flows: 1_000_000, refused: 0 }),
      hook: "from_net",
      device: "eth0",
      packet: t.open(fromNet(f, INTERNET, POD_B), NO_PORT, f),
      expect: { verdict: "drop", reason: "DROP_CT_INSERT_FAILED" },
    },
  ];
}).flat();

const others = FAMILIES.flatMap((f): Row[] => [
  not(f, GRE, "with which another protocol was begun", (b) => opened(f, SESSIONS.at(-1) as Transport)(b)),
  {
    name: `IPv${f} UDP of a pod to who began GRE with it is masqueraded`,
    given: opened(f, GRE),
    hook: "from_pod",
    device: "hlb",
    packet: UDP.open(fromPodB(f, POD_B, INTERNET), 4000, f),
    expect: {
      verdict: "redirect",
      packet: UDP.open(fromPodB(f, NODE, INTERNET, 63), 4000, f),
      fresh: true,
      rule: "MASQ_POD",
    },
  },
]);

/** What follows an authentication header is not looked at, nor are the ports in it: the header covers it. */
const behind = [
  {
    name: "options",
    on: (p: Packet): Packet => p.extension({ type: 0 }).extension({ type: 60, size: 24 }),
    proto: 47,
  },
  {
    name: "an authentication header",
    on: (p: Packet): Packet => p.extension({ type: 51, size: 24 }),
    proto: 51,
  },
].flatMap(({ name, on, proto }): Row[] => {
  const build = (link: Packet): Packet =>
    proto === 51 ? on(link).tcp({ sport: 1, dport: 2, flags: "PA" }) : GRE.open(on(link), NO_PORT, 6);
  const first = fromNet(6, INTERNET, POD_B);
  return [
    {
      name: `IPv6 session behind ${name} from outside is one flow`,
      hook: "from_net",
      device: "eth0",
      packet: build(first),
      expect: {
        verdict: "redirect",
        packet: build(toPodB(6, INTERNET, POD_B, 63)),
        fresh: true,
        event: { proto, sport: 0, dport: 0 },
      },
    },
    {
      name: `IPv6 session behind ${name} is answered under the pod's address`,
      given: (b) => assert.equal(send(b, "from_net", "eth0", build(first)), "redirect"),
      hook: "from_pod",
      device: "hlb",
      packet: build(fromPodB(6, POD_B, INTERNET)),
      expect: { verdict: "redirect", packet: build(fromPodB(6, POD_B, INTERNET, 63)) },
    },
  ];
});

runRows(import.meta.filename, () => bench, [...rows, ...others, ...behind]);

const ID = 0x4711;

/** A part of a GRE packet; of IPv6 the first part alone says what it is of, here behind destination options. */
function part(
  f: Family,
  [link, src, dst, ttl = 64]: [Packet, string, string, number?],
  first: boolean,
): Packet {
  const [offset, more] = first ? [0, true] : [1400, false];
  if (f === 4)
    return link
      .ipv4({ src, dst, ttl, id: ID, df: false, mf: more, offset, protocol: 47 })
      .payload("some of it.....");
  const on = link.ipv6({ src, dst, hopLimit: ttl }).fragment6({ id: ID, offset, more });
  return first ? GRE.open(on.extension({ type: 60 }), NO_PORT, 6) : on.payload("the rest");
}

const fragments = FAMILIES.flatMap((f): Row[] => {
  const inward = (first: boolean): Packet =>
    part(f, [eth(MAC.gateway, MAC.eth0), INTERNET[f], POD_B[f]], first);
  const outward = (first: boolean, ttl = 64): Packet =>
    part(f, [eth(MAC.podB, MAC.hostB), POD_B[f], INTERNET[f], ttl], first);
  return [
    {
      name: `IPv${f} later fragment of a session from outside is delivered, and renews it`,
      given: (b) => {
        assert.equal(send(b, "from_net", "eth0", inward(true)), "redirect");
        change(b, { expires: soon() });
      },
      hook: "from_net",
      device: "eth0",
      packet: inward(false),
      expect: {
        verdict: "redirect",
        packet: part(f, [eth(MAC.hostB, MAC.podB), INTERNET[f], POD_B[f], 63], false),
        flows: lives(f, GRE, FlowState.FLOW_INBOUND),
      },
    },
    {
      name: `IPv${f} later fragment of a pod's answer keeps its address`,
      given: (b) => {
        opened(f, GRE)(b);
        assert.equal(send(b, "from_pod", "hlb", outward(true)), "redirect");
      },
      hook: "from_pod",
      device: "hlb",
      packet: outward(false),
      expect: { verdict: "redirect", packet: outward(false, 63) },
    },
    {
      name: `IPv${f} later fragment of a session that a pod begins is dropped`,
      given: (b) => assert.equal(send(b, "from_pod", "hlb", outward(true)), "drop"),
      hook: "from_pod",
      device: "hlb",
      packet: outward(false),
      expect: refused,
    },
  ];
});

runRows(import.meta.filename, () => bench, fragments);

const pieces = (first: boolean, ttl = 64): Packet =>
  part(4, [eth(MAC.podB, MAC.hostB), POD_B[4], INTERNET[4], ttl], first);
const inOrder: Row[] = [
  {
    name: "IPv4 later fragment of a pod's answer needs no first",
    given: opened(4, GRE),
    hook: "from_pod",
    device: "hlb",
    packet: pieces(false),
    expect: { verdict: "redirect", packet: pieces(false, 63) },
  },
];
runRows(import.meta.filename, () => bench, inOrder);
runRows(
  import.meta.filename,
  () => untracked,
  inOrder.map((row) => ({ ...row, name: `tracking off: ${row.name}` })),
);

const byStack = forEach(SESSIONS, (f, t): Row[] => [
  {
    name: `plain stack: IPv${f} ${t.name} from outside opens a flow and goes on`,
    hook: "from_net",
    device: "eth0",
    packet: t.open(fromNet(f, INTERNET, POD_B), NO_PORT, f),
    expect: { verdict: "pass", fresh: true, flows: lives(f, t, FlowState.FLOW_INBOUND) },
  },
  {
    name: `plain stack: IPv${f} ${t.name} of a pod to who began it leaves under its address`,
    given: opened(f, t),
    hook: "to_net",
    device: "eth0",
    packet: t.answer(toNet(f, POD_B, INTERNET, 63), NO_PORT, f),
    expect: { verdict: "pass", flows: lives(f, t, FlowState.FLOW_INBOUND | FlowState.FLOW_REPLIED) },
  },
]).flat();
runRows(import.meta.filename, () => stack, byStack);

/** lib/pkt.h, MARK_NETFILTER. */
const MARK = 0x00400000;
for (const f of FAMILIES) {
  test(`netfilter: IPv${f} a pod's answer in an older session stays with the programs, in a newer one it is the rules'`, () => {
    for (const [rule, verdict, mark] of [
      [MasqueradeRule.MASQ_REPLY, "redirect", 0],
      [MasqueradeRule.MASQ_NETFILTER, "pass", MARK],
    ] as const) {
      reset(netfilter);
      opened(f, GRE)(netfilter);
      change(netfilter, { rule });
      const packet = GRE.answer(fromPodB(f, POD_B, INTERNET), NO_PORT, f).bytes();
      const run = netfilter.datapath.run("from_pod", packet, { ifindex: netfilter.devices.hlb });
      assert.deepEqual([run.verdict, run.mark & MARK], [verdict, mark], `rule ${rule}`);
    }
  });

  test(`IPv${f} a session goes on while the table grows, and ends with its pod`, () => {
    const growing = rig.load(undefined, 90);
    reset(growing);
    const owned = (): unknown => growing.datapath.table(MAPS.owners).get(ENDPOINT_B)?.flows;
    opened(f, GRE)(growing);
    assert.equal(owned(), 1);
    growing.datapath.grow(900);
    growing.datapath.forget();
    const answer = GRE.answer(fromPodB(f, POD_B, INTERNET), NO_PORT, f);
    assert.equal(send(growing, "from_pod", "hlb", answer), "redirect");
    const ids = growing.datapath.table(MAPS.endpoint_ids);
    ids.set(ENDPOINT_B >> 6, (ids.get(ENDPOINT_B >> 6) ?? 0n) & ~(1n << BigInt(ENDPOINT_B & 63)));
    growing.datapath.sweep();
    assert.equal(owned(), 0);
    growing.datapath.forget();
    assert.equal(send(growing, "from_pod", "hlb", answer), "drop");
  });
}
