// SPDX-License-Identifier: Apache-2.0
// One table of real traffic, gone through in each mode of masquerading: BPF, iptables, off. A row says whom the far side
// sees; where modes differ by design, the row says so for each (docs/user/masquerade.md). Pods, node and far side, both
// families, TCP, UDP and ICMP echo.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { ask } from "../support/ask.ts";
import {
  type Both,
  FAMILIES,
  FAR_NODE,
  FAR_POD,
  type Family,
  type Mode,
  ModesNode,
} from "../support/modes-node.ts";
import {
  GATEWAY_ADDRESS,
  INTERNET_ADDRESS,
  ip,
  NODE_ADDRESS,
  NON_MASQUERADE_ADDRESS,
} from "../support/netns.ts";

let node: ModesNode;
before(async () => {
  node = await ModesNode.build();
  ip(node.world.node, ["link add spare0 type veth peer name spare1", "link set spare0 up"]);
});
after(() => node?.[Symbol.asyncDispose]());

type Place = "pod" | "other pod" | "node" | "outside";
type Seen = Both | "pod" | "other pod";

interface Row {
  readonly what: string;
  readonly from: Place;
  readonly at: Place;
  readonly to: Seen;
  /** Whom the far side sees, in all modes or in each. */
  readonly seen: Seen | Readonly<Record<Mode, Seen>>;
}

const ROWS: readonly Row[] = [
  {
    what: "a pod to the world (rule 9)",
    ...{ from: "pod", at: "outside", to: INTERNET_ADDRESS },
    seen: { BPF: NODE_ADDRESS, IPTables: NODE_ADDRESS, Disabled: "pod" },
  },
  {
    what: "a pod to a pod of another node (rule 5)",
    ...{ from: "pod", at: "outside", to: FAR_POD },
    seen: "pod",
  },
  {
    what: "a pod into nonMasqueradeCIDRs (rule 7)",
    ...{ from: "pod", at: "outside", to: NON_MASQUERADE_ADDRESS },
    seen: "pod",
  },
  { what: "a pod to another node (rule 8)", from: "pod", at: "outside", to: FAR_NODE, seen: "pod" },
  { what: "a pod to its own node", from: "pod", at: "node", to: NODE_ADDRESS, seen: "pod" },
  { what: "a pod to a pod of its node", from: "pod", at: "other pod", to: "other pod", seen: "pod" },
  {
    what: "the node to the world (rule 2)",
    from: "node",
    at: "outside",
    to: INTERNET_ADDRESS,
    seen: NODE_ADDRESS,
  },
  { what: "the node to its pod", from: "node", at: "pod", to: "pod", seen: NODE_ADDRESS },
  { what: "the outside to a pod (rule 3)", from: "outside", at: "pod", to: "pod", seen: GATEWAY_ADDRESS },
  { what: "the outside to the node", from: "outside", at: "node", to: NODE_ADDRESS, seen: GATEWAY_ADDRESS },
];

function netnsOf(place: Place): string {
  if (place === "node") return node.world.node;
  return place === "outside" ? node.world.outside : node.pod(place === "pod" ? 0 : 1).netns;
}

const addressOf = (seen: Seen): Both =>
  typeof seen === "string" ? node.pod(seen === "pod" ? 0 : 1).address : seen;

const expected = ({ seen }: Row, mode: Mode): Both =>
  addressOf(typeof seen === "object" && mode in seen ? (seen as Record<Mode, Seen>)[mode] : (seen as Seen));

/** Echo requests that the far side's netfilter takes from `seen` only, so that an answer tells who was seen. */
async function ping(row: Row, family: Family, seen: string): Promise<void> {
  const to = addressOf(row.to)[family];
  const [program, ...kind] =
    family === 4
      ? ["iptables", "-p", "icmp", "--icmp-type", "echo-request"]
      : ["ip6tables", "-p", "icmpv6", "--icmpv6-type", "echo-request"];
  const others = [...kind, "-d", to, "!", "-s", seen, "-j", "DROP"];
  const run = (netns: string, argv: string[]) => node.world.run(netns, argv);
  await run(netnsOf(row.at), [program ?? "", "-w", "-I", "INPUT", ...others]);
  const { status, stdout } = await run(netnsOf(row.from), ["ping", "-n", "-c1", "-W2", to]);
  await run(netnsOf(row.at), [program ?? "", "-w", "-D", "INPUT", ...others]);
  assert.equal(status, 0, `not seen as ${seen}: ${stdout}`);
}

function goThrough(rows: readonly Row[], mode: Mode): void {
  for (const row of rows) {
    for (const family of FAMILIES) {
      for (const protocol of ["tcp", "udp"]) {
        test(`IPv${family} ${protocol}: ${row.what}`, async () => {
          const target = `${protocol}:${addressOf(row.to)[family]}`;
          const { peer, error } = await ask(netnsOf(row.from), target);
          assert.equal(peer ?? error, expected(row, mode)[family]);
        });
      }
      test(`IPv${family} ping: ${row.what}`, () => ping(row, family, expected(row, mode)[family]));
    }
  }
}

for (const mode of ["BPF", "IPTables", "Disabled"] as const) {
  describe(`mode ${mode}`, () => {
    before(() => node.enter(mode));
    goThrough(ROWS, mode);
  });
}

const NO_LIST = existsSync("/proc/net/nf_conntrack") ? false : "the kernel has no /proc/net/nf_conntrack";

test("a pod that is gone leaves no connection behind for its address's next owner, mode IPTables", {
  skip: NO_LIST,
}, async () => {
  await node.enter("IPTables");
  const netns = node.world.addNetns("late");
  const added = await node.agent.call("ADD", { containerId: "late", netns });
  const addresses: string[] = added.json.ips.map((entry: { address: string }) => entry.address.split("/")[0]);
  const tracked = async (): Promise<number> => {
    const { stdout } = await node.world.run(node.world.node, ["cat", "/proc/net/nf_conntrack"]);
    const [v4 = "", v6 = ""] = addresses;
    // The kernel writes IPv6 addresses here in full.
    const full = v6.replace(
      /^fd00:10:244:1::(\w+)$/,
      (_, host) => `fd00:0010:0244:0001:0000:0000:0000:${host.padStart(4, "0")}`,
    );
    return stdout.split("\n").filter((line) => line.includes(`=${v4} `) || line.includes(`=${full} `)).length;
  };
  for (const family of FAMILIES) {
    for (const protocol of ["udp", "tcp"]) await ask(netns, `${protocol}:${INTERNET_ADDRESS[family]}`);
    await node.world.run(netns, ["ping", "-n", "-c1", "-W2", INTERNET_ADDRESS[family]]);
  }
  assert.ok((await tracked()) >= 6, `${await tracked()} connections`);
  await node.agent.call("DEL", { containerId: "late", netns });
  assert.equal(await tracked(), 0);
});

/** Answers only come back if both the request's and the answer's fragments find their way. */
for (const mode of ["BPF", "IPTables"] as const) {
  for (const family of FAMILIES) {
    test(`IPv${family} ping of 4,000 bytes from a pod to the world, mode ${mode}`, async () => {
      await node.enter(mode);
      const argv = ["ping", "-n", "-c2", "-i0.2", "-W2", "-s4000", INTERNET_ADDRESS[family]];
      const { status, stdout } = await node.world.run(node.pod(0).netns, argv);
      assert.equal(status, 0, stdout);
    });
  }
}

const ROUTE_SOURCE: Both = { 4: "172.20.0.77", 6: "fd00:20::77" };

for (const mode of ["BPF", "IPTables"] as const) {
  describe(`enable-masquerade-to-route-source in mode ${mode}`, () => {
    before(async () => {
      ip(node.world.node, [
        `address replace ${ROUTE_SOURCE[4]}/24 dev eth0`,
        `address replace ${ROUTE_SOURCE[6]}/64 dev eth0 nodad`,
        `route replace default via ${GATEWAY_ADDRESS[4]} src ${ROUTE_SOURCE[4]}`,
        `route replace default via ${GATEWAY_ADDRESS[6]} dev eth0 src ${ROUTE_SOURCE[6]}`,
      ]);
      await node.enter(mode, { "enable-masquerade-to-route-source": "true" });
    });
    after(() => {
      ip(node.world.node, [
        `route replace default via ${GATEWAY_ADDRESS[4]}`,
        `route replace default via ${GATEWAY_ADDRESS[6]} dev eth0`,
        `address del ${ROUTE_SOURCE[4]}/24 dev eth0`,
        `address del ${ROUTE_SOURCE[6]}/64 dev eth0`,
      ]);
    });
    const row: Row = {
      what: "a pod to the world, under the route's source",
      ...{ from: "pod", at: "outside", to: INTERNET_ADDRESS },
      seen: ROUTE_SOURCE,
    };
    goThrough([row], mode);
  });
}

/** Options that mean something in one mode only: what each mode does, and what it says. */
const ONE_MODE = [
  {
    option: { "enable-remote-node-masquerade": "true" },
    row: {
      what: "a pod to another node",
      ...{ from: "pod", at: "outside", to: FAR_NODE },
      seen: { BPF: NODE_ADDRESS, IPTables: "pod", Disabled: "pod" },
    },
    idle: "IPTables",
  },
  {
    option: { "egress-masquerade-interfaces": "spare+" },
    row: {
      what: "a pod to the world by a device that is not among them",
      ...{ from: "pod", at: "outside", to: INTERNET_ADDRESS },
      seen: { BPF: NODE_ADDRESS, IPTables: "pod", Disabled: "pod" },
    },
    idle: "BPF",
  },
] as const satisfies readonly { option: Record<string, string>; row: Row; idle: Mode }[];

for (const { option, row, idle } of ONE_MODE) {
  const [name = ""] = Object.keys(option);
  for (const mode of ["BPF", "IPTables"] as const) {
    describe(`${name} in mode ${mode}`, () => {
      before(() => node.enter(mode, option));
      goThrough([row], mode);
      test(`${mode === idle ? "is told to have no effect" : "is in force"}`, async () => {
        const told = (await node.status()).faults.filter((fault) =>
          fault.startsWith(`${name}: has no effect`),
        );
        assert.equal(told.length, mode === idle ? 1 : 0);
      });
    });
  }
}

for (const family of FAMILIES) {
  const other = family === 4 ? 6 : 4;
  for (const mode of ["BPF", "IPTables"] as const) {
    describe(`mode ${mode}, IPv${other} not masqueraded`, () => {
      before(() => node.enter(mode, { [`enable-ipv${other}-masquerade`]: "false" }));
      test(`IPv${family} is, IPv${other} is not`, async () => {
        const peers = await Promise.all(
          FAMILIES.map((f) => ask(node.pod(0).netns, `tcp:${INTERNET_ADDRESS[f]}`)),
        );
        const pod = node.pod(0).address;
        assert.deepEqual(
          peers.map(({ peer, error }) => peer ?? error),
          FAMILIES.map((f) => (f === family ? NODE_ADDRESS : pod)[f]),
        );
        assert.match(
          (await node.status()).masquerading.line,
          new RegExp(
            `\\[IPv4: ${family === 4 ? "En" : "Dis"}abled, IPv6: ${family === 6 ? "En" : "Dis"}abled\\]$`,
          ),
        );
      });
    });
  }
}
