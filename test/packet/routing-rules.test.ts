// SPDX-License-Identifier: Apache-2.0
// A cloud gives pods addresses of a further NIC and writes "from the pod's address: look in table 11", which sends everything
// out of eth1. What is masqueraded must not follow that rule, since eth1's network knows no way for it; what keeps the pod's
// address must. With host routing and without; and flows that stayed with the node's stack until its routes changed.
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { MAPS } from "../../src/maps/gen/maps.ts";
import { DeviceFlag, FlowState, MasqueradeRule } from "../../src/maps/gen/verdict.ts";
import { ALL_ON } from "../support/datapath.ts";
import { ip } from "../support/netns.ts";
import {
  type Both,
  BY_ETH1,
  BY_NARROW,
  BY_SOURCE,
  BY_UNMANAGED,
  EXCLUDED,
  INTERNET,
  NODE,
  NODE_ETH1,
  POD_A,
  PROHIBITED,
  ROUTE_SOURCE,
} from "../support/packet-node.ts";
import { type Bench, type Expectation, type Row, runRows, send } from "../support/packet-rows.ts";
import {
  FAMILIES,
  type Family,
  forAll,
  fromPodA,
  Rig,
  TCP,
  type Transport,
  toNet,
  UDP,
} from "../support/transports.ts";

const PORT = 46000;
let rig: Rig;
let routing: Bench;
let plain: Bench;
let bySource: Bench;

before(() => {
  rig = new Rig();
  for (const [family, gateway] of [
    [4, "172.21.0.254"],
    [6, "fd00:21::fe"],
  ] as const) {
    const rule = `rule add from ${POD_A[family]} lookup 11`;
    ip(rig.node.netns, [rule, `route add default via ${gateway} dev eth1 table 11`], family);
  }
  routing = rig.load();
  plain = rig.load({ ...ALL_ON, hostRouting: 0 });
  bySource = rig.load({ ...ALL_ON, hostRouting: 0, masqueradeToRouteSource: 1 });
});
after(() => rig?.close());

const sources = (wanted: string) => (entries: unknown[]) =>
  assert.deepEqual(
    (entries as [unknown, { xsaddr: string }][]).map(([, flow]) => flow.xsaddr),
    [wanted],
  );

/** From pod a's device, with host routing. */
function sent(family: Family, transport: Transport, dst: Both, expect: Expectation): Row {
  return {
    name: `IPv${family} ${transport.name} `,
    hook: "from_pod",
    device: "hla",
    packet: transport.open(fromPodA(family, POD_A, dst), PORT, family),
    expect: { fresh: true, ...expect },
  };
}

const redirected = (family: Family, transport: Transport, source: Both, dst: Both): Expectation => ({
  verdict: "redirect",
  packet: transport.open(fromPodA(family, source, dst, 63), PORT, family),
});

/** The device to which the datagram of the row before was sent. */
function leftBy(bench: Bench, device: "eth0" | "eth1"): void {
  const slots = [...bench.datapath.table(MAPS.recent).entriesPerCpu()].flatMap(([, perCpu]) => perCpu);
  const used = slots.filter((slot) => slot.tick !== 0);
  assert.deepEqual(
    used.map((slot) => slot.outIfindex),
    [bench.devices[device]],
  );
}

const routed = forAll((f, t): Row[] => [
  {
    ...sent(f, t, INTERNET, redirected(f, t, NODE, INTERNET)),
    name: `IPv${f} ${t.name} that is masqueraded leaves by the node's own route, under its address`,
  },
  {
    ...sent(f, t, BY_ETH1, redirected(f, t, NODE_ETH1, BY_ETH1)),
    name: `IPv${f} ${t.name} by a route to its destination leaves by that route's device, under its address`,
  },
  {
    ...sent(f, t, BY_UNMANAGED, redirected(f, t, NODE_ETH1, BY_UNMANAGED)),
    name: `IPv${f} ${t.name} that the node would send by a device which is not ours leaves by the pod's route`,
  },
  {
    ...sent(f, t, EXCLUDED, redirected(f, t, POD_A, EXCLUDED)),
    name: `IPv${f} ${t.name} that keeps the pod's address is sent`,
  },
  {
    ...sent(f, t, INTERNET, {
      verdict: "redirect",
      fresh: false,
      packet: t.more(fromPodA(f, NODE, INTERNET, 63), PORT, f),
    }),
    name: `IPv${f} ${t.name} of an established masqueraded flow goes the same way`,
    packet: t.more(fromPodA(f, POD_A, INTERNET), PORT, f),
    given: (b) => void send(b, "from_pod", "hla", t.open(fromPodA(f, POD_A, INTERNET), PORT, f)),
  },
]).flat();

/** Sends a datagram in `given`, so that `flows` can look at where it went: the row itself repeats it. */
const ways = FAMILIES.flatMap((f): Row[] =>
  (
    [
      [INTERNET, "eth0", NODE, "masqueraded"],
      [EXCLUDED, "eth1", POD_A, "under the pod's address"],
    ] as const
  ).map(([dst, device, source, what]) => ({
    ...sent(f, UDP, dst, redirected(f, UDP, source, dst)),
    name: `IPv${f} datagram ${what} goes out of ${device}, the first and the next`,
    given: (b) => {
      for (let i = 0; i < 2; i++) {
        b.datapath.forget();
        send(b, "from_pod", "hla", UDP.open(fromPodA(f, POD_A, dst), PORT, f));
        leftBy(b, device);
      }
    },
    expect: { ...redirected(f, UDP, source, dst), fresh: false },
  })),
);
runRows(import.meta.filename, () => routing, [...routed, ...ways]);

/** Tells the data plane that the node has routing rules, as the agent does. */
function withRules({ datapath }: Bench): void {
  const devices = datapath.table(MAPS.devices);
  for (const [index, device] of devices.entries()) {
    devices.set(index, { ...device, flags: DeviceFlag.DEVICE_BY_SOURCE });
  }
}

/** The stack has sent the pod's packet to eth1. */
function stackSends(family: Family, transport: Transport, dst: Both, expect: Expectation): Row {
  return {
    name: `IPv${family} ${transport.name} `,
    given: withRules,
    hook: "to_net",
    device: "eth1",
    packet: transport.open(toNet(family, POD_A, dst, 63), PORT, family),
    expect: { fresh: true, ...expect },
  };
}

const byStack = forAll((f, t): Row[] => [
  {
    ...stackSends(f, t, INTERNET, {
      verdict: "redirect",
      packet: t.open(toNet(f, NODE, INTERNET, 63), PORT, f),
      flows: sources(NODE[f]),
    }),
    name: `plain stack: IPv${f} ${t.name} that is masqueraded is sent by the node's own route, its TTL as it is`,
  },
  {
    ...stackSends(f, t, INTERNET, {
      verdict: "redirect",
      fresh: false,
      packet: t.more(toNet(f, NODE, INTERNET, 63), PORT, f),
    }),
    name: `plain stack: IPv${f} ${t.name} of an established masqueraded flow goes the same way`,
    packet: t.more(toNet(f, POD_A, INTERNET, 63), PORT, f),
    given: (b) => {
      withRules(b);
      assert.equal(send(b, "to_net", "eth1", t.open(toNet(f, POD_A, INTERNET, 63), PORT, f)), "redirect");
    },
  },
  {
    ...stackSends(f, t, BY_ETH1, {
      verdict: "pass",
      packet: t.open(toNet(f, NODE_ETH1, BY_ETH1, 63), PORT, f),
    }),
    name: `plain stack: IPv${f} ${t.name} that the node sends by the same device goes on there`,
  },
  {
    ...stackSends(f, t, BY_UNMANAGED, {
      verdict: "pass",
      packet: t.open(toNet(f, NODE_ETH1, BY_UNMANAGED, 63), PORT, f),
    }),
    name: `plain stack: IPv${f} ${t.name} that the node would send by a device which is not ours goes on there`,
  },
  {
    ...stackSends(f, t, PROHIBITED, {
      verdict: "drop",
      reason: "DROP_NO_FIB",
      fresh: false,
      flows: (entries) => assert.equal(entries.length, 0, "records"),
    }),
    name: `plain stack: IPv${f} ${t.name} that the node may not send there does not leave by the other device`,
  },
  {
    ...stackSends(f, t, BY_NARROW, {
      verdict: "redirect",
      packet: t.open(toNet(f, NODE, BY_NARROW, 63), PORT, f).payload("x".repeat(1300)),
    }),
    name: `plain stack: IPv${f} ${t.name} larger than the node's route takes it all the same, not the other device`,
    packet: t.open(toNet(f, POD_A, BY_NARROW, 63), PORT, f).payload("x".repeat(1300)),
  },
  {
    ...stackSends(f, t, EXCLUDED, { verdict: "pass" }),
    name: `plain stack: IPv${f} ${t.name} that keeps the pod's address goes on there`,
  },
  {
    ...stackSends(f, t, INTERNET, {
      verdict: "pass",
      packet: t.open(toNet(f, NODE_ETH1, INTERNET, 63), PORT, f),
    }),
    name: `plain stack: IPv${f} ${t.name} is not asked about twice on a node without rules`,
    given: () => undefined,
  },
]).flat();
runRows(import.meta.filename, () => plain, byStack);

/** Makes addresses the node's, as the agent does with all that it has. */
function nodeHas({ datapath }: Bench, ...addresses: Both[]): void {
  for (const address of addresses.flatMap((both) => [both[4], both[6]]))
    datapath.table(MAPS.node_addrs).set(address, 1);
}

const routeSource = forAll((f, t): Row[] => [
  {
    ...stackSends(f, t, BY_SOURCE, {
      verdict: "pass",
      packet: t.open(toNet(f, ROUTE_SOURCE, BY_SOURCE, 63), PORT, f),
    }),
    name: `plain stack: IPv${f} ${t.name} by a route with a preferred source leaves under that address`,
    device: "eth0",
    given: () => undefined,
  },
  {
    ...stackSends(f, t, BY_SOURCE, {
      verdict: "pass",
      packet: "any",
      rule: "MASQ_HOST",
      flows: (entries) => {
        const own = entries.find(([key]) => key.saddr === ROUTE_SOURCE[f]);
        assert.notEqual(own?.[1].xsport ?? PORT, PORT);
      },
    }),
    name: `IPv${f} ${t.name} of the node under that address gets another port if a pod's flow holds its own`,
    device: "eth0",
    packet: t.open(toNet(f, ROUTE_SOURCE, BY_SOURCE), PORT, f),
    given: (b) => {
      nodeHas(b, ROUTE_SOURCE);
      assert.equal(send(b, "to_net", "eth0", t.open(toNet(f, POD_A, BY_SOURCE, 63), PORT, f)), "pass");
    },
  },
]).flat();
runRows(import.meta.filename, () => bySource, routeSource);

/** The pod's flow to the internet, recorded as one that stayed with the stack. */
function recorded(b: Bench, family: Family, transport: Transport, rule: number): void {
  send(b, "to_net", "eth0", transport.open(toNet(family, POD_A, EXCLUDED, 63), PORT, family));
  const [key, flow] = b.datapath.flows.entries()[0] ?? assert.fail("no record");
  b.datapath.flows.clear();
  const moved = { ...flow, rule, xdaddr: INTERNET[family], state: FlowState.FLOW_REPLIED };
  b.datapath.flows.set({ ...key, daddr: INTERNET[family] }, moved);
}

const strayed = FAMILIES.flatMap((f) =>
  (["MASQ_LOCAL", "MASQ_UNMANAGED"] as const).flatMap((rule): Row[] => {
    const row = (t: Transport, expect: Expectation): Row => ({
      name: `IPv${f} ${t.name} of a flow that was ${rule} and now leaves by a native device`,
      given: (b) => recorded(b, f, t, MasqueradeRule[rule]),
      hook: "to_net",
      device: "eth0",
      packet: t.more(toNet(f, POD_A, INTERNET, 63), PORT, f),
      expect,
    });
    const goesOn: Expectation = { verdict: "pass", flows: sources(POD_A[f]) };
    // Its record stays: the destination may become the node's again.
    const leaks: Expectation = {
      verdict: "drop",
      reason: "DROP_CT_CANT_CREATE",
      flows: sources(POD_A[f]),
    };
    return [
      row(TCP, rule === "MASQ_LOCAL" ? leaks : goesOn),
      row(UDP, {
        verdict: "pass",
        packet: UDP.more(toNet(f, NODE, INTERNET, 63), PORT, f),
        rule: "MASQ_POD",
        fresh: true,
        flows: sources(NODE[f]),
      }),
    ];
  }),
);
runRows(import.meta.filename, () => plain, strayed);
