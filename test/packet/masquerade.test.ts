// SPDX-License-Identifier: Apache-2.0
// A pod sends a first packet to somewhere: every rule of the decision order, with everything on, for both families and all
// transports. Rows of other configurations stand at the end.
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { NO_ADDRESS } from "../../src/base/addr.ts";
import { parsePrefix } from "../../src/base/prefix.ts";
import { nonmasqMap, planNonmasq, SourceTable } from "../../src/engine/masquerade/plan.ts";
import { MAPS } from "../../src/maps/gen/maps.ts";
import { EndpointFlag, RemoteFlag } from "../../src/maps/gen/verdict.ts";
import { ALL_ON } from "../support/datapath.ts";
import type { Packet } from "../support/packet.ts";
import {
  type Both,
  BY_ETH1,
  BY_NARROW,
  BY_SOURCE,
  BY_UNMANAGED,
  ENDPOINT_A,
  EXCLUDED,
  EXCLUDED_SOURCE,
  INTERNET,
  NODE,
  NODE_ETH1,
  NODE_FAR,
  POD_A,
  POD_B,
  POD_FAR,
  PROHIBITED,
  ROUTE_SOURCE,
} from "../support/packet-node.ts";
import { type Bench, type Expectation, type Row, runRows } from "../support/packet-rows.ts";
import {
  FAMILIES,
  type Family,
  forAll,
  fromPodA,
  Rig,
  TCP,
  type Transport,
  toPodB,
} from "../support/transports.ts";

const PORT = 40000;
const SOURCE = { origin: "here", path: "", line: 1 };
let rig: Rig;
let allOn: Bench;
const others = new Map<string, Bench>();

before(() => {
  rig = new Rig();
  allOn = rig.load();
  others.set("remote nodes", rig.load({ ...ALL_ON, masqueradeRemoteNodes: 1 }));
  others.set("tunnel", rig.load({ ...ALL_ON, tunnel: 1 }));
  others.set("route source", rig.load({ ...ALL_ON, masqueradeToRouteSource: 1 }));
  others.set("masquerade off", rig.load({ ...ALL_ON, masqueradeIpv4: 0, masqueradeIpv6: 0 }));
});
after(() => rig?.close());

function only<T>(entries: T[]): T {
  assert.equal(entries.length, 1, "entries of the table");
  return entries[0] as T;
}

/** The first packet of a flow of pod a. */
function opening(family: Family, transport: Transport, dst: Both, src = POD_A, ttl = 64): Packet {
  return transport.open(fromPodA(family, src, dst, ttl), PORT, family);
}

/** A first packet of pod a: from_pod on its device. */
function sends(what: string, family: Family, transport: Transport, dst: Both, expect: Expectation): Row {
  return {
    name: `IPv${family} ${transport.name} ${what}`,
    hook: "from_pod",
    device: "hla",
    packet: opening(family, transport, dst),
    expect: { fresh: true, ...expect },
  };
}

/** The packet leaves by redirect with another source address and the same port. */
function leavesAs(family: Family, transport: Transport, dst: Both, source: Both): Expectation {
  return {
    verdict: "redirect",
    packet: opening(family, transport, dst, source, 63),
    flows: (entries) => {
      const [key, flow] = only(entries);
      assert.deepEqual([key.saddr, key.daddr], [POD_A[family], dst[family]]);
      assert.deepEqual([key.sport, key.dport], [PORT, transport.servicePort]);
      assert.deepEqual([flow.xsaddr, flow.xsport, flow.endpoint], [source[family], PORT, ENDPOINT_A]);
    },
    replies: (entries) => {
      if (source === POD_A) return assert.deepEqual(entries, []);
      const [key, reply] = only(entries);
      assert.deepEqual([key.saddr, key.daddr], [dst[family], source[family]]);
      assert.deepEqual([key.sport, key.dport], [transport.servicePort, PORT]);
      assert.deepEqual([reply.saddr, reply.sport], [POD_A[family], PORT]);
    },
  };
}

const kept = (family: Family, transport: Transport, dst: Both): Expectation =>
  leavesAs(family, transport, dst, POD_A);

const toTheStack: Expectation = { verdict: "pass", flows: (entries) => assert.equal(entries.length, 1) };
const untracked: Expectation = {
  verdict: "pass",
  fresh: false,
  flows: (entries) => assert.equal(entries.length, 0),
};

const allOnRows = forAll((f, t): Row[] => [
  sends("to the internet leaves under the node's address and its own port (rule 9)", f, t, INTERNET, {
    ...leavesAs(f, t, INTERNET, NODE),
    rule: "MASQ_POD",
    event: { xsaddr: NODE[f], xsport: PORT, endpoint: ENDPOINT_A, identity: 4242, proto: t.proto[f] },
  }),
  sends("by a second device leaves under that device's address", f, t, BY_ETH1, {
    ...leavesAs(f, t, BY_ETH1, NODE_ETH1),
    rule: "MASQ_POD",
  }),
  sends("to a pod of another node keeps its address (rule 5)", f, t, POD_FAR, {
    ...kept(f, t, POD_FAR),
    rule: "MASQ_NATIVE_CIDR",
  }),
  sends("to a nonMasqueradeCIDR keeps its address (rule 7)", f, t, EXCLUDED, {
    ...kept(f, t, EXCLUDED),
    rule: "MASQ_NONMASQ_CIDR",
    event: { ruleArg: EXCLUDED_SOURCE },
  }),
  sends("to another node keeps its address (rule 8)", f, t, NODE_FAR, {
    ...kept(f, t, NODE_FAR),
    rule: "MASQ_REMOTE_NODE",
    event: { remoteIdentity: 6 },
  }),
  sends("to the node itself goes to its stack", f, t, NODE, { ...toTheStack, rule: "MASQ_LOCAL" }),
  sends("by a device without our programs goes to the stack", f, t, BY_UNMANAGED, {
    ...toTheStack,
    rule: "MASQ_UNMANAGED",
  }),
  sends("by a prohibited route is the stack's to answer", f, t, PROHIBITED, untracked),
  {
    ...sends("to a pod of this node is delivered", f, t, POD_B, {
      verdict: "redirect",
      rule: "MASQ_LOCAL",
      packet: t.open(toPodB(f, POD_A, POD_B, 63), PORT, f),
    }),
  },
  {
    ...sends("with its TTL used up is the stack's to answer", f, t, INTERNET, untracked),
    packet: opening(f, t, INTERNET, POD_A, 1),
  },
  {
    ...sends("larger than the route's MTU is the stack's to answer", f, t, BY_NARROW, untracked),
    packet: opening(f, t, BY_NARROW).payload("x".repeat(1300)),
  },
  {
    ...sends("to a local pod with its TTL used up is the stack's to answer", f, t, POD_B, untracked),
    packet: opening(f, t, POD_B, POD_A, 1),
  },
]).flat();

const exemptRows = FAMILIES.map(
  (f): Row => ({
    ...sends("of an exempt endpoint keeps its address (rule 6)", f, TCP, INTERNET, {
      ...kept(f, TCP, INTERNET),
      rule: "MASQ_ENDPOINT_EXEMPT",
    }),
    given: ({ datapath, devices }) => {
      const pods = datapath.table(MAPS.endpoints);
      const pod = pods.get(devices.hla);
      if (pod) pods.set(devices.hla, { ...pod, flags: EndpointFlag.ENDPOINT_NO_MASQUERADE });
    },
  }),
);

/** nonmasq_cidrs as the agent writes it for nonMasqueradeCIDRs that are all of one family, or of both. */
function keepsAll(...ranges: readonly string[]): (bench: Bench) => void {
  const spec = { ranges: ranges.map((text) => ({ prefix: parsePrefix(text), source: SOURCE })) };
  const planned = planNonmasq(
    { ipv4: true, ipv6: true, nativeRanges: [], ipMasqAgent: spec },
    new SourceTable(),
  );
  return ({ datapath }) => {
    const table = datapath.table(MAPS.nonmasq_cidrs);
    table.clear();
    for (const { prefix, rule, source } of nonmasqMap(planned)) table.set(prefix, { rule, source });
  };
}

const wholeFamilies = FAMILIES.flatMap((f): Row[] => [
  {
    ...sends("is kept where all destinations of its family are (rule 7)", f, TCP, INTERNET, {
      ...kept(f, TCP, INTERNET),
      rule: "MASQ_NONMASQ_CIDR",
    }),
    given: keepsAll(f === 4 ? "0.0.0.0/0" : "::/0"),
  },
  {
    ...sends("is masqueraded where only the other family's destinations are kept", f, TCP, INTERNET, {
      ...leavesAs(f, TCP, INTERNET, NODE),
      rule: "MASQ_POD",
    }),
    given: keepsAll(f === 4 ? "::/0" : "0.0.0.0/0"),
  },
]);

const withoutAddress = FAMILIES.map(
  (f): Row => ({
    ...sends("by a device without an address of the family is dropped", f, TCP, BY_ETH1, {
      verdict: "drop",
      reason: "DROP_NAT_NO_MAPPING",
      rule: "MASQ_POD",
    }),
    given: ({ datapath, devices }) =>
      datapath
        .table(MAPS.devices)
        .set(devices.eth1, { addr4: NO_ADDRESS, addr6: NO_ADDRESS, mtu: 1500, flags: 0 }),
  }),
);

runRows(import.meta.filename, () => allOn, [
  ...allOnRows,
  ...exemptRows,
  ...wholeFamilies,
  ...withoutAddress,
]);

function under(name: string, rows: Row[]): void {
  runRows(
    import.meta.filename,
    () => others.get(name) as Bench,
    rows.map((row) => ({ ...row, name: `${name}: ${row.name}` })),
  );
}

under(
  "remote nodes",
  forAll((f, t) =>
    sends("to another node leaves under the node's address", f, t, NODE_FAR, {
      ...leavesAs(f, t, NODE_FAR, NODE),
      rule: "MASQ_POD",
    }),
  ),
);
under(
  "tunnel",
  FAMILIES.flatMap((f) => [
    sends("to another node leaves under the node's address", f, TCP, NODE_FAR, {
      ...leavesAs(f, TCP, NODE_FAR, NODE),
      rule: "MASQ_POD",
    }),
    {
      ...sends("to another node that is reached without the tunnel keeps its address", f, TCP, NODE_FAR, {
        ...kept(f, TCP, NODE_FAR),
        rule: "MASQ_REMOTE_NODE",
      }),
      given: ({ datapath }: Bench) =>
        datapath.table(MAPS.ipcache).set(parsePrefix(NODE_FAR[f]), {
          identity: 6,
          flags: RemoteFlag.REMOTE_NODE | RemoteFlag.REMOTE_SKIP_TUNNEL,
          node: NO_ADDRESS,
        }),
    },
  ]),
);
under(
  "route source",
  forAll((f, t) =>
    sends("by a route with a preferred source leaves under that address", f, t, BY_SOURCE, {
      ...leavesAs(f, t, BY_SOURCE, ROUTE_SOURCE),
      rule: "MASQ_POD",
    }),
  ),
);
under(
  "masquerade off",
  forAll((f, t) =>
    sends("to the internet keeps its address", f, t, INTERNET, { ...kept(f, t, INTERNET), rule: "MASQ_OFF" }),
  ),
);
