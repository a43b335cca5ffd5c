// SPDX-License-Identifier: Apache-2.0
// Which port a new flow gets: kept, searched, refused; from dead and closed flows; beside the node's own sockets; when the
// range or the table is full.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { after, before } from "node:test";
import { withNetns } from "../../src/kernel/netns.ts";
import { MAPS } from "../../src/maps/gen/maps.ts";
import type { Flow, FlowKey, Reply } from "../../src/maps/gen/types.ts";
import { FlowState } from "../../src/maps/gen/verdict.ts";
import { ALL_ON, longAgo, nowTicks } from "../support/datapath.ts";
import { INTERNET, NODE, POD_A, POD_B } from "../support/packet-node.ts";
import { type Bench, type Expectation, type Row, runRows, send } from "../support/packet-rows.ts";
import {
  FAMILIES,
  type Family,
  forAll,
  fromNet,
  fromPodA,
  fromPodB,
  Rig,
  SERVICE_PORT,
  TCP,
  type Transport,
  UDP,
} from "../support/transports.ts";

const PORT = 42000;
/** A range of four ports: exhausted at once. */
const FEW = { first: 50000, last: 50003 };
/** Records that fit into the small table. */
const TABLE = 8;
/** Held by a process on the node: TCP and UDP listeners, both families. */
const HELD_PORT = 43210;

let rig: Rig;
let bench: Bench;
let few: Bench;
let small: Bench;
let sockets: ChildProcess;

/** Listens on TCP and UDP HELD_PORT in the node's namespace until it is killed. */
const LISTENER = `
  const udp = require("dgram").createSocket("udp6").bind(${HELD_PORT}, () =>
    require("net").createServer().listen(${HELD_PORT}, "::", () => process.stdout.write("ready")));
`;

before(async () => {
  rig = new Rig();
  bench = rig.load();
  few = rig.load({ ...ALL_ON, portMin: FEW.first, portMax: FEW.last });
  small = rig.load(ALL_ON, TABLE);
  sockets = withNetns(rig.node.netns, () =>
    spawn(process.execPath, ["-e", LISTENER], { stdio: ["ignore", "pipe", "inherit"] }),
  );
  await once(sockets.stdout as NodeJS.ReadableStream, "data");
});
after(async () => {
  sockets?.kill("SIGKILL");
  if (sockets?.exitCode === null) await once(sockets, "exit");
  await rig?.close();
});

/** Pod b has opened a flow from `port`. */
function takenByB(family: Family, transport: Transport, port = PORT): (b: Bench) => void {
  return (b) => {
    const first = transport.open(fromPodB(family, POD_B, INTERNET), port, family);
    assert.equal(send(b, "from_pod", "hlb", first), "redirect");
  };
}

/** Time passes: an entry that was claimed in this very tick is never taken over. */
function age(b: Bench, ticks = 30): void {
  for (const [key, reply] of b.datapath.replies.entries()) {
    b.datapath.replies.set(key, { ...reply, claim: (nowTicks() - ticks) >>> 0 });
  }
}

function change(b: Bench, fields: Partial<Flow>): void {
  age(b);
  for (const [key, flow] of b.datapath.flows.entries()) b.datapath.flows.set(key, { ...flow, ...fields });
}

/** The record of pod a's flow. */
function flowOfA(entries: [FlowKey, Flow][], family: Family): Flow {
  const found = entries.find(([key]) => key.saddr === POD_A[family]);
  assert.ok(found, "pod a has a record");
  return found[1];
}

function sendsA(what: string, family: Family, transport: Transport, port: number, expect: Expectation): Row {
  return {
    name: `IPv${family} ${transport.name} ${what}`,
    hook: "from_pod",
    device: "hla",
    packet: transport.open(fromPodA(family, POD_A, INTERNET), port, family),
    expect: { fresh: true, rule: "MASQ_POD", ...expect },
  };
}

/** The flow leaves, by whatever port; `check` judges the record. Random ports cannot stand in an expected packet. */
function getsAPort(family: Family, check: (flow: Flow) => void, packet?: Expectation["packet"]): Expectation {
  return {
    verdict: "redirect",
    packet: packet ?? "any",
    flows: (entries) => check(flowOfA(entries, family)),
  };
}

/** The flow leaves under this port. */
function gets(family: Family, transport: Transport, port: number): Expectation {
  const packet = transport.open(fromPodA(family, NODE, INTERNET, 63), port, family);
  return getsAPort(family, (flow) => assert.equal(flow.xsport, port), packet);
}

const otherThan =
  (port: number) =>
  (flow: Flow): void => {
    assert.notEqual(flow.xsport, port);
  };

function reserve(b: Bench, proto: "TCP" | "UDP", port: number): void {
  const word = (proto === "UDP" ? 1024 : 0) + (port >> 6);
  b.datapath.table(MAPS.reserved_ports).set(word, 1n << BigInt(port & 63));
}

const searched = forAll((f, t): Row[] => [
  {
    ...sendsA("gets another port if another pod's flow holds it", f, t, PORT, getsAPort(f, otherThan(PORT))),
    given: takenByB(f, t),
  },
  {
    ...sendsA("keeps its port if the flow that held it expired", f, t, PORT, gets(f, t, PORT)),
    given: (b) => {
      takenByB(f, t)(b);
      change(b, { expires: longAgo() });
    },
  },
  {
    ...sendsA("keeps its port if the pod that held it is gone", f, t, PORT, gets(f, t, PORT)),
    given: (b) => {
      takenByB(f, t)(b);
      age(b);
      b.datapath.table(MAPS.endpoint_addrs).delete(POD_B[f]);
    },
  },
]).flat();

/** Entries whose record is missing or taken, and dead records of the pod itself. */
const owned = forAll((f, t): Row[] => [
  {
    ...sendsA("leaves an entry without a record to the sweep", f, t, PORT, getsAPort(f, otherThan(PORT))),
    given: (b) => {
      takenByB(f, t)(b);
      b.datapath.flows.clear();
      age(b, 1000);
    },
  },
  {
    ...sendsA("keeps its port after the sweep of an entry without a record", f, t, PORT, gets(f, t, PORT)),
    given: (b) => {
      takenByB(f, t)(b);
      b.datapath.flows.clear();
      age(b, 1000);
      assert.equal(b.datapath.sweep().repliesRemoved, 1n);
    },
  },
  {
    ...sendsA(
      "leaves a dead record alone that another processor has taken",
      f,
      t,
      PORT,
      getsAPort(f, otherThan(PORT)),
    ),
    given: (b) => {
      takenByB(f, t)(b);
      change(b, { expires: 0 });
    },
  },
  {
    ...sendsA("gives up its dead record, with its port, if it names another address", f, t, PORT, {
      ...gets(f, t, PORT),
      flows: (entries) =>
        assert.deepEqual(
          entries.map(([, flow]) => flow.xsaddr),
          [NODE[f]],
        ),
      replies: (entries) =>
        assert.deepEqual(
          entries.map(([key]) => key.daddr),
          [NODE[f]],
        ),
    }),
    given: (b) => {
      const devices = b.datapath.table(MAPS.devices);
      const eth0 = devices.get(b.devices.eth0);
      assert.ok(eth0, "eth0 is managed");
      devices.set(b.devices.eth0, { ...eth0, addr4: "172.20.0.88", addr6: "fd00:20::88" });
      send(b, "from_pod", "hla", t.open(fromPodA(f, POD_A, INTERNET), PORT, f));
      change(b, { expires: longAgo() });
      devices.set(b.devices.eth0, eth0);
    },
  },
  {
    ...sendsA(
      "leaves an entry alone whose record may be under way",
      f,
      t,
      PORT,
      getsAPort(f, otherThan(PORT)),
    ),
    given: (b) => {
      takenByB(f, t)(b);
      age(b);
      b.datapath.flows.clear();
    },
  },
  {
    ...sendsA("uses its own expired record again", f, t, PORT, {
      ...gets(f, t, PORT),
      replies: (entries: [FlowKey, Reply][]) => assert.equal(entries.length, 1),
    }),
    given: (b) => {
      send(b, "from_pod", "hla", t.open(fromPodA(f, POD_A, INTERNET), PORT, f));
      change(b, { expires: longAgo() });
    },
  },
]).flat();

const closedState = FlowState.FLOW_XSOURCE | FlowState.FLOW_OPENER_FIN | FlowState.FLOW_REPLIER_FIN;
const tcpAndUdp = FAMILIES.flatMap((f) => [TCP, UDP].map((t) => [f, t] as const));

const refused = tcpAndUdp.flatMap(([f, t]): Row[] => [
  {
    ...sendsA("never gets a reserved port", f, t, PORT, getsAPort(f, otherThan(PORT))),
    given: (b) => reserve(b, t === TCP ? "TCP" : "UDP", PORT),
  },
  {
    ...sendsA("may have a port reserved for the other protocol", f, t, PORT, gets(f, t, PORT)),
    given: (b) => reserve(b, t === TCP ? "UDP" : "TCP", PORT),
  },
  sendsA(
    "never gets a port below the range",
    f,
    t,
    999,
    getsAPort(f, (flow) => assert.ok(flow.xsport >= 1024)),
  ),
  sendsA(
    "never gets a port that a socket of the node holds",
    f,
    t,
    HELD_PORT,
    getsAPort(f, otherThan(HELD_PORT)),
  ),
]);

const closed = FAMILIES.map(
  (f): Row => ({
    ...sendsA(
      "leaves the port of a closed flow alone while others are free",
      f,
      TCP,
      PORT,
      getsAPort(f, otherThan(PORT)),
    ),
    given: (b) => {
      takenByB(f, TCP)(b);
      change(b, { state: closedState });
    },
  }),
);

runRows(import.meta.filename, () => bench, [...searched, ...owned, ...refused, ...closed]);

/** Pod b holds all ports of the range, towards the same remote endpoint. */
function allTakenByB(family: Family, transport: Transport): (b: Bench) => void {
  return (b) => {
    for (let port = FEW.first; port <= FEW.last; port++) takenByB(family, transport, port)(b);
  };
}

const exhausted = tcpAndUdp.flatMap(([f, t]): Row[] => [
  {
    ...sendsA("fails only when no port is left", f, t, FEW.first, {
      verdict: "drop",
      reason: "DROP_NAT_NO_MAPPING",
      flows: (entries) => assert.equal(entries.length, 4),
      replies: (entries) => assert.equal(entries.length, 4),
    }),
    given: allTakenByB(f, t),
  },
  {
    ...sendsA("finds the last free port", f, t, FEW.first, gets(f, t, FEW.last - 1)),
    given: (b) => {
      allTakenByB(f, t)(b);
      age(b);
      for (const [key, flow] of b.datapath.flows.entries()) {
        if (key.sport === FEW.last - 1) b.datapath.flows.set(key, { ...flow, expires: longAgo() });
      }
    },
  },
  {
    ...sendsA("reaches another remote endpoint from a port that is taken", f, t, FEW.first, {
      verdict: "redirect",
      packet: "any",
      flows: (entries) => assert.equal(flowOfA(entries, f).xsport, FEW.first),
    }),
    given: (b) => {
      for (let port = FEW.first; port <= FEW.last; port++) {
        const other = fromPodB(f, POD_B, { 4: "198.51.100.11", 6: "2001:db8:100::11" });
        assert.equal(send(b, "from_pod", "hlb", t.open(other, port, f)), "redirect");
      }
    },
  },
]);

const lastResort = FAMILIES.map(
  (f): Row => ({
    ...sendsA("takes the port of a closed flow when no other is free", f, TCP, FEW.first, {
      verdict: "redirect",
      packet: "any",
      flows: (entries) => {
        assert.ok(flowOfA(entries, f).xsport >= FEW.first);
        assert.equal(entries.length, 4, "the closed flow's record is gone");
        assert.equal(entries.filter(([key]) => key.saddr === POD_B[f]).length, 3);
      },
    }),
    given: (b) => {
      allTakenByB(f, TCP)(b);
      change(b, { state: closedState });
    },
  }),
);

runRows(
  import.meta.filename,
  () => few,
  [...exhausted, ...lastResort].map((row) => ({ ...row, name: `four ports: ${row.name}` })),
);

/** Pod b has filled the table. */
function full(family: Family): (b: Bench) => void {
  return (b) => {
    for (let i = 0; i < 4 * TABLE; i++)
      send(b, "from_pod", "hlb", UDP.open(fromPodB(family, POD_B, INTERNET), 2000 + i, family));
  };
}

const tableFull = FAMILIES.flatMap((f): Row[] => [
  {
    ...sendsA("is dropped when the table is full, and takes no port", f, TCP, PORT, {
      verdict: "drop",
      reason: "DROP_CT_INSERT_FAILED",
      replies: (entries) => assert.ok(entries.every(([, reply]) => reply.saddr !== POD_A[f])),
    }),
    given: full(f),
  },
  {
    name: `IPv${f} TCP answer of an established flow still passes when the table is full`,
    given: (b) => {
      send(b, "from_pod", "hla", TCP.open(fromPodA(f, POD_A, INTERNET), PORT, f));
      full(f)(b);
    },
    hook: "from_net",
    device: "eth0",
    packet: fromNet(f, INTERNET, NODE).tcp({ sport: SERVICE_PORT, dport: PORT, flags: "SA" }),
    expect: { verdict: "redirect", packet: "any" },
  },
  {
    name: `IPv${f} TCP from the node to a pod passes untracked when the table is full`,
    given: full(f),
    hook: "to_pod",
    device: "hla",
    packet: TCP.open(fromNet(f, NODE, POD_A), PORT, f),
    expect: { verdict: "pass" },
  },
]);

runRows(
  import.meta.filename,
  () => small,
  tableFull.map((row) => ({ ...row, name: `full table: ${row.name}` })),
);
