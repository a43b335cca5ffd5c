// SPDX-License-Identifier: Apache-2.0
// ICMP errors about packets of known flows, in both directions: outer header and quote take the flow's translation, with every
// checksum right; whole and cut quotes, options and extension headers; errors that belong to no flow are left as they are.
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { ALL_ON, longAgo } from "../support/datapath.ts";
import { openTranslated } from "../support/opened-flow.ts";
import { eth, type Packet } from "../support/packet.ts";
import { type Both, INTERNET, NODE, NODE_FAR, POD_A, POD_B, POD_FAR } from "../support/packet-node.ts";
import { type Bench, type Row, runRows, send } from "../support/packet-rows.ts";
import {
  FAMILIES,
  type Family,
  forAll,
  forEach,
  fromNet,
  fromPodA,
  fromPodB,
  Rig,
  SERVICE_PORT,
  SESSIONS,
  TCP,
  TRANSPORTS,
  type Transport,
  toNet,
  toPodA,
  UDP,
} from "../support/transports.ts";

const PORT = 41000;
/** The port that pod a's flow has on the node. */
const XPORT = 52000;
/** A router on the way. */
const ROUTER: Both = { 4: "192.0.2.1", 6: "2001:db8:2::1" };

let rig: Rig;
let bench: Bench;
let stack: Bench;
before(() => {
  rig = new Rig();
  bench = rig.load();
  stack = rig.load({ ...ALL_ON, hostRouting: 0 });
});
after(() => rig?.close());

interface ErrorType {
  name: string;
  type: number;
  code: number;
  id?: number;
  seq?: number;
}

const ERRORS: Record<Family, ErrorType[]> = {
  4: [
    { name: "host unreachable", type: 3, code: 1 },
    { name: "fragmentation needed", type: 3, code: 4, seq: 1400 },
    { name: "time exceeded", type: 11, code: 0 },
    { name: "parameter problem", type: 12, code: 0, id: 0x1400 },
  ],
  6: [
    { name: "no route", type: 1, code: 0 },
    { name: "packet too big", type: 2, code: 0, seq: 1400 },
    { name: "time exceeded", type: 3, code: 0 },
    { name: "parameter problem", type: 4, code: 1, seq: 40 },
  ],
};
const UNREACHABLE: Record<Family, ErrorType> = {
  4: { name: "port unreachable", type: 3, code: 3 },
  6: { name: "port unreachable", type: 1, code: 4 },
};

/** An error that quotes the first `bytes` of a packet. */
function about(on: Packet, error: ErrorType, quoted: Packet, bytes = 1000): Packet {
  const { type, code, id = 0, seq = 0 } = error;
  return on.icmp({ type, code, id, seq }).payload(quoted.bytes().subarray(14, 14 + bytes));
}

const plain = (family: Family, src: Both, dst: Both): Packet =>
  eth().ip({ src: src[family], dst: dst[family], ttl: 1 });

/** Pod a has a flow to the internet, under port XPORT of the node. */
const opened =
  (family: Family, transport: Transport) =>
  (b: Bench): void =>
    openTranslated(b, { family, transport, port: PORT, xport: XPORT, byStack: b === stack });

const inward = forAll((f, t): Row[] =>
  ERRORS[f].map((error) => ({
    name: `IPv${f} ${error.name} about ${t.name} reaches the pod, translated`,
    given: opened(f, t),
    hook: "from_net",
    device: "eth0",
    packet: about(fromNet(f, ROUTER, NODE), error, t.more(plain(f, NODE, INTERNET), XPORT, f)),
    expect: {
      verdict: "redirect",
      packet: about(toPodA(f, ROUTER, POD_A, 63), error, t.more(plain(f, POD_A, INTERNET), PORT, f)),
      flows: (entries) => assert.equal(entries.length, 1),
    },
  })),
).flat();

/** Room for the IP header and the eight bytes of the transport header that every quote has. */
const LEAST: Record<Family, number> = { 4: 28, 6: 48 };

/** Ways to quote a packet of pod a's flow as the node sent it, and as the pod must see it. */
interface Quoting {
  name: string;
  families: readonly Family[];
  quote(family: Family, from: Both, port: number): Packet;
  bytes?: (family: Family) => number;
}

const options = new Uint8Array([7, 7, 4, 0, 0, 0, 0, 0]);
const udp = (port: number) => ({ sport: port, dport: SERVICE_PORT });

const QUOTINGS: Quoting[] = [
  {
    name: "cut after eight bytes",
    families: FAMILIES,
    quote: (f, from, port) => UDP.more(plain(f, from, INTERNET), port, f),
    bytes: (f) => LEAST[f],
  },
  {
    name: "without a UDP checksum",
    families: FAMILIES,
    quote: (f, from, port) =>
      plain(f, from, INTERNET)
        .udp({ ...udp(port), checksum: 0 })
        .payload("zero"),
  },
  {
    name: "with IP options",
    families: [4],
    quote: (f, from, port) =>
      eth().ipv4({ src: from[f], dst: INTERNET[f], options }).udp(udp(port)).payload("options"),
  },
  {
    name: "with extension headers",
    families: [6],
    quote: (f, from, port) =>
      plain(f, from, INTERNET).extension({ type: 0 }).extension({ type: 60, size: 24 }).udp(udp(port)),
  },
  {
    name: "that is a first fragment",
    families: [4],
    quote: (f, from, port) =>
      eth().ipv4({ src: from[f], dst: INTERNET[f], df: false, mf: true }).udp(udp(port)).payload("01234567"),
  },
  {
    name: "that is a first fragment",
    families: [6],
    quote: (f, from, port) =>
      plain(f, from, INTERNET).fragment6({ more: true }).udp(udp(port)).payload("01234567"),
  },
];

const quotings = QUOTINGS.flatMap(({ name, families, quote, bytes }) =>
  families.map((f): Row => {
    const [error] = ERRORS[f] as [ErrorType];
    const room = bytes?.(f);
    return {
      name: `IPv${f} error with a quote ${name} reaches the pod, translated`,
      given: opened(f, UDP),
      hook: "from_net",
      device: "eth0",
      packet: about(fromNet(f, ROUTER, NODE), error, quote(f, NODE, XPORT), room),
      expect: {
        verdict: "redirect",
        packet: about(toPodA(f, ROUTER, POD_A, 63), error, quote(f, POD_A, PORT), room),
      },
    };
  }),
);

/** TCP's checksum is beyond a short quote, so the ICMP message's own must take the whole change. */
const shortTcp = FAMILIES.map((f): Row => {
  const [error] = ERRORS[f] as [ErrorType];
  const quote = (from: Both, port: number): Packet => TCP.more(plain(f, from, INTERNET), port, f);
  return {
    name: `IPv${f} error with a quote of TCP cut after eight bytes reaches the pod, translated`,
    given: opened(f, TCP),
    hook: "from_net",
    device: "eth0",
    packet: about(fromNet(f, ROUTER, NODE), error, quote(NODE, XPORT), LEAST[f]),
    expect: {
      verdict: "redirect",
      packet: about(toPodA(f, ROUTER, POD_A, 63), error, quote(POD_A, PORT), LEAST[f]),
    },
  };
});

/** Errors to the node that are about no live flow, or cannot be told to be. */
const foreign = FAMILIES.flatMap((f): Row[] => {
  const [error] = ERRORS[f] as [ErrorType];
  const quote = UDP.more(plain(f, NODE, INTERNET), XPORT, f);
  const left = (what: string, packet: Packet, given?: Row["given"]): Row => ({
    name: `IPv${f} error ${what} is the stack's, as it came`,
    given: given ?? opened(f, UDP),
    hook: "from_net",
    device: "eth0",
    packet,
    expect: { verdict: "pass" },
  });
  const to = fromNet(f, ROUTER, NODE);
  return [
    left("about an unknown flow", about(to, error, UDP.more(plain(f, NODE, INTERNET), XPORT + 1, f))),
    left("about another protocol", about(to, error, TCP.more(plain(f, NODE, INTERNET), XPORT, f))),
    left("to somebody else than the quoted packet's sender", about(fromNet(f, ROUTER, POD_A), error, quote)),
    left("with seven bytes of the transport header", about(to, error, quote, LEAST[f] - 1)),
    left("with half an IP header", about(to, error, quote, 12)),
    left("without a quote", about(to, error, quote, 0)),
    left("about an expired flow", about(to, error, quote), (b) => {
      opened(f, UDP)(b);
      for (const [key, flow] of b.datapath.flows.entries())
        b.datapath.flows.set(key, { ...flow, expires: longAgo() });
    }),
    {
      ...left("with its TTL used up", about(fromNet(f, ROUTER, NODE, 1), error, quote)),
      name: `IPv${f} error with its TTL used up is translated and left to the stack`,
      expect: {
        verdict: "pass",
        packet: about(fromNet(f, ROUTER, POD_A, 1), error, UDP.more(plain(f, POD_A, INTERNET), PORT, f)),
      },
    },
  ];
});

const outward = forAll((f, t): Row[] => {
  const error = UNREACHABLE[f];
  return [
    {
      name: `IPv${f} error of the pod about an answer to its ${t.name} flow leaves translated`,
      given: opened(f, t),
      hook: "from_pod",
      device: "hla",
      packet: about(fromPodA(f, POD_A, INTERNET), error, t.answer(plain(f, INTERNET, POD_A), PORT, f)),
      expect: {
        verdict: "redirect",
        packet: about(fromPodA(f, NODE, INTERNET, 63), error, t.answer(plain(f, INTERNET, NODE), XPORT, f)),
      },
    },
    {
      name: `IPv${f} error of the node about an answer to a pod's ${t.name} flow quotes what the far end sent`,
      given: opened(f, t),
      hook: "to_net",
      device: "eth0",
      packet: about(toNet(f, NODE, INTERNET), error, t.answer(plain(f, INTERNET, POD_A), PORT, f)),
      expect: {
        verdict: "pass",
        packet: about(toNet(f, NODE, INTERNET), error, t.answer(plain(f, INTERNET, NODE), XPORT, f)),
      },
    },
  ];
}).flat();

/** Who may be told depends on who opened the flow, whatever its protocol. */
const inbound = forEach([...TRANSPORTS, ...SESSIONS], (f, t): Row[] => {
  const error = UNREACHABLE[f];
  const first = t.open(plain(f, INTERNET, POD_B), PORT, f);
  const told = (what: string, bytes: number): Row => ({
    name: `IPv${f} error of the pod about a ${t.name} flow opened outside keeps its address${what}`,
    given: (b) => {
      assert.equal(send(b, "from_net", "eth0", t.open(fromNet(f, INTERNET, POD_B), PORT, f)), "redirect");
    },
    hook: "from_pod",
    device: "hlb",
    packet: about(fromPodB(f, POD_B, INTERNET), error, first, bytes),
    expect: {
      verdict: "redirect",
      packet: about(fromPodB(f, POD_B, INTERNET, 63), error, first, bytes),
    },
  });
  return [
    told("", 1000),
    // What there is of a protocol without ports may be shorter than the eight bytes that others quote.
    ...(TRANSPORTS.includes(t) ? [] : [told(", without its payload", LEAST[f] - 8)]),
    {
      name: `IPv${f} error of the pod about an unknown ${t.name} flow never leaves untranslated`,
      hook: "from_pod",
      device: "hla",
      packet: about(fromPodA(f, POD_A, INTERNET), error, t.answer(plain(f, INTERNET, POD_A), PORT, f)),
      expect: { verdict: "drop", reason: "DROP_NAT_UNSUPP_PROTO" },
    },
    {
      name: `IPv${f} error about a pod's answer in a ${t.name} flow opened outside is the stack's, as it came`,
      given: (b) => {
        assert.equal(send(b, "from_net", "eth0", t.open(fromNet(f, INTERNET, POD_B), PORT, f)), "redirect");
      },
      hook: "from_net",
      device: "eth0",
      packet: about(fromNet(f, ROUTER, POD_B), error, t.answer(plain(f, POD_B, INTERNET), PORT, f)),
      expect: { verdict: "pass", flows: (entries) => assert.equal(entries.length, 1) },
    },
  ];
}).flat();

const kept = FAMILIES.flatMap((f): Row[] => [
  {
    name: `IPv${f} error of the pod to another node's pod is forwarded as it is`,
    hook: "from_pod",
    device: "hla",
    packet: about(fromPodA(f, POD_A, POD_FAR), UNREACHABLE[f], UDP.more(plain(f, POD_FAR, POD_A), PORT, f)),
    expect: {
      verdict: "redirect",
      packet: about(
        fromPodA(f, POD_A, POD_FAR, 63),
        UNREACHABLE[f],
        UDP.more(plain(f, POD_FAR, POD_A), PORT, f),
      ),
    },
  },
  {
    name: `IPv${f} error of the node about its own packet leaves as it is`,
    given: opened(f, UDP),
    hook: "to_net",
    device: "eth0",
    packet: about(toNet(f, NODE, NODE_FAR), UNREACHABLE[f], UDP.more(plain(f, NODE_FAR, NODE), PORT, f)),
    expect: { verdict: "pass" },
  },
]);

runRows(import.meta.filename, () => bench, [
  ...inward,
  ...quotings,
  ...shortTcp,
  ...foreign,
  ...outward,
  ...inbound,
  ...kept,
]);

const byStack = FAMILIES.flatMap((f): Row[] => [
  {
    name: `plain stack: IPv${f} error about the pod's flow is translated and left to the stack`,
    given: opened(f, TCP),
    hook: "from_net",
    device: "eth0",
    packet: about(fromNet(f, ROUTER, NODE), UNREACHABLE[f], TCP.more(plain(f, NODE, INTERNET), XPORT, f)),
    expect: {
      verdict: "pass",
      packet: about(fromNet(f, ROUTER, POD_A), UNREACHABLE[f], TCP.more(plain(f, POD_A, INTERNET), PORT, f)),
    },
  },
  {
    name: `plain stack: IPv${f} error of the pod leaves translated`,
    given: opened(f, UDP),
    hook: "to_net",
    device: "eth0",
    packet: about(
      toNet(f, POD_A, INTERNET, 63),
      UNREACHABLE[f],
      UDP.answer(plain(f, INTERNET, POD_A), PORT, f),
    ),
    expect: {
      verdict: "pass",
      packet: about(
        toNet(f, NODE, INTERNET, 63),
        UNREACHABLE[f],
        UDP.answer(plain(f, INTERNET, NODE), XPORT, f),
      ),
    },
  },
]);

runRows(import.meta.filename, () => stack, byStack);
