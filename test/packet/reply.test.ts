// SPDX-License-Identifier: Apache-2.0
// Packets of known flows: answers that come back, later packets that go out, replies judged by who opened the flow, and
// records that are dead because of their time, their owner or their translation.
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { MAPS } from "../../src/maps/gen/maps.ts";
import type { Flow } from "../../src/maps/gen/types.ts";
import { FlowState } from "../../src/maps/gen/verdict.ts";
import { longAgo } from "../support/datapath.ts";
import {
  type Both,
  ENDPOINT_B,
  INTERNET,
  NODE,
  NODE_ETH1,
  POD_A,
  POD_B,
  POD_FAR,
} from "../support/packet-node.ts";
import { assertLives, type Bench, type Row, runRows, send } from "../support/packet-rows.ts";
import {
  FAMILIES,
  type Family,
  forAll,
  forEach,
  fromNet,
  fromPodA,
  fromPodB,
  PING,
  Rig,
  SERVICE_PORT,
  SESSIONS,
  TCP,
  TRANSPORTS,
  type Transport,
  toPodA,
  toPodB,
  UDP,
} from "../support/transports.ts";

const PORT = 41000;
let rig: Rig;
let bench: Bench;
before(() => {
  rig = new Rig();
  bench = rig.load();
});
after(() => rig?.close());

function opened(family: Family, transport: Transport, dst = INTERNET): (b: Bench) => void {
  return (b) => {
    const first = transport.open(fromPodA(family, POD_A, dst), PORT, family);
    assert.equal(send(b, "from_pod", "hla", first), "redirect");
  };
}

/** Changes the one record of the table. */
function change(b: Bench, fields: Partial<Flow>): void {
  const [entry] = b.datapath.flows.entries();
  assert.ok(entry, "no flow was opened");
  b.datapath.flows.set(entry[0], { ...entry[1], ...fields });
}

const oneFlow =
  (check: (flow: Flow, sent: number) => void) =>
  (entries: [unknown, Flow][], sent: number): void => {
    assert.equal(entries.length, 1, "records");
    check(entries[0]?.[1] as Flow, sent);
  };

function answer(family: Family, transport: Transport, ttl = 64): Row {
  return {
    name: `IPv${family} ${transport.name} answer is translated back and delivered`,
    given: opened(family, transport),
    hook: "from_net",
    device: "eth0",
    packet: transport.answer(fromNet(family, INTERNET, NODE, ttl), PORT, family),
    expect: {
      verdict: "redirect",
      packet: transport.answer(toPodA(family, INTERNET, POD_A, ttl - 1), PORT, family),
      flows: oneFlow((flow) => assert.ok(flow.state & FlowState.FLOW_REPLIED, "the record says: answered")),
    },
  };
}

const established = forAll((f, t): Row[] => [
  answer(f, t),
  {
    ...answer(f, t),
    name: `IPv${f} ${t.name} answer with its TTL used up is translated and left to the stack`,
    packet: t.answer(fromNet(f, INTERNET, NODE, 1), PORT, f),
    expect: { verdict: "pass", packet: t.answer(fromNet(f, INTERNET, POD_A, 1), PORT, f) },
  },
  {
    name: `IPv${f} ${t.name} later packet leaves like the first and opens nothing`,
    given: opened(f, t),
    hook: "from_pod",
    device: "hla",
    packet: t.more(fromPodA(f, POD_A, INTERNET), PORT, f),
    expect: {
      verdict: "redirect",
      packet: t.more(fromPodA(f, NODE, INTERNET, 63), PORT, f),
      rule: "MASQ_POD",
      flows: oneFlow((flow) => assert.equal(flow.xsport, PORT)),
    },
  },
  {
    name: `IPv${f} ${t.name} answer to an expired flow is the stack's`,
    given: (b) => {
      opened(f, t)(b);
      change(b, { expires: longAgo() });
    },
    hook: "from_net",
    device: "eth0",
    packet: t.answer(fromNet(f, INTERNET, NODE), PORT, f),
    expect: { verdict: "pass" },
  },
  {
    name: `IPv${f} ${t.name} answer to a flow whose address now is another pod's is the stack's`,
    given: (b) => {
      opened(f, t)(b);
      const addresses = b.datapath.table(MAPS.endpoint_addrs);
      const pod = addresses.get(POD_A[f]);
      if (pod) addresses.set(POD_A[f], { ...pod, id: 999 });
    },
    hook: "from_net",
    device: "eth0",
    packet: t.answer(fromNet(f, INTERNET, NODE), PORT, f),
    expect: { verdict: "pass" },
  },
  {
    name: `IPv${f} ${t.name} answer whose record names another port is the stack's`,
    given: (b) => {
      opened(f, t)(b);
      change(b, { xsport: PORT + 1 });
    },
    hook: "from_net",
    device: "eth0",
    packet: t.answer(fromNet(f, INTERNET, NODE), PORT, f),
    expect: { verdict: "pass" },
  },
  {
    name: `IPv${f} ${t.name} answer whose record was removed is the stack's`,
    given: (b) => {
      opened(f, t)(b);
      b.datapath.flows.clear();
    },
    hook: "from_net",
    device: "eth0",
    packet: t.answer(fromNet(f, INTERNET, NODE), PORT, f),
    expect: { verdict: "pass" },
  },
  {
    name: `IPv${f} ${t.name} to the node without a flow is the node's own`,
    hook: "from_net",
    device: "eth0",
    packet: t.open(fromNet(f, INTERNET, NODE), PORT, f),
    expect: { verdict: "pass", flows: (entries) => assert.equal(entries.length, 0) },
  },
]).flat();

/** A remote opens a flow to pod b by native routing; `FLOW_INBOUND`. */
function inbound(family: Family, transport: Transport, src: Both): (b: Bench) => void {
  return (b) => {
    const first = transport.open(fromNet(family, src, POD_B), PORT, family);
    assert.equal(send(b, "from_net", "eth0", first), "redirect");
  };
}

const native = forEach([...TRANSPORTS, ...SESSIONS], (f, t): Row[] => [
  {
    name: `IPv${f} ${t.name} from another node's pod is tracked and delivered`,
    hook: "from_net",
    device: "eth0",
    packet: t.open(fromNet(f, POD_FAR, POD_B), PORT, f),
    expect: {
      verdict: "redirect",
      packet: t.open(toPodB(f, POD_FAR, POD_B, 63), PORT, f),
      fresh: true,
      flows: oneFlow((flow) => {
        assert.equal(flow.state, FlowState.FLOW_INBOUND);
        assert.equal(flow.endpoint, ENDPOINT_B);
      }),
    },
  },
  {
    name: `IPv${f} ${t.name} the pod's answer to a flow opened outside keeps its address (rule 3)`,
    given: inbound(f, t, INTERNET),
    hook: "from_pod",
    device: "hlb",
    packet: t.answer(fromPodB(f, POD_B, INTERNET), PORT, f),
    expect: {
      verdict: "redirect",
      packet: t.answer(fromPodB(f, POD_B, INTERNET, 63), PORT, f),
      flows: oneFlow((flow) => assert.ok(flow.state & FlowState.FLOW_REPLIED)),
      replies: (entries) => assert.equal(entries.length, 0),
    },
  },
  {
    name: `IPv${f} ${t.name} the answer of a local pod is delivered as it is`,
    given: opened(f, t, POD_B),
    hook: "from_pod",
    device: "hlb",
    packet: t.answer(fromPodB(f, POD_B, POD_A), PORT, f),
    expect: { verdict: "redirect", packet: t.answer(toPodA(f, POD_B, POD_A, 63), PORT, f) },
  },
  {
    name: `IPv${f} ${t.name} from the node to a pod is tracked, and goes on`,
    hook: "to_pod",
    device: "hlb",
    packet: t.open(toPodB(f, NODE, POD_B), PORT, f),
    expect: {
      verdict: "pass",
      fresh: true,
      rule: "MASQ_LOCAL",
      flows: oneFlow((flow) =>
        assert.deepEqual([flow.state, flow.endpoint], [FlowState.FLOW_INBOUND, ENDPOINT_B]),
      ),
    },
  },
  {
    name: `IPv${f} ${t.name} the pod's answer to the node is the stack's`,
    given: (b) => {
      assert.equal(send(b, "to_pod", "hlb", t.open(toPodB(f, NODE, POD_B), PORT, f)), "pass");
    },
    hook: "from_pod",
    device: "hlb",
    packet: t.answer(fromPodB(f, POD_B, NODE), PORT, f),
    expect: { verdict: "pass", flows: oneFlow((flow) => assert.ok(flow.state & FlowState.FLOW_REPLIED)) },
  },
]).flat();

const syn = FAMILIES.flatMap((f): Row[] => [
  {
    name: `IPv${f} SYN of a pod between the ports of a flow opened outside opens its own, masqueraded`,
    given: inbound(f, TCP, INTERNET),
    hook: "from_pod",
    device: "hlb",
    packet: fromPodB(f, POD_B, INTERNET).tcp({ sport: SERVICE_PORT, dport: PORT, flags: "S" }),
    expect: {
      verdict: "redirect",
      rule: "MASQ_POD",
      packet: "any",
      fresh: true,
      flows: (entries) => assert.equal(entries.length, 2),
    },
  },
]);

/** Packets of TCP that no record knows, and what they must not do. */
const late = FAMILIES.flatMap((f): Row[] => [
  {
    name: `IPv${f} late TCP packet to the internet never leaves untranslated`,
    hook: "from_pod",
    device: "hla",
    packet: TCP.more(fromPodA(f, POD_A, INTERNET), PORT, f),
    expect: {
      verdict: "drop",
      reason: "DROP_CT_CANT_CREATE",
      rule: "MASQ_POD",
      flows: (entries) => assert.equal(entries.length, 0),
    },
  },
  {
    name: `IPv${f} late TCP packet of an expired flow never leaves untranslated`,
    given: (b) => {
      opened(f, TCP)(b);
      change(b, { expires: longAgo() });
    },
    hook: "from_pod",
    device: "hla",
    packet: TCP.more(fromPodA(f, POD_A, INTERNET), PORT, f),
    expect: { verdict: "drop", reason: "DROP_CT_CANT_CREATE", rule: "MASQ_POD" },
  },
  {
    name: `IPv${f} late answer of a pod whose inbound record expired never leaves untranslated`,
    given: (b) => {
      inbound(f, TCP, INTERNET)(b);
      change(b, { expires: longAgo() });
    },
    hook: "from_pod",
    device: "hlb",
    packet: TCP.answer(fromPodB(f, POD_B, INTERNET), PORT, f),
    expect: { verdict: "drop", reason: "DROP_CT_CANT_CREATE" },
  },
  {
    name: `IPv${f} late TCP packet to another node's pod is forwarded without a record`,
    hook: "from_pod",
    device: "hla",
    packet: TCP.more(fromPodA(f, POD_A, POD_FAR), PORT, f),
    expect: {
      verdict: "redirect",
      packet: TCP.more(fromPodA(f, POD_A, POD_FAR, 63), PORT, f),
      flows: (entries) => assert.equal(entries.length, 0),
    },
  },
  {
    name: `IPv${f} unasked echo reply to the internet never leaves untranslated`,
    hook: "from_pod",
    device: "hla",
    packet: PING.answer(fromPodA(f, POD_A, INTERNET), PORT, f),
    expect: { verdict: "drop", reason: "DROP_CT_CANT_CREATE" },
  },
  {
    name: `IPv${f} straight packet to a pod is no answer to its masqueraded flow`,
    given: opened(f, UDP),
    hook: "from_net",
    device: "eth0",
    packet: UDP.answer(fromNet(f, INTERNET, POD_A), PORT, f),
    expect: {
      verdict: "redirect",
      packet: UDP.answer(toPodA(f, INTERNET, POD_A, 63), PORT, f),
      fresh: true,
      flows: (entries) => assert.equal(entries.length, 2),
    },
  },
  {
    name: `IPv${f} answer at the address of another device is not the flow's`,
    given: opened(f, UDP),
    hook: "from_net",
    device: "eth1",
    packet: UDP.answer(fromNet(f, INTERNET, NODE_ETH1), PORT, f),
    expect: { verdict: "pass" },
  },
]);

function tcp(f: Family, from: "pod" | "net", flags: string): (b: Bench) => void {
  return (b) => {
    const packet =
      from === "pod"
        ? fromPodA(f, POD_A, INTERNET).tcp({ sport: PORT, dport: SERVICE_PORT, flags })
        : fromNet(f, INTERNET, NODE).tcp({ sport: SERVICE_PORT, dport: PORT, flags });
    if (from === "pod") send(b, "from_pod", "hla", packet);
    else send(b, "from_net", "eth0", packet);
  };
}

/** TCP's states as a table: who sent what in this order, and how long the record then lives, in seconds. */
const TCP_LIVES: { name: string; exchange: string; seconds: number }[] = [
  { name: "unanswered", exchange: "pod:S", seconds: 60 },
  { name: "answered", exchange: "pod:S net:SA", seconds: 8000 },
  { name: "half closed by the pod", exchange: "pod:S net:SA pod:FA", seconds: 8000 },
  { name: "half closed by the far end", exchange: "pod:S net:SA net:FA", seconds: 8000 },
  { name: "closed by both", exchange: "pod:S net:SA pod:FA net:FA", seconds: 10 },
  { name: "reset by the far end", exchange: "pod:S net:RA", seconds: 10 },
  { name: "reset by the pod", exchange: "pod:S net:SA pod:R", seconds: 10 },
  { name: "opened again after both closed", exchange: "pod:S net:SA pod:FA net:FA pod:S", seconds: 60 },
  { name: "opened again and answered", exchange: "pod:S net:RA pod:S net:SA", seconds: 8000 },
];

const lives = FAMILIES.flatMap((f) =>
  TCP_LIVES.map(({ name, exchange, seconds }): Row => {
    const steps = exchange.split(" ").map((step) => step.split(":") as ["pod" | "net", string]);
    const [from, flags] = steps.pop() as ["pod" | "net", string];
    const pod = from === "pod";
    const shape = { flags, sport: pod ? PORT : SERVICE_PORT, dport: pod ? SERVICE_PORT : PORT };
    return {
      name: `IPv${f} TCP ${name} lives ${seconds} s`,
      given: (b) => {
        for (const [sender, sent] of steps) tcp(f, sender, sent)(b);
      },
      hook: pod ? "from_pod" : "from_net",
      device: pod ? "hla" : "eth0",
      packet: (pod ? fromPodA(f, POD_A, INTERNET) : fromNet(f, INTERNET, NODE)).tcp(shape),
      expect: {
        verdict: "redirect",
        packet: (pod ? fromPodA(f, NODE, INTERNET, 63) : toPodA(f, INTERNET, POD_A, 63)).tcp(shape),
        fresh: flags === "S",
        flows: oneFlow((flow, sent) => assertLives(flow, seconds, sent)),
      },
    };
  }),
);

runRows(import.meta.filename, () => bench, [...established, ...native, ...syn, ...late, ...lives]);
