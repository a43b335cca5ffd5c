// SPDX-License-Identifier: Apache-2.0
// A pod sends to the outside: every rule of the decision order, with everything on, for both families.
import assert from "node:assert/strict";
import { after, before } from "node:test";
import type { Flow, FlowKey, Reply } from "../../src/maps/gen/types.ts";
import { ALL_ON, TestDatapath } from "../support/datapath.ts";
import { eth, type Packet } from "../support/packet.ts";
import {
  type Both,
  BY_ETH1,
  BY_UNMANAGED,
  ENDPOINT_A,
  EXCLUDED,
  EXCLUDED_SOURCE,
  INTERNET,
  MAC,
  NODE,
  NODE_ETH1,
  NODE_FAR,
  PacketNode,
  POD_A,
  POD_FAR,
} from "../support/packet-node.ts";
import { type Bench, type Row, runRows } from "../support/packet-rows.ts";

const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];

let node: PacketNode;
let datapath: TestDatapath;

before(() => {
  node = new PacketNode();
  datapath = new TestDatapath(ALL_ON, node.netns);
  node.describe(datapath);
});
after(async () => {
  datapath?.[Symbol.dispose]();
  await node?.[Symbol.asyncDispose]();
});

const bench = (): Bench => ({ datapath, devices: node.devices });

/** What pod a sends, and how it must look when it leaves. */
interface Transport {
  name: string;
  proto: Record<Family, number>;
  open(packet: Packet, sport: number): Packet;
}

const TRANSPORTS: readonly Transport[] = [
  { name: "TCP", proto: { 4: 6, 6: 6 }, open: (p, sport) => p.tcp({ sport, dport: 80, flags: "S" }) },
  {
    name: "UDP",
    proto: { 4: 17, 6: 17 },
    open: (p, sport) => p.udp({ sport, dport: 53 }).payload("question"),
  },
];

function fromPod(family: Family, dst: Both, src: Both = POD_A, ttl = 64): Packet {
  return eth(MAC.podA, MAC.hostA).ip({ src: src[family], dst: dst[family], ttl });
}

function one<T>(entries: T[]): T {
  assert.equal(entries.length, 1, "entries");
  return entries[0] as T;
}

const rows: Row[] = [];
for (const family of FAMILIES) {
  for (const { name, proto, open } of TRANSPORTS) {
    rows.push({
      name: `IPv${family} ${name} to the internet leaves under the node's address and its own port`,
      hook: "from_pod",
      device: "hla",
      packet: open(fromPod(family, INTERNET), 40000),
      expect: {
        verdict: "redirect",
        packet: open(fromPod(family, INTERNET, NODE, 63), 40000),
        rule: "MASQ_POD",
        fresh: true,
        event: { xsaddr: NODE[family], xsport: 40000, endpoint: ENDPOINT_A, proto: proto[family] },
        flows: (entries: [FlowKey, Flow][]) => {
          const [key, flow] = one(entries);
          assert.equal(key.saddr, POD_A[family]);
          assert.equal(flow.xsaddr, NODE[family]);
          assert.equal(flow.endpoint, ENDPOINT_A);
        },
        replies: (entries: [FlowKey, Reply][]) => {
          const [key, reply] = one(entries);
          assert.equal(key.saddr, INTERNET[family]);
          assert.equal(key.daddr, NODE[family]);
          assert.equal(reply.saddr, POD_A[family]);
          assert.equal(reply.sport, 40000);
        },
      },
    });
  }
}
void [BY_ETH1, BY_UNMANAGED, EXCLUDED, EXCLUDED_SOURCE, NODE_ETH1, NODE_FAR, POD_FAR];
runRows(import.meta.filename, bench, rows);
