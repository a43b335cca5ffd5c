// SPDX-License-Identifier: Apache-2.0
// Options of masquerading, changed in the ConfigMap while connections live: what is new follows the new value, what is
// established keeps its translation, and nothing is restarted. Each row in both families.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import type { StatusReport } from "../../src/agent/status.ts";
import { waitFor } from "../../src/base/async.ts";
import { openInner } from "../../src/maps/table.ts";
import { AgentNode } from "../support/cni-node.ts";
import { nowTicks } from "../support/datapath.ts";
import {
  buildTopology,
  GATEWAY_ADDRESS,
  INTERNET_ADDRESS,
  ip,
  NODE_ADDRESS,
  NON_MASQUERADE_ADDRESS,
  type Topology,
} from "../support/netns.ts";
import { TcpTalk, UdpTalk } from "../support/talk.ts";

const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];
const FURTHER = { 4: "172.20.0.77", 6: "fd00:20::77" } as const;
const FURTHER_STILL = { 4: "172.20.0.78", 6: "fd00:20::78" } as const;

let world: Topology;
let node: AgentNode;
let pod: string;
let address: Record<Family, string>;
let pid: number;
const living: TcpTalk[] = [];

before(async () => {
  world = await buildTopology();
  node = new AgentNode(world);
  await node.start();
  ({ netns: pod, address } = await node.addPod("pod"));
  pid = agentPid();
  for (const f of FAMILIES) {
    living.push(await TcpTalk.open({ netns: pod, host: INTERNET_ADDRESS[f] }));
    living.push(await TcpTalk.open({ netns: pod, host: NON_MASQUERADE_ADDRESS[f] }));
  }
});
after(async () => {
  for (const talk of living) talk[Symbol.dispose]();
  await world?.[Symbol.asyncDispose]();
});

const agentPid = (): number => JSON.parse(readFileSync(join(node.runDir, "agent.json"), "utf8")).pid;
const status = (): Promise<StatusReport> => node.get<StatusReport>("/v1/status");

/** Under which address a new flow of the pod is seen, over UDP and TCP alike. */
async function peerOf(host: string): Promise<string> {
  using datagrams = new UdpTalk({ netns: pod, host });
  using connection = await TcpTalk.open({ netns: pod, host });
  const seen = await datagrams.peer();
  return seen === connection.peer ? connection.peer : `UDP ${seen}, TCP ${connection.peer}`;
}

const until = (what: string, host: string, wanted: string): Promise<boolean> =>
  waitFor(`${what}: ${host} to see ${wanted}`, async () => (await peerOf(host)) === wanted);

/** What was there before goes on after every change. */
afterEach(async () => {
  for (const talk of living) assert.ok(await talk.echoes("still here"), talk.ended ?? "no answer");
  assert.equal(agentPid(), pid, "the agent was not restarted");
});

interface OptionRow {
  readonly name: string;
  readonly set: Record<string, string>;
  readonly host: Record<Family, string>;
  /** Under which address the pod is seen with the option, and without it. */
  readonly with: (family: Family) => string;
  readonly without: (family: Family) => string;
}

const pods = (family: Family): string => address[family];
const nodes = (family: Family): string => NODE_ADDRESS[family];

const rows: OptionRow[] = [
  {
    name: "a native-routing CIDR that holds the destination keeps the pod's address",
    set: { "ipv4-native-routing-cidr": "198.51.100.0/24", "ipv6-native-routing-cidr": "2001:db8:100::/64" },
    host: INTERNET_ADDRESS,
    with: pods,
    without: nodes,
  },
  {
    name: "masquerading off keeps the pod's address",
    set: { "enable-ipv4-masquerade": "false", "enable-ipv6-masquerade": "false" },
    host: INTERNET_ADDRESS,
    with: pods,
    without: nodes,
  },
  {
    name: "without the ip-masq-agent its ranges are masqueraded to",
    set: { "enable-ip-masq-agent": "false" },
    host: NON_MASQUERADE_ADDRESS,
    with: nodes,
    without: pods,
  },
];

for (const row of rows) {
  test(row.name, async () => {
    for (const [values, wanted] of [
      [row.set, row.with],
      [{}, row.without],
    ] as const) {
      node.setConfig(values);
      for (const f of FAMILIES) await until(row.name, row.host[f], wanted(f));
    }
  });
}

describe("another node, whose ExternalIP is the internet's", () => {
  const other = (name: string, external: readonly string[]): void =>
    node.write("node2.yaml", {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name },
      status: {
        addresses: [
          ...Object.values(GATEWAY_ADDRESS).map((a) => ({ type: "InternalIP", address: a })),
          ...external.map((a) => ({ type: "ExternalIP", address: a })),
        ],
      },
    });

  test("enable-remote-node-masquerade, switched at run time, decides about all its addresses", async () => {
    other("node2", Object.values(INTERNET_ADDRESS));
    for (const [value, wanted] of [
      ["false", pods],
      ["true", nodes],
      ["false", pods],
    ] as const) {
      node.setConfig({ "enable-remote-node-masquerade": value });
      for (const f of FAMILIES)
        for (const host of [GATEWAY_ADDRESS[f], INTERNET_ADDRESS[f]]) await until(value, host, wanted(f));
    }
  });

  test("an address that the node's object loses is the world's again", async () => {
    other("node2", []);
    for (const f of FAMILIES) {
      await until("without ExternalIP", INTERNET_ADDRESS[f], NODE_ADDRESS[f]);
      assert.equal(await peerOf(GATEWAY_ADDRESS[f]), address[f]);
    }
  });
});

describe("enable-masquerade-to-route-source", () => {
  const route = (verb: string, source: Record<Family, string>): void =>
    ip(world.node, [
      `route ${verb} 198.51.100.0/24 via ${GATEWAY_ADDRESS[4]} dev eth0 src ${source[4]}`,
      `route ${verb} 2001:db8:100::/64 via ${GATEWAY_ADDRESS[6]} dev eth0 src ${source[6]}`,
    ]);

  before(() => {
    ip(world.node, [
      ...[FURTHER, FURTHER_STILL].flatMap((a) => [
        `addr add ${a[4]}/24 dev eth0`,
        `addr add ${a[6]}/64 dev eth0 nodad preferred_lft 0`,
      ]),
    ]);
    route("add", FURTHER);
  });
  after(() => route("del", FURTHER));

  for (const legacy of ["false", "true"]) {
    test(`takes the route's source, follows the route, and goes; enable-host-legacy-routing ${legacy}`, async () => {
      const values = { "enable-host-legacy-routing": legacy };
      const on = { ...values, "enable-masquerade-to-route-source": "true" };
      node.setConfig(on);
      for (const f of FAMILIES) {
        await until("the source of the route", INTERNET_ADDRESS[f], FURTHER[f]);
        assert.equal(await peerOf(GATEWAY_ADDRESS[f]), address[f], "rule 8 comes before");
      }
      route("replace", FURTHER_STILL);
      for (const f of FAMILIES) await until("the other source", INTERNET_ADDRESS[f], FURTHER_STILL[f]);
      node.setConfig(values);
      for (const f of FAMILIES) await until("the device's address", INTERNET_ADDRESS[f], NODE_ADDRESS[f]);
      route("replace", FURTHER);
      node.setConfig({});
      await waitFor("host routing", async () => (await status()).routing.host === "BPF");
    });
  }

  test("in iptables mode a route that loses its source is followed at once", async () => {
    node.setConfig({ "enable-bpf-masquerade": "false", "enable-masquerade-to-route-source": "true" });
    for (const f of FAMILIES) await until("the source of the route", INTERNET_ADDRESS[f], FURTHER[f]);
    ip(world.node, [
      `route replace 198.51.100.0/24 via ${GATEWAY_ADDRESS[4]} dev eth0`,
      `route replace 2001:db8:100::/64 via ${GATEWAY_ADDRESS[6]} dev eth0`,
    ]);
    for (const f of FAMILIES) await until("the device's address", INTERNET_ADDRESS[f], NODE_ADDRESS[f]);
    route("replace", FURTHER);
    node.setConfig({});
    for (const f of FAMILIES) await until("BPF again", INTERNET_ADDRESS[f], NODE_ADDRESS[f]);
    await waitFor("host routing", async () => (await status()).routing.host === "BPF");
  });
});

test("masquerade-port-range and node-port-range hold for new flows", async () => {
  const portOf = async (f: Family, localPort: number): Promise<number> => {
    using talk = new UdpTalk({ netns: pod, host: INTERNET_ADDRESS[f], localPort });
    return Number((await talk.seenAs())?.split(" ")[1]);
  };
  let port = 43000;
  node.setConfig({ "masquerade-port-range": "50000,52000" });
  for (const f of FAMILIES) {
    await waitFor("a port of the range", async () => {
      const got = await portOf(f, port++);
      return got >= 50000 && got <= 52000;
    });
  }
  node.setConfig({ "node-port-range": "43000,43999" });
  for (const f of FAMILIES) {
    await waitFor("another port than a NodePort", async () => {
      const got = await portOf(f, port++);
      return got >= 1024 && (got < 43000 || got > 43999) && !(got >= 50000 && got <= 52000);
    });
  }
  node.setConfig({});
  for (const f of FAMILIES)
    await waitFor("its own port again", async () => {
      const wanted = port++;
      return (await portOf(f, wanted)) === wanted;
    });
});

test("a timeout holds for new flows, and for old ones from their next packet on", async () => {
  const seconds = (port: number): number => {
    const tables = openInner(node.bpfRoot, "flows");
    try {
      const rows = tables.flatMap((table) => [...table.entries()]);
      const flow = rows.find(([key]) => key.sport === port && key.proto === 17)?.[1];
      return flow === undefined ? 0 : ((flow.expires - nowTicks()) * 2 ** 24) / 1e9;
    } finally {
      for (const table of tables) table.close();
    }
  };
  using stack = new DisposableStack();
  const talks = FAMILIES.map((f, i) =>
    stack.use(new UdpTalk({ netns: pod, host: INTERNET_ADDRESS[f], localPort: 44000 + i })),
  );
  for (const [i, talk] of talks.entries()) {
    await talk.peer();
    assert.ok(seconds(44000 + i) > 50, `${seconds(44000 + i)} s`);
  }
  node.setConfig({ "bpf-ct-timeout-regular-any": "600s" });
  for (const [i, talk] of talks.entries())
    await waitFor(
      "the longer timeout",
      async () => (await talk.peer()) !== undefined && seconds(44000 + i) > 500,
    );
  node.setConfig({ "bpf-ct-timeout-regular-any": "20s" });
  for (const [i, talk] of talks.entries())
    await waitFor("the shorter timeout", async () => {
      await talk.peer();
      return seconds(44000 + i) < 25;
    });
  node.setConfig({});
});

test("after all that nothing is refused or missing", async () => {
  await waitFor("no faults", async () => (await status()).faults.length === 0);
});
