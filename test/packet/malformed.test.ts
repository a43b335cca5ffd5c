// SPDX-License-Identifier: Apache-2.0
// Packets that lie, are cut short, or carry what is not looked into: they never pass a bound, are never half rewritten, and
// are counted.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { waitFor } from "../../src/base/async.ts";
import { DropReason, Hook } from "../../src/maps/gen/verdict.ts";
import { attachIngress, FarEnd } from "../support/cable.ts";
import { HOOKS, type HookName } from "../support/datapath.ts";
import { eth, type Packet } from "../support/packet.ts";
import { INTERNET, MAC, NODE, NODE_FAR, POD_A, POD_B, POD_FAR } from "../support/packet-node.ts";
import { type Bench, type Expectation, type Row, reset, runRows, send } from "../support/packet-rows.ts";
import {
  FAMILIES,
  type Family,
  fromNet,
  fromPodA,
  Rig,
  TCP,
  TRANSPORTS,
  toNet,
  toPodA,
  UDP,
} from "../support/transports.ts";

const PORT = 44000;
let rig: Rig;
let bench: Bench;
before(() => {
  rig = new Rig();
  bench = rig.load();
});
after(() => rig?.close());

const DEVICE = { from_pod: "hla", to_pod: "hla", from_net: "eth0", to_net: "eth0" } as const;
/** What each hook would translate or track if it were whole. */
const WHOLE: Record<HookName, (family: Family) => Packet> = {
  from_pod: (f) => fromPodA(f, POD_A, INTERNET),
  to_pod: (f) => toPodA(f, NODE, POD_A),
  from_net: (f) => fromNet(f, INTERNET, NODE),
  to_net: (f) => toNet(f, POD_A, INTERNET),
};

for (const hook of HOOKS) {
  for (const family of FAMILIES) {
    for (const transport of TRANSPORTS) {
      test(`${hook}: IPv${family} ${transport.name} cut at every byte`, () => {
        reset(bench);
        const { datapath, devices } = bench;
        send(bench, "from_pod", "hla", transport.open(WHOLE.from_pod(family), PORT, family));
        const build = hook === "from_net" ? transport.answer : transport.open;
        const whole = build(WHOLE[hook](family), PORT, family).bytes();
        const dropping = hook === "from_pod" || hook === "from_net";
        const number = {
          from_pod: Hook.HOOK_FROM_POD,
          to_pod: Hook.HOOK_TO_POD,
          from_net: Hook.HOOK_FROM_NET,
          to_net: Hook.HOOK_TO_NET,
        }[hook];
        const count = (): bigint =>
          [DropReason.FORWARDED, DropReason.DROP_INVALID, DropReason.DROP_CT_INVALID_HDR]
            .map((reason) => datapath.counter(number, reason).packets)
            .reduce((sum, packets) => sum + packets, 0n);
        // A test run needs a whole IP header; what is shorter comes over the cable below.
        for (let length = family === 4 ? 34 : 54; length < whole.length; length++) {
          const counted = count();
          const cut = whole.slice(0, length);
          const result = datapath.run(hook, cut, { ifindex: devices[DEVICE[hook]] });
          assert.equal(result.verdict, dropping ? "drop" : "pass", `${length} of ${whole.length} bytes`);
          assert.deepEqual(result.packet, cut, `${length} bytes are unchanged`);
          assert.equal(count() - counted, 1n, `${length} bytes are counted`);
        }
      });
    }
  }
}

for (const [hook, device] of [
  ["from_pod", "hla"],
  ["from_net", "eth0"],
] as const) {
  test(`${hook}: cut at every byte of the IP header, over a cable`, async () => {
    reset(bench);
    const { datapath } = bench;
    attachIngress(rig.node, device, datapath.program(hook));
    using far = new FarEnd(rig.node, device);
    const number = hook === "from_pod" ? Hook.HOOK_FROM_POD : Hook.HOOK_FROM_NET;
    const dropped = (): bigint => datapath.counter(number, DropReason.DROP_CT_INVALID_HDR).packets;
    for (const family of FAMILIES) {
      const whole = TCP.open(WHOLE[hook](family), PORT, family).bytes();
      for (let length = 14; length < (family === 4 ? 34 : 54); length++) {
        const before = dropped();
        far.send(whole.slice(0, length));
        await waitFor(`IPv${family} of ${length} bytes to be dropped`, () => dropped() === before + 1n);
      }
    }
  });
}

/** A packet of pod a that must be dropped without a trace in the flow table. */
function refusedFromPod(name: string, packet: Packet, reason: keyof typeof DropReason): Row {
  const expect: Expectation = {
    verdict: "drop",
    reason,
    flows: (entries) => assert.equal(entries.length, 0),
  };
  return { name, hook: "from_pod", device: "hla", packet, expect };
}

const v4 = (fields: object): Packet =>
  eth(MAC.podA, MAC.hostA).ipv4({ src: POD_A[4], dst: INTERNET[4], ...fields });
const v6 = (fields: object = {}): Packet =>
  eth(MAC.podA, MAC.hostA).ipv6({ src: POD_A[6], dst: INTERNET[6], ...fields });
const syn = { sport: PORT, dport: 80, flags: "S" };

const lies: Row[] = [
  refusedFromPod("IPv4 with version 5", v4({ version: 5 }).tcp(syn), "DROP_INVALID"),
  refusedFromPod("IPv4 with a header of 16 bytes", v4({ ihl: 4 }).tcp(syn), "DROP_INVALID"),
  refusedFromPod("IPv4 with a header longer than the packet", v4({ ihl: 15 }).tcp(syn), "DROP_INVALID"),
  refusedFromPod("IPv4 length over the packet's", v4({ length: 400 }).tcp(syn), "DROP_INVALID"),
  refusedFromPod("IPv4 length under its header's", v4({ length: 19 }).tcp(syn), "DROP_INVALID"),
  refusedFromPod("IPv4 length that cuts TCP", v4({ length: 39 }).tcp(syn), "DROP_CT_INVALID_HDR"),
  refusedFromPod("IPv4 length zero", v4({ length: 0 }).tcp(syn), "DROP_INVALID"),
  refusedFromPod("IPv6 with version 4", v6({ version: 4 }).tcp(syn), "DROP_INVALID"),
  refusedFromPod("IPv6 length over the packet's", v6({ length: 400 }).tcp(syn), "DROP_INVALID"),
  refusedFromPod("IPv6 length that cuts TCP", v6({ length: 19 }).tcp(syn), "DROP_CT_INVALID_HDR"),
  refusedFromPod("TCP with a header of 16 bytes", v4({}).tcp({ ...syn, doff: 4 }), "DROP_CT_INVALID_HDR"),
  refusedFromPod(
    "TCP with a header longer than the packet",
    v6().tcp({ ...syn, doff: 15 }),
    "DROP_CT_INVALID_HDR",
  ),
  ...FAMILIES.map((f) =>
    refusedFromPod(
      `IPv${f} under another pod's address`,
      TCP.open(fromPodA(f, POD_B, INTERNET), PORT, f),
      "DROP_INVALID_SOURCE_IP",
    ),
  ),
  ...FAMILIES.map((f) =>
    refusedFromPod(
      `IPv${f} under the node's address`,
      UDP.open(fromPodA(f, NODE, INTERNET), PORT, f),
      "DROP_INVALID_SOURCE_IP",
    ),
  ),
  {
    ...refusedFromPod(
      "from a device that is no pod's",
      TCP.open(fromPodA(4, POD_A, INTERNET), PORT, 4),
      "DROP_INVALID_SOURCE_IP",
    ),
    device: "un0",
  },
];

/** Extension headers (RFC 8200 4.1) before the transport header. */
function extended(packet: Packet, types: readonly number[]): Packet {
  return types.reduce((on, type) => on.extension({ type }), packet);
}

const tooMany = refusedFromPod(
  "IPv6 with seven extension headers",
  extended(v6(), [60, 60, 60, 60, 60, 60, 60]).tcp(syn),
  "DROP_INVALID_EXTHDR",
);
const cutExtension = refusedFromPod(
  "IPv6 whose payload ends inside an extension header",
  v6({ length: 4 }).extension({ type: 60 }).tcp(syn),
  "DROP_INVALID_EXTHDR",
);

function laterFragment(family: Family, src: string, dst: string, ttl: number): Packet {
  const link = eth(MAC.podA, MAC.hostA);
  const offset = 1400;
  if (family === 4) return link.ipv4({ src, dst, ttl, df: false, offset, protocol: 17 }).payload("rest");
  return link.ipv6({ src, dst, hopLimit: ttl }).fragment6({ offset }).payload("rest");
}

const fragments = FAMILIES.flatMap((f): Row[] => [
  {
    name: `IPv${f} later fragment without its first to the internet waits`,
    hook: "from_pod",
    device: "hla",
    packet: laterFragment(f, POD_A[f], INTERNET[f], 64),
    expect: { verdict: "drop", held: true },
  },
  {
    name: `IPv${f} later fragment without its first to another node's pod is forwarded`,
    hook: "from_pod",
    device: "hla",
    packet: laterFragment(f, POD_A[f], POD_FAR[f], 64),
    expect: { verdict: "redirect", packet: laterFragment(f, POD_A[f], POD_FAR[f], 63) },
  },
]);

/** Link business: never dropped, never translated, whoever sends it. */
const LINK: [name: string, Packet][] = [
  ["ARP", eth(MAC.podA, "ff:ff:ff:ff:ff:ff").payload(new Uint8Array(28))],
  [
    "neighbour solicitation",
    eth()
      .ipv6({ src: POD_A[6], dst: "fe80::1", hopLimit: 255 })
      .icmp({ type: 135 })
      .payload(new Uint8Array(16)),
  ],
  ["router solicitation", eth().ipv6({ src: "fe80::5", dst: "ff02::2", hopLimit: 255 }).icmp({ type: 133 })],
  [
    "router solicitation of the node",
    eth().ipv6({ src: NODE[6], dst: "ff02::2", hopLimit: 255 }).icmp({ type: 133 }),
  ],
  [
    "multicast listener report",
    eth()
      .ipv6({ src: "fe80::5", dst: "ff02::16", hopLimit: 1 })
      .extension({ type: 0 })
      .icmp({ type: 143 })
      .payload(new Uint8Array(20)),
  ],
  [
    "duplicate address detection",
    eth()
      .ipv6({ src: "::", dst: "ff02::1:ff00:5", hopLimit: 255 })
      .icmp({ type: 135 })
      .payload(new Uint8Array(16)),
  ],
  [
    "IPv4 multicast",
    eth().ipv4({ src: POD_A[4], dst: "224.0.0.251", ttl: 255 }).udp({ sport: 5353, dport: 5353 }),
  ],
  ["IPv4 broadcast", eth().ipv4({ src: POD_A[4], dst: "255.255.255.255" }).udp({ sport: 68, dport: 67 })],
  ["link-local TCP", eth().ipv6({ src: "fe80::5", dst: "fe80::1" }).tcp(syn)],
];
const link = LINK.flatMap(([name, packet]) =>
  HOOKS.map(
    (hook): Row => ({
      name: `${hook}: ${name} is the stack's`,
      hook,
      device: DEVICE[hook],
      packet,
      expect: { verdict: "pass", flows: (entries) => assert.equal(entries.length, 0) },
    }),
  ),
);

/** Neighbour discovery between global addresses: an exemption by type would let it leave under the pod's address. */
const solicitation = (src: string, dst: string): Packet =>
  eth(MAC.podA, MAC.hostA).ipv6({ src, dst, hopLimit: 255 }).icmp({ type: 135 }).payload(new Uint8Array(16));
const discovery: Row[] = [
  {
    name: "from_pod: neighbour solicitation to the node's global address is the stack's",
    hook: "from_pod",
    device: "hla",
    packet: solicitation(POD_A[6], NODE[6]),
    expect: { verdict: "pass" },
  },
  {
    name: "to_net: neighbour solicitation of the node to a global address is the stack's",
    hook: "to_net",
    device: "eth0",
    packet: solicitation(NODE[6], NODE_FAR[6]),
    expect: { verdict: "pass" },
  },
  refusedFromPod(
    "neighbour solicitation to the internet",
    solicitation(POD_A[6], INTERNET[6]),
    "DROP_NAT_UNSUPP_PROTO",
  ),
  refusedFromPod(
    "IPv6 to an IPv4-mapped address",
    eth(MAC.podA, MAC.hostA)
      .ipv6({ src: POD_A[6], dst: `::ffff:${POD_B[4]}` })
      .tcp(syn),
    "DROP_INVALID",
  ),
  refusedFromPod(
    "UDP longer than its packet",
    v4({}).udp({ sport: PORT, dport: 53, length: 9 }),
    "DROP_CT_INVALID_HDR",
  ),
  refusedFromPod(
    "UDP shorter than its header",
    v6().udp({ sport: PORT, dport: 53, length: 7 }),
    "DROP_CT_INVALID_HDR",
  ),
];

runRows(import.meta.filename, () => bench, [
  ...lies,
  tooMany,
  cutExtension,
  ...fragments,
  ...link,
  ...discovery,
]);
