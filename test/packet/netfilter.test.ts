// SPDX-License-Identifier: Apache-2.0
// Where netfilter masquerades: new flows go to the stack with the mark that the rules look for, and are known to be the rules'
// afterwards; flows that are older than this mode stay with the programs, both ways. And what netfilter translated, taken over.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { MAPS } from "../../src/maps/gen/maps.ts";
import { FlowState, MasqueradeRule } from "../../src/maps/gen/verdict.ts";
import { ALL_ON } from "../support/datapath.ts";
import { differences } from "../support/packet-fields.ts";
import { ENDPOINT_A, EXCLUDED, INTERNET, NODE, POD_A, POD_B } from "../support/packet-node.ts";
import { type Bench, type Row, runRows, send } from "../support/packet-rows.ts";
import {
  type Family,
  forAll,
  forEach,
  fromNet,
  fromPodA,
  GRE,
  PING,
  Rig,
  TCP,
  TRANSPORTS,
  type Transport,
  toNet,
  toPodA,
} from "../support/transports.ts";

const PORT = 47000;
/** The port that netfilter gave. */
const XPORT = 47100;
/** lib/pkt.h, MARK_NETFILTER. */
const MARK = 0x00400000;

let rig: Rig;
let netfilter: Bench;
let bpf: Bench;
before(() => {
  rig = new Rig();
  netfilter = rig.load({ ...ALL_ON, hostRouting: 0, netfilter: 1, masqueradeIpv4: 0, masqueradeIpv6: 0 });
  bpf = rig.load();
});
after(() => rig?.close());

/** A flow of pod a that was translated before, by these programs or by netfilter. */
function adopt(b: Bench, family: Family, transport: Transport, xsport = XPORT): boolean {
  const [sport, dport] = [PORT, transport.servicePort];
  return b.datapath.adopt({
    key: { saddr: POD_A[family], daddr: INTERNET[family], sport, dport, proto: transport.proto[family] },
    xsaddr: NODE[family],
    xsport,
    endpoint: ENDPOINT_A,
    identity: 4242,
    state: FlowState.FLOW_XSOURCE | FlowState.FLOW_REPLIED,
  });
}

const records = (count: number) => ({
  flows: (entries: unknown[]) => assert.equal(entries.length, count, "records"),
});
const oneOfNetfilter: Row["expect"]["flows"] = (entries) => {
  assert.equal(entries.length, 1, "records");
  assert.equal(entries[0]?.[1].rule, MasqueradeRule.MASQ_NETFILTER);
};

const newRows = forEach([...TRANSPORTS, GRE], (f, t): Row[] => [
  {
    name: `IPv${f} ${t.name} that opens a flow goes to the stack and leaves no record`,
    hook: "from_pod",
    device: "hla",
    packet: t.open(fromPodA(f, POD_A, INTERNET), PORT, f),
    expect: { verdict: "pass", ...records(0) },
  },
  {
    name: `IPv${f} ${t.name} under another pod's address is dropped`,
    hook: "from_pod",
    device: "hla",
    packet: t.open(fromPodA(f, POD_B, INTERNET), PORT, f),
    expect: { verdict: "drop", reason: "DROP_INVALID_SOURCE_IP" },
  },
  {
    name: `IPv${f} ${t.name} that the rules kept leaves as it is, and its record tells`,
    hook: "to_net",
    device: "eth0",
    packet: t.open(toNet(f, POD_A, EXCLUDED, 63), PORT, f),
    expect: { verdict: "pass", fresh: true, rule: "MASQ_NETFILTER", flows: oneOfNetfilter },
  },
  {
    name: `IPv${f} ${t.name} that the rules translated leaves as it is and opens nothing`,
    hook: "to_net",
    device: "eth0",
    packet: t.open(toNet(f, NODE, INTERNET, 63), PORT, f),
    expect: { verdict: "pass", ...records(0) },
  },
  {
    name: `IPv${f} ${t.name} of a flow that the rules kept goes to the stack again`,
    given: (b) => void send(b, "to_net", "eth0", t.open(toNet(f, POD_A, EXCLUDED, 63), PORT, f)),
    hook: "from_pod",
    device: "hla",
    packet: t.more(fromPodA(f, POD_A, EXCLUDED), PORT, f),
    expect: { verdict: "pass", ...records(1) },
  },
  {
    name: `IPv${f} ${t.name} from outside to the pod goes to the stack, its opener known`,
    hook: "from_net",
    device: "eth0",
    packet: t.open(fromNet(f, INTERNET, POD_A), PORT, f),
    expect: { verdict: "pass", fresh: true, flows: oneOfNetfilter },
  },
  {
    name: `IPv${f} ${t.name} that netfilter brought back to the pod is not taken for the opening of a flow`,
    hook: "to_pod",
    device: "hla",
    packet: t.answer(toPodA(f, INTERNET, POD_A), PORT, f),
    options: { ingress: 0 },
    expect: { verdict: "pass", ...records(0) },
  },
]).flat();

const olderRows = forAll((f, t): Row[] => [
  {
    name: `IPv${f} ${t.name} of an older flow keeps its translation and skips the stack`,
    given: (b) => assert.ok(adopt(b, f, t)),
    hook: "from_pod",
    device: "hla",
    packet: t.more(fromPodA(f, POD_A, INTERNET), PORT, f),
    expect: {
      verdict: "redirect",
      packet: t.more(fromPodA(f, NODE, INTERNET, 63), XPORT, f),
    },
  },
  {
    name: `IPv${f} ${t.name} answer to an older flow skips the stack`,
    given: (b) => assert.ok(adopt(b, f, t)),
    hook: "from_net",
    device: "eth0",
    packet: t.answer(fromNet(f, INTERNET, NODE), XPORT, f),
    expect: { verdict: "redirect", packet: t.answer(toPodA(f, INTERNET, POD_A, 63), PORT, f) },
  },
]).flat();

/** Answers that netfilter translated back come by the stack from eth0: the row needs the device's index. */
const marked = (row: Row): Row => ({
  ...row,
  name: `netfilter: ${row.name}`,
  ...(row.options?.ingress === undefined
    ? {}
    : {
        given: (b: Bench) => {
          (row.options as { ingress: number }).ingress = b.devices.eth0;
        },
      }),
});

runRows(import.meta.filename, () => netfilter, [...newRows, ...olderRows].map(marked));

test("what goes to the stack to be masqueraded carries the mark; what the programs send does not", () => {
  for (const [older, mark] of [
    [false, MARK],
    [true, 0],
  ] as const) {
    netfilter.restore();
    netfilter.datapath.flows.clear();
    netfilter.datapath.replies.clear();
    if (older) adopt(netfilter, 4, TCP);
    const packet = TCP.more(fromPodA(4, POD_A, INTERNET), PORT, 4).bytes();
    const run = netfilter.datapath.run("from_pod", packet, { ifindex: netfilter.devices.hla });
    assert.equal(run.mark & MARK, mark);
  }
});

for (const [family, transport] of forAll((f, t) => [[f, t] as const]).flat()) {
  test(`IPv${family} ${transport.name}: a flow of netfilter's goes on in BPF, and is counted`, () => {
    const { datapath, devices } = bpf;
    bpf.restore();
    datapath.flows.clear();
    datapath.replies.clear();
    datapath.forget();
    const owners = datapath.table(MAPS.owners);
    const before = Number(owners.get(ENDPOINT_A)?.flows ?? 0);
    assert.equal(adopt(bpf, family, transport), true);
    assert.equal(adopt(bpf, family, transport), false, "known already");
    assert.equal(datapath.replies.entries().length, 1);
    assert.equal(Number(owners.get(ENDPOINT_A)?.flows), before + 1);
    const more = transport.more(fromPodA(family, POD_A, INTERNET), PORT, family).bytes();
    const out = datapath.run("from_pod", more, { ifindex: devices.hla });
    assert.equal(out.verdict, "redirect");
    assert.deepEqual(
      differences(transport.more(fromPodA(family, NODE, INTERNET, 63), XPORT, family).bytes(), out.packet),
      [],
    );
    const answer = transport.answer(fromNet(family, INTERNET, NODE), XPORT, family).bytes();
    const back = datapath.run("from_net", answer, { ifindex: devices.eth0 });
    assert.equal(back.verdict, "redirect");
    assert.deepEqual(
      differences(transport.answer(toPodA(family, INTERNET, POD_A, 63), PORT, family).bytes(), back.packet),
      [],
    );
  });
}

test("a port that another flow holds is not taken over", () => {
  bpf.restore();
  bpf.datapath.flows.clear();
  bpf.datapath.replies.clear();
  bpf.datapath.forget();
  assert.equal(send(bpf, "from_pod", "hla", PING.open(fromPodA(4, POD_A, INTERNET), XPORT, 4)), "redirect");
  assert.equal(adopt(bpf, 4, PING), false);
  assert.equal(bpf.datapath.flows.entries().length, 1);
});
