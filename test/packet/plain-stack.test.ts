// SPDX-License-Identifier: Apache-2.0
// Without host routing the node's stack forwards: from_pod only checks, to_net masquerades, from_net translates back. And what
// to_net does with traffic that is no pod's, in either mode; and a node where everything is off.
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { FlowState } from "../../src/maps/gen/verdict.ts";
import { ALL_OFF, ALL_ON, HOOKS, longAgo } from "../support/datapath.ts";
import type { Packet } from "../support/packet.ts";
import { ENDPOINT_A, EXCLUDED, INTERNET, NODE, POD_A, POD_B, POD_FAR } from "../support/packet-node.ts";
import { type Bench, type Expectation, type Row, runRows, send } from "../support/packet-rows.ts";
import {
  FAMILIES,
  type Family,
  forAll,
  fromNet,
  fromPodA,
  Rig,
  TCP,
  type Transport,
  toNet,
  toPodA,
} from "../support/transports.ts";

const PORT = 45000;
/** lib/pkt.h, MARK_DECIDED. */
const MARK_DECIDED = 0x00200000;

let rig: Rig;
let plain: Bench;
let allOn: Bench;
let allOff: Bench;
before(() => {
  rig = new Rig();
  plain = rig.load({ ...ALL_ON, hostRouting: 0 });
  allOn = rig.load();
  allOff = rig.load(ALL_OFF);
});
after(() => rig?.close());

const nothing: Pick<Expectation, "flows"> = {
  flows: (entries) => assert.equal(entries.length, 0, "records"),
};

/** What the stack sends out of eth0. */
function leaves(
  what: string,
  family: Family,
  transport: Transport,
  packet: Packet,
  expect: Expectation,
): Row {
  return { name: `IPv${family} ${transport.name} ${what}`, hook: "to_net", device: "eth0", packet, expect };
}

const out = (family: Family, transport: Transport, src: typeof POD_A, dst: typeof POD_A): Packet =>
  transport.open(toNet(family, src, dst, 63), PORT, family);

const plainRows = forAll((f, t): Row[] => [
  {
    name: `IPv${f} ${t.name} from a pod goes to the stack unchanged and opens nothing yet`,
    hook: "from_pod",
    device: "hla",
    packet: t.open(fromPodA(f, POD_A, INTERNET), PORT, f),
    expect: { verdict: "pass", ...nothing },
  },
  {
    name: `IPv${f} ${t.name} from a pod under another address is dropped`,
    hook: "from_pod",
    device: "hla",
    packet: t.open(fromPodA(f, POD_B, INTERNET), PORT, f),
    expect: { verdict: "drop", reason: "DROP_INVALID_SOURCE_IP" },
  },
  leaves("that the stack routed is masqueraded (rule 9)", f, t, out(f, t, POD_A, INTERNET), {
    verdict: "pass",
    packet: out(f, t, NODE, INTERNET),
    fresh: true,
    rule: "MASQ_POD",
    event: { endpoint: ENDPOINT_A, identity: 4242 },
  }),
  leaves(
    "that the stack routed to a nonMasqueradeCIDR keeps its address (rule 7)",
    f,
    t,
    out(f, t, POD_A, EXCLUDED),
    {
      verdict: "pass",
      fresh: true,
      rule: "MASQ_NONMASQ_CIDR",
    },
  ),
  leaves(
    "that the stack routed to another node's pod keeps its address (rule 5)",
    f,
    t,
    out(f, t, POD_A, POD_FAR),
    {
      verdict: "pass",
      fresh: true,
      rule: "MASQ_NATIVE_CIDR",
    },
  ),
  {
    name: `IPv${f} ${t.name} answer is translated back and left to the stack`,
    given: (b) => assert.equal(send(b, "to_net", "eth0", out(f, t, POD_A, INTERNET)), "pass"),
    hook: "from_net",
    device: "eth0",
    packet: t.answer(fromNet(f, INTERNET, NODE), PORT, f),
    expect: { verdict: "pass", packet: t.answer(fromNet(f, INTERNET, POD_A), PORT, f) },
  },
  {
    name: `IPv${f} ${t.name} answer that the stack hands to the pod is known`,
    given: (b) => assert.equal(send(b, "to_net", "eth0", out(f, t, POD_A, INTERNET)), "pass"),
    hook: "to_pod",
    device: "hla",
    packet: t.answer(toPodA(f, INTERNET, POD_A), PORT, f),
    expect: {
      verdict: "pass",
      flows: (entries) => {
        assert.equal(entries.length, 1, "records");
        assert.ok((entries[0]?.[1].state ?? 0) & FlowState.FLOW_REPLIED);
      },
    },
  },
  {
    ...leaves(
      "later packet is translated like the first",
      f,
      t,
      t.more(toNet(f, POD_A, INTERNET, 63), PORT, f),
      {
        verdict: "pass",
        packet: t.more(toNet(f, NODE, INTERNET, 63), PORT, f),
      },
    ),
    given: (b) => void send(b, "to_net", "eth0", out(f, t, POD_A, INTERNET)),
  },
]).flat();
const lateRows = FAMILIES.map((f) =>
  leaves(
    "late packet that the stack routed never leaves untranslated",
    f,
    TCP,
    TCP.more(toNet(f, POD_A, INTERNET), PORT, f),
    {
      verdict: "drop",
      reason: "DROP_CT_CANT_CREATE",
    },
  ),
);

runRows(
  import.meta.filename,
  () => plain,
  [...plainRows, ...lateRows].map((row) => ({ ...row, name: `plain stack: ${row.name}` })),
);

/** A pod's flow holds the node's address and PORT towards the internet. */
function heldByPod(family: Family, transport: Transport): (b: Bench) => void {
  return (b) => {
    assert.equal(
      send(b, "from_pod", "hla", transport.open(fromPodA(family, POD_A, INTERNET), PORT, family)),
      "redirect",
    );
  };
}

const FOREIGN = { 4: "192.0.2.7", 6: "2001:db8:ffff::7" } as const;

const hostRows = forAll((f, t): Row[] => [
  {
    ...leaves("that from_pod decided about passes at once", f, t, out(f, t, POD_A, INTERNET), {
      verdict: "pass",
      ...nothing,
    }),
    options: { mark: MARK_DECIDED },
  },
  leaves("of the node keeps its port and opens nothing (rule 2)", f, t, out(f, t, NODE, INTERNET), {
    verdict: "pass",
    ...nothing,
  }),
  leaves(
    "that the node forwards for others keeps its address (rule 10)",
    f,
    t,
    out(f, t, FOREIGN, INTERNET),
    {
      verdict: "pass",
      ...nothing,
    },
  ),
  {
    ...leaves(
      "of the node gets another port if a pod's flow holds its own",
      f,
      t,
      out(f, t, NODE, INTERNET),
      {
        verdict: "pass",
        packet: "any",
        fresh: true,
        rule: "MASQ_HOST",
        flows: (entries) => {
          const own = entries.find(([key]) => key.saddr === NODE[f]);
          assert.ok(own, "the node's flow has a record");
          assert.equal(own[1].endpoint, 0);
          assert.equal(own[1].xsaddr, NODE[f]);
          assert.notEqual(own[1].xsport, PORT);
        },
      },
    ),
    given: heldByPod(f, t),
  },
  {
    ...leaves("of the node keeps its port if the pod's flow expired", f, t, out(f, t, NODE, INTERNET), {
      verdict: "pass",
    }),
    given: (b) => {
      heldByPod(f, t)(b);
      for (const [key, flow] of b.datapath.flows.entries()) {
        b.datapath.flows.set(key, { ...flow, expires: longAgo() });
      }
    },
  },
]).flat();

/** The port that the node's own translated flow got; the answer to it must come back to the node's port. */
const hostAnswers = FAMILIES.map(
  (f): Row => ({
    name: `IPv${f} TCP answer to the node's translated flow ends at the node's port`,
    given: (b) => {
      heldByPod(f, TCP)(b);
      send(b, "to_net", "eth0", out(f, TCP, NODE, INTERNET));
      // The record is moved to a known port, so that the row can name it.
      for (const [key, flow] of b.datapath.flows.entries()) {
        if (key.saddr === NODE[f]) b.datapath.flows.set(key, { ...flow, xsport: PORT + 7 });
      }
      for (const [key, reply] of b.datapath.replies.entries()) {
        if (reply.saddr === NODE[f]) b.datapath.replies.set({ ...key, dport: PORT + 7 }, reply);
      }
    },
    hook: "from_net",
    device: "eth0",
    packet: TCP.answer(fromNet(f, INTERNET, NODE), PORT + 7, f),
    expect: { verdict: "pass", packet: TCP.answer(fromNet(f, INTERNET, NODE), PORT, f) },
  }),
);

const tunnel = FAMILIES.map((f): Row => {
  const packet = toNet(f, NODE, INTERNET).udp({ sport: PORT, dport: ALL_ON.tunnelPort }).payload("inner");
  return {
    name: `IPv${f} tunnel packet of the node is never translated (rule 1)`,
    given: (b) => {
      const same = fromPodA(f, POD_A, INTERNET).udp({ sport: PORT, dport: ALL_ON.tunnelPort });
      assert.equal(send(b, "from_pod", "hla", same), "redirect");
    },
    hook: "to_net",
    device: "eth0",
    packet,
    expect: { verdict: "pass" },
  };
});

runRows(import.meta.filename, () => allOn, [...hostRows, ...hostAnswers, ...tunnel]);

const off = forAll((f, t): Row[] =>
  HOOKS.map((hook) => ({
    name: `all off: ${hook}: IPv${f} ${t.name} passes untouched`,
    hook,
    device: hook.endsWith("pod") ? "hla" : "eth0",
    packet: hook === "from_pod" ? t.open(fromPodA(f, POD_B, INTERNET), PORT, f) : out(f, t, POD_A, INTERNET),
    expect: { verdict: "pass", ...nothing },
  })),
).flat();
runRows(import.meta.filename, () => allOff, off);
