// SPDX-License-Identifier: Apache-2.0
// Protocols without a port or an identifier that could be translated, of pods, of the node and of others. Where the pod's address is
// kept they pass, and but for ICMP open a flow of their two addresses; where they would have to be masqueraded they are dropped,
// counted and told: never do they leave untranslated. Answers are in session.test.ts. Router and neighbour discovery and MLD go on
// whoever sends them.
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { ALL_ON } from "../support/datapath.ts";
import { eth, type Packet } from "../support/packet.ts";
import {
  type Both,
  ENDPOINT_A,
  EXCLUDED,
  INTERNET,
  MAC,
  NODE,
  POD_A,
  POD_B,
  POD_FAR,
} from "../support/packet-node.ts";
import { type Bench, type Expectation, type Row, runRows } from "../support/packet-rows.ts";
import { FAMILIES, type Family, Rig } from "../support/transports.ts";

let rig: Rig;
let bench: Bench;
let stack: Bench;
before(() => {
  rig = new Rig();
  bench = rig.load();
  stack = rig.load({ ...ALL_ON, hostRouting: 0 });
});
after(() => rig?.close());

interface Protocol {
  name: string;
  number: number;
  /** First byte of what follows the IP header: the type of an ICMP message. */
  type?: number;
}

const PROTOCOLS: readonly Protocol[] = [
  { name: "IP in IP", number: 4 },
  { name: "IPv6 in IP", number: 41 },
  { name: "GRE", number: 47 },
  { name: "ESP", number: 50 },
  { name: "AH", number: 51 },
  { name: "OSPF", number: 89 },
  { name: "L2TP", number: 115 },
  { name: "SCTP", number: 132 },
  { name: "UDP-Lite", number: 136 },
  { name: "DCCP", number: 33 },
  { name: "experimental", number: 253 },
];

const OF_FAMILY: Readonly<Record<Family, readonly Protocol[]>> = {
  4: [
    ...PROTOCOLS,
    { name: "IGMP", number: 2 },
    { name: "ICMPv6", number: 58 },
    { name: "ICMP redirect", number: 1, type: 5 },
    { name: "ICMP router solicitation", number: 1, type: 10 },
    { name: "ICMP timestamp", number: 1, type: 13 },
    { name: "ICMP timestamp reply", number: 1, type: 14 },
    { name: "ICMP information", number: 1, type: 15 },
    { name: "ICMP address mask", number: 1, type: 17 },
    { name: "ICMP extended echo", number: 1, type: 42 },
    { name: "ICMP type 255", number: 1, type: 255 },
  ],
  6: [
    ...PROTOCOLS,
    { name: "no next header", number: 59 },
    { name: "ICMP", number: 1 },
    { name: "MLD report", number: 58, type: 131 },
    { name: "router solicitation", number: 58, type: 133 },
    { name: "router advertisement", number: 58, type: 134 },
    { name: "neighbour solicitation", number: 58, type: 135 },
    { name: "neighbour advertisement", number: 58, type: 136 },
    { name: "ICMPv6 redirect", number: 58, type: 137 },
    { name: "node information", number: 58, type: 139 },
    { name: "MLDv2 report", number: 58, type: 143 },
    { name: "ICMPv6 type 0", number: 58, type: 0 },
    { name: "ICMPv6 type 127", number: 58, type: 127 },
  ],
};

/** Those that are tried in every place; the others only where the rule decides. */
const EVERYWHERE = new Set(["GRE", "SCTP", "AH", "ICMP timestamp", "neighbour solicitation"]);

type Ends = [link: Packet, src: Both, dst: Both, ttl?: number];

/** A packet of the protocol; 24 bytes follow the IP header. */
function of(protocol: Protocol, f: Family, [link, src, dst, ttl = 64]: Ends): Packet {
  const payload = new Uint8Array(24).fill(7);
  payload[0] = protocol.type ?? 7;
  const on =
    f === 4
      ? link.ipv4({ src: src[4], dst: dst[4], ttl, protocol: protocol.number })
      : link.ipv6({ src: src[6], dst: dst[6], hopLimit: ttl, next: protocol.number });
  return on.payload(payload);
}

const none = (entries: readonly unknown[]): void => assert.equal(entries.length, 0);
const one = (entries: readonly unknown[]): void => assert.equal(entries.length, 1);
const links = {
  fromPod: eth(MAC.podA, MAC.hostA),
  toPodA: eth(MAC.hostA, MAC.podA),
  toPodB: eth(MAC.hostB, MAC.podB),
  fromNet: eth(MAC.gateway, MAC.eth0),
  toNet: eth(MAC.eth0, MAC.gateway),
};

const refused: Expectation = {
  verdict: "drop",
  reason: "DROP_NAT_UNSUPP_PROTO",
  rule: "MASQ_POD",
  event: { endpoint: ENDPOINT_A, sport: 0, dport: 0 },
  flows: none,
};

/** ICMP that is neither echo nor error opens nothing. */
const passing = ({ type }: Protocol): Expectation =>
  type === undefined ? { verdict: "pass", fresh: true, flows: one } : { verdict: "pass", flows: none };

const rows = FAMILIES.flatMap((f) =>
  OF_FAMILY[f].flatMap((protocol): Row[] => {
    const name = `IPv${f} ${protocol.name}`;
    const event = { ...refused.event, proto: protocol.number };
    const fromPod = (what: string, to: Both, expect: Expectation): Row => ({
      name: `${name} of a pod ${what}`,
      hook: "from_pod",
      device: "hla",
      packet: of(protocol, f, [links.fromPod, POD_A, to]),
      expect: { flows: none, ...expect },
    });
    const opens = passing(protocol);
    const on = (to: Both, link = links.fromPod): Expectation => ({
      ...opens,
      verdict: "redirect",
      packet: of(protocol, f, [link, POD_A, to, 63]),
    });
    const passes = (what: string, hook: Row["hook"], ends: Ends, expect?: Expectation): Row => ({
      name: `${name} ${what}`,
      hook,
      device: hook === "to_pod" ? "hla" : "eth0",
      packet: of(protocol, f, ends),
      expect: { verdict: "pass", flows: none, ...expect },
    });
    const always = [
      fromPod("to the internet is dropped", INTERNET, { ...refused, event }),
      passes("of the node goes on", "to_net", [links.toNet, NODE, INTERNET]),
    ];
    if (!EVERYWHERE.has(protocol.name)) return always;
    return [
      ...always,
      fromPod("to another node's pod keeps its address", POD_FAR, on(POD_FAR)),
      fromPod("to an excluded destination keeps its address", EXCLUDED, on(EXCLUDED)),
      fromPod("to a pod of this node is delivered", POD_B, on(POD_B, links.toPodB)),
      fromPod("to the node is the stack's", NODE, opens),
      passes("to the node is the stack's", "from_net", [links.fromNet, INTERNET, NODE]),
      protocol.type === undefined
        ? passes("to a pod is delivered", "from_net", [links.fromNet, INTERNET, POD_A], {
            ...opens,
            verdict: "redirect",
            packet: of(protocol, f, [links.toPodA, INTERNET, POD_A, 63]),
          })
        : passes("to a pod is the stack's", "from_net", [links.fromNet, INTERNET, POD_A]),
      passes("to a pod from the stack goes on", "to_pod", [links.toPodA, INTERNET, POD_A], opens),
    ];
  }),
);
runRows(import.meta.filename, () => bench, rows);

/** Router discovery and MLD under the node's masquerade address: Cilium's 1.17 dropped them (cilium#48093). */
const discovery = [
  { name: "router solicitation", type: 133, dst: "ff02::2" },
  { name: "router advertisement", type: 134, dst: "ff02::1" },
  { name: "MLDv2 report", type: 143, dst: "ff02::16" },
  { name: "router advertisement to one host", type: 134, dst: "fe80::5" },
].flatMap(({ name, type, dst }): Row[] =>
  (["from_net", "to_net", "to_pod", "from_pod"] as const).map((hook) => ({
    name: `${hook}: ${name} under the node's address is the stack's`,
    hook,
    device: hook === "from_pod" || hook === "to_pod" ? "hla" : "eth0",
    packet: of({ name, number: 58, type }, 6, [eth(), NODE, { 4: "", 6: dst }, type === 143 ? 1 : 255]),
    expect: { verdict: "pass", flows: none },
  })),
);
runRows(import.meta.filename, () => bench, discovery);

const byStack = FAMILIES.flatMap((f) =>
  OF_FAMILY[f]
    .filter(({ name }) => EVERYWHERE.has(name))
    .flatMap((protocol): Row[] => [
      {
        name: `plain stack: IPv${f} ${protocol.name} of a pod to the internet is dropped`,
        hook: "to_net",
        device: "eth0",
        packet: of(protocol, f, [links.toNet, POD_A, INTERNET]),
        expect: refused,
      },
      {
        name: `plain stack: IPv${f} ${protocol.name} of a pod to another node's pod keeps its address`,
        hook: "to_net",
        device: "eth0",
        packet: of(protocol, f, [links.toNet, POD_A, POD_FAR]),
        expect: passing(protocol),
      },
    ]),
);
runRows(import.meta.filename, () => stack, byStack);
