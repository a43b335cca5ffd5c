// SPDX-License-Identifier: Apache-2.0
// A node in trouble, and how it gets out of it by itself: the flow table full, its network device taken away under traffic,
// its wall clock moved by years.
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { EndpointReport, StatusReport } from "../../src/agent/status.ts";
import { followFlows } from "../../src/api/client.ts";
import { sleep, waitFor } from "../../src/base/async.ts";
import { datagramFd } from "../../src/kernel/socket.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import type { Flow, FlowKey } from "../../src/maps/gen/types.ts";
import { DropReason, FlowState, Hook } from "../../src/maps/gen/verdict.ts";
import { openInner, openPinned } from "../../src/maps/table.ts";
import { Conversation } from "../kernels/journey-node.ts";
import { ask, peersSeen } from "../support/ask.ts";
import { AgentNode } from "../support/cni-node.ts";
import { nowTicks } from "../support/datapath.ts";
import {
  buildTopology,
  GATEWAY_ADDRESS,
  INTERNET_ADDRESS,
  ip,
  NODE_ADDRESS,
  OUTSIDE_PORT,
  POD_CIDR,
  type Topology,
} from "../support/netns.ts";
import { FAMILIES, type Family } from "../support/transports.ts";

/** Records of the flow table: the fewest that the options allow. */
const ROOM = 2048;
const ENDED = FlowState.FLOW_OPENER_FIN | FlowState.FLOW_REPLIER_FIN | FlowState.FLOW_RESET;
const YEAR_MS = 365 * 24 * 3600 * 1000;
const PRELOAD = join(import.meta.dirname, "../support/clock-shift.ts");

let world: Topology;
let node: AgentNode;
let clockFile: string;
/** Two pods, and a connection of the second in each family that must live through everything. */
const pods = { a: "", b: "" };
const talks: Conversation[] = [];

const status = (): Promise<StatusReport> => node.get<StatusReport>("/v1/status");

const addPod = async (name: string): Promise<string> => (await node.addPod(name)).netns;

const deletePod = (name: string, netns: string): Promise<void> => node.removePod({ name, netns });

/** In one of the connections after the other: a word and its echo. */
async function say(word: string): Promise<void> {
  for (const talk of talks) await talk.say(word);
}

async function assertMasqueraded(from: string): Promise<void> {
  const targets = Object.values(INTERNET_ADDRESS).flatMap((a) => [`tcp:${a}`, `udp:${a}`]);
  const expected = targets.map((t) => [t, NODE_ADDRESS[t.includes("2001:") ? 6 : 4]]);
  assert.deepEqual(await peersSeen(from, targets), Object.fromEntries(expected));
}

function flows(): [FlowKey, Flow][] {
  return openInner(node.bpfRoot, "flows").flatMap((table) => {
    using opened = table;
    return [...opened.entries()];
  });
}

before(async () => {
  world = await buildTopology();
  node = new AgentNode(world);
  clockFile = join(world.dir, "clock");
  node.environment = { NODE_OPTIONS: `--import=${PRELOAD}`, CLOCK_FILE: clockFile };
  node.setConfig({
    "bpf-ct-global-tcp-max": `${ROOM / 2}`,
    "bpf-ct-global-any-max": `${ROOM / 2}`,
    "bpf-ct-timeout-regular-any": "5s",
  });
  await node.start();
  pods.a = await addPod("a");
  pods.b = await addPod("b");
  for (const family of FAMILIES) talks.push(new Conversation(pods.b, INTERNET_ADDRESS[family]));
  await say("first");
});
after(async () => {
  for (const talk of talks) talk.close();
  await world?.[Symbol.asyncDispose]();
});

/** Opens flows from one socket, each to a port of its own. */
async function flood(netns: string, family: Family, count: number): Promise<void> {
  const socket = createSocket(family === 4 ? "udp4" : "udp6");
  const fd = datagramFd({ netns, host: family === 4 ? "0.0.0.0" : "::", port: 0 });
  await new Promise<void>((resolve) => socket.bind({ fd }, resolve));
  for (let sent = 0; sent < count; sent += 500) {
    await Promise.all(
      Array.from(
        { length: 500 },
        (_, i) =>
          new Promise<void>((resolve) =>
            socket.send("flood", 10_000 + sent + i, INTERNET_ADDRESS[family], () => resolve()),
          ),
      ),
    );
  }
  socket.close();
}

function refusals(): number {
  using counters = openPinned(node.bpfRoot, "counters");
  const values = counters.getPerCpu(256 * Hook.HOOK_FROM_POD + DropReason.DROP_CT_INSERT_FAILED) ?? [];
  return values.reduce((sum, { packets }) => sum + Number(packets), 0);
}

test("the flow table is full: new flows are refused, counted and told; those that are there go on; it recovers by itself", async () => {
  const stop = new AbortController();
  const told = followFlows(join(node.runDir, "agent.sock"), stop.signal);
  const drop = (async () => {
    for await (const item of told) if ("flow" in item && item.flow.kind === "drop") return item.flow;
    return undefined;
  })();
  await waitFor("the listener", async () => (await status()).monitor.clients === 1);
  const before = refusals();
  for (const family of FAMILIES) await flood(pods.a, family, ROOM);
  assert.ok(refusals() - before >= ROOM / 2, `${refusals() - before} refused`);
  await say("beside a full table");
  const { source, reasonText } = (await drop) ?? {};
  assert.deepEqual([source?.name, reasonText], ["default/a", "CT: Map insertion failed"]);
  stop.abort();
  // The records of the flood are dead after 5 s; a full table is swept often, however empty it was at the last sweep.
  for (const family of FAMILIES) {
    const again = async () =>
      (await ask(pods.a, `udp:${INTERNET_ADDRESS[family]}`, { patienceMs: 1000 })).peer;
    await waitFor("room for new flows", again);
  }
  await assertMasqueraded(pods.a);
  await say("after it");
});

/** As buildTopology made it. */
function plugIn(): void {
  ip(world.node, [`link add eth0 type veth peer name eth0 netns ${world.outside}`]);
  const outside = [GATEWAY_ADDRESS, INTERNET_ADDRESS].flatMap((a) => [`${a[4]}/24`, `${a[6]}/64`]);
  ip(world.outside, [
    ...outside.map((a) => `address add ${a} dev eth0${a.includes(":") ? " nodad" : ""}`),
    "link set eth0 up",
  ]);
  ip(world.node, [
    `address add ${NODE_ADDRESS[4]}/24 dev eth0`,
    `address add ${NODE_ADDRESS[6]}/64 dev eth0 nodad`,
    "link set eth0 up",
    `route add default via ${GATEWAY_ADDRESS[4]}`,
    `route add default via ${GATEWAY_ADDRESS[6]} dev eth0`,
  ]);
  ip(
    world.outside,
    FAMILIES.map((f) => `route add ${POD_CIDR[f]} via ${NODE_ADDRESS[f]}`),
  );
}

test("the wall clock moves by years, forth and back: nothing expires for it, nothing lives for it", async () => {
  const port = 40_404;
  const socket = createSocket("udp4");
  const fd = datagramFd({ netns: pods.a, host: "0.0.0.0", port });
  await new Promise<void>((resolve) => socket.bind({ fd }, resolve));
  const record = (): Flow | undefined => flows().find(([key]) => key.sport === port)?.[1];
  const send = (): void => socket.send("?", OUTSIDE_PORT.udp, INTERNET_ADDRESS[4]);
  const { pid } = await status();
  const shiftBy = async (ms: number): Promise<void> => {
    writeFileSync(clockFile, `${ms}`);
    process.kill(pid, "SIGUSR2");
    await waitFor("the clock to have moved", () => !existsSync(clockFile));
  };
  // However long a step takes, the flow is never idle for 5 s.
  const alive = setInterval(send, 200);
  try {
    await waitFor("the flow", record);
    const { created } = record() ?? {};
    for (const years of [10, -20, 30]) {
      await shiftBy(years * YEAR_MS);
      const name = `pod${Math.abs(years)}`;
      const netns = await addPod(name);
      const pod = (await node.get<EndpointReport[]>("/v1/endpoints")).find((one) => one.pod === name);
      const ahead = (Date.parse(pod?.createdAt ?? "") - Date.now()) / YEAR_MS;
      assert.ok(Math.abs(ahead - years) < 1, `created ${ahead} years from now`);
      await assertMasqueraded(netns);
      assert.equal(record()?.created, created, "the flow is the same");
      await say(`${years} years on`);
      await deletePod(name, netns);
      assert.equal((await status()).overall.state, "ok");
    }
    await shiftBy(-20 * YEAR_MS);
    const dead = (): boolean => (((record()?.expires ?? 0) - nowTicks()) | 0) <= 0;
    assert.ok(!dead());
    // From now on it is, whatever the clock says.
    clearInterval(alive);
    await waitFor("the idle flow to end", dead);
    await say("at last");
  } finally {
    clearInterval(alive);
    socket.close();
  }
});

/** The connections' flows: who, and under which translation. Those of questions end, and are swept at some time. */
function translations(): string[] {
  return flows()
    .filter(([key, { state }]) => key.proto === 6 && key.dport === OUTSIDE_PORT.tcp && !(state & ENDED))
    .map(([key, flow]) => `${key.saddr} ${key.sport} ${flow.xsaddr} ${flow.xsport}`)
    .sort();
}

test("the cable is pulled for a while: connections go on, under the same translation", async () => {
  const before = translations();
  writeSysctl("net/ipv6/conf/eth0/keep_addr_on_down", 1, world.outside);
  ip(world.outside, ["link set eth0 down"]);
  const words = say("is anybody there");
  const late = await addPod("late");
  await sleep(500);
  ip(world.outside, ["link set eth0 up"]);
  await words;
  for (const pod of [pods.a, late]) await assertMasqueraded(pod);
  assert.deepEqual(
    before.filter((line) => !translations().includes(line)),
    [],
  );
  await deletePod("late", late);
});

test("the network device is gone for a while: pods come and go, and all are masqueraded when another is there", async () => {
  ip(world.node, ["link del eth0"]);
  await waitFor("the agent to miss it", async () => (await status()).devices.length === 0);
  const late = await addPod("late");
  const unreachable = await ask(late, `udp:${INTERNET_ADDRESS[4]}`, { patienceMs: 1000 });
  assert.equal(unreachable.peer, undefined);
  plugIn();
  await waitFor("the new device", async () => {
    const { devices } = await status();
    return devices.length === 1 && devices[0]?.attached;
  });
  for (const pod of [pods.a, pods.b, late]) await assertMasqueraded(pod);
  // The address was away: what stood under it has been ended, and what comes late does not leave under the pod's address.
  assert.ok(
    flows().every(
      ([key, { xsaddr }]) => xsaddr === key.saddr || Object.values<string>(NODE_ADDRESS).includes(xsaddr),
    ),
  );
  await deletePod("late", late);
  await waitFor("status to be content", async () => (await status()).overall.state === "ok");
});
