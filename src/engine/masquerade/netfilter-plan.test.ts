// SPDX-License-Identifier: Apache-2.0
// Sets and rules for specs, and the input of the programs that write them, given what is there.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parsePrefix } from "../../base/prefix.ts";
import { type NetfilterSpec, planNetfilter } from "./netfilter-plan.ts";
import { type ChainState, jumpsTo, rulesText, setText } from "./netfilter-text.ts";

const spec: NetfilterSpec = {
  families: [4, 6],
  masqueraded: [4, 6],
  podRanges: [parsePrefix("10.244.1.0/24"), parsePrefix("fd00:10:244:1::/64")],
  kept: [
    { prefix: parsePrefix("10.244.0.0/16"), rule: 5 },
    { prefix: parsePrefix("fd00:10:244::/48"), rule: 5 },
    { prefix: parsePrefix("203.0.113.0/24"), rule: 7 },
  ],
  nodes: [parsePrefix("172.20.0.12/32")],
  devices: [
    { name: "eth0", addr4: "172.20.0.11", addr6: "fd00:20::11" },
    { name: "eth1", addr4: "192.0.2.1", addr6: "::" },
  ],
  sourceRoutes: [],
  randomFully: false,
};

const sets = (change: Partial<NetfilterSpec>): Record<string, readonly string[]> =>
  Object.fromEntries(planNetfilter({ ...spec, ...change }).sets.map(({ name, entries }) => [name, entries]));

/** Targets of the nat chain's rules with what they match, comments left out. */
const nat = (family: 4 | 6, change: Partial<NetfilterSpec> = {}): string[] | undefined =>
  planNetfilter({ ...spec, ...change })
    .chains[family].find((chain) => chain.table === "nat")
    ?.rules.map((rule) => rule.replaceAll(/-m (set|comment) |--comment "[^"]*" /g, ""));

test("each family has its own sets", () => {
  assert.deepEqual(sets({}), {
    "hookline-pods-4": ["10.244.1.0/24"],
    "hookline-native-4": ["10.244.0.0/16"],
    "hookline-nonmasq-4": ["203.0.113.0/24"],
    "hookline-nodes-4": ["172.20.0.12/32"],
    "hookline-pods-6": ["fd00:10:244:1::/64"],
    "hookline-native-6": ["fd00:10:244::/48"],
    "hookline-nonmasq-6": [],
    "hookline-nodes-6": [],
  });
});

test("everything as one prefix, which ipset does not take, is two halves", () => {
  const kept = ["0.0.0.0/0", "::/0"].map((text) => ({ prefix: parsePrefix(text), rule: 7 }));
  const { "hookline-nonmasq-4": v4, "hookline-nonmasq-6": v6 } = sets({ kept });
  assert.deepEqual(
    [v4, v6],
    [
      ["0.0.0.0/1", "128.0.0.0/1"],
      ["8000::/1", "::/1"],
    ],
  );
});

test("rules stand in the order of their numbers, each device with its own address", () => {
  assert.deepEqual(nat(4), [
    "-d 169.254.0.0/16 -j RETURN",
    "-d 224.0.0.0/4 -j RETURN",
    "--match-set hookline-native-4 dst -j RETURN",
    "--match-set hookline-nonmasq-4 dst -j RETURN",
    "--match-set hookline-nodes-4 dst -j RETURN",
    "-o eth0 -j SNAT --to-source 172.20.0.11",
    "-o eth1 -j SNAT --to-source 192.0.2.1",
  ]);
  assert.deepEqual(nat(6)?.slice(-1), ["-o eth0 -j SNAT --to-source fd00:20::11"]);
});

test("sources of routes come before devices' addresses, the longer prefix first, only on devices that masquerade", () => {
  const route = (destination: string, device: string, source: string) => ({
    destination: parsePrefix(destination),
    device,
    source,
  });
  const sourceRoutes = [
    route("0.0.0.0/0", "eth0", "192.0.2.100"),
    route("198.51.100.0/24", "eth0", "192.0.2.101"),
    route("198.51.101.0/24", "lan0", "192.0.2.102"),
    route("2001:db8::/32", "eth0", "2001:db8::1"),
  ];
  assert.deepEqual(nat(4, { sourceRoutes })?.slice(5), [
    "-d 198.51.100.0/24 -o eth0 -j SNAT --to-source 192.0.2.101",
    "-o eth0 -j SNAT --to-source 192.0.2.100",
    "-o eth0 -j SNAT --to-source 172.20.0.11",
    "-o eth1 -j SNAT --to-source 192.0.2.1",
  ]);
  assert.equal(nat(6, { sourceRoutes })?.[5], "-d 2001:db8::/32 -o eth0 -j SNAT --to-source 2001:db8::1");
});

test("ports at random only if asked for", () => {
  assert.match(nat(4, { randomFully: true })?.at(-1) ?? "", /--random-fully$/);
});

test("a family that is not masqueraded has no nat chain, but passes FORWARD; one that is off has nothing", () => {
  const { sets: some, chains } = planNetfilter({ ...spec, masqueraded: [4] });
  assert.deepEqual(
    chains[6].map((chain) => chain.name),
    ["HOOKLINE_FORWARD"],
  );
  assert.deepEqual(
    some.filter((set) => set.family === 6).map((set) => set.name),
    ["hookline-pods-6"],
  );
  assert.deepEqual(planNetfilter({ ...spec, families: [4], masqueraded: [4] }).chains[6], []);
});

test("a set is filled beside the one in force and changes places with it", () => {
  assert.equal(
    setText({ name: "hookline-nodes-4", family: 4, entries: ["192.0.2.1/32", "192.0.2.2/32"] }),
    [
      "create hookline-nodes-4 hash:net family inet maxelem 131072 -exist",
      "create hookline-nodes-4-next hash:net family inet maxelem 131072 -exist",
      "flush hookline-nodes-4-next",
      "add hookline-nodes-4-next 192.0.2.1/32",
      "add hookline-nodes-4-next 192.0.2.2/32",
      "swap hookline-nodes-4-next hookline-nodes-4",
      "destroy hookline-nodes-4-next",
      "",
    ].join("\n"),
  );
});

const chains = planNetfilter(spec).chains[4];
const [natChain, forward] = chains;
const lead = (chain = natChain): string => `-A ${chain?.parent} ${chain?.when} -j ${chain?.name}`;
const states: Record<string, { state: ChainState | undefined; expected: string[] }> = {
  "no chain yet": {
    state: undefined,
    expected: [`-I POSTROUTING 1 ${lead().slice("-A POSTROUTING ".length)}`],
  },
  "as it should be": { state: { own: ["-N HOOKLINE_POST_nat"], jumps: [lead()] }, expected: [] },
  "led to twice": { state: { own: [], jumps: [lead(), lead()] }, expected: [lead().replace("-A", "-D")] },
  "led to otherwise": {
    state: { own: [], jumps: ["-A POSTROUTING -j HOOKLINE_POST_nat"] },
    expected: [
      "-D POSTROUTING -j HOOKLINE_POST_nat",
      `-I POSTROUTING 1 ${lead().slice("-A POSTROUTING ".length)}`,
    ],
  },
};
for (const [name, { state, expected }] of Object.entries(states)) {
  test(`the rule that leads to the chain: ${name}`, () => {
    const text = rulesText(chains, (chain) => (chain === "HOOKLINE_POST_nat" ? state : undefined));
    assert.deepEqual(
      text.split("\n").filter((line) => /^-[AID] POSTROUTING/.test(line)),
      expected,
    );
    assert.ok(text.startsWith("*nat\n:HOOKLINE_POST_nat - [0:0]\n"));
    assert.equal(text.match(/COMMIT\n/g)?.length, 2);
  });
}

test("FORWARD is left to the rules that stand there already", () => {
  assert.match(
    rulesText(chains, () => undefined),
    new RegExp(`^-A FORWARD .* -j ${forward?.name}$`, "m"),
  );
});

test("what is there and not wanted is taken away; where nothing is, nothing is done", () => {
  const there: ChainState = { own: ["-N HOOKLINE_POST_nat"], jumps: [lead()] };
  assert.equal(
    rulesText([], (chain) => (chain === "HOOKLINE_POST_nat" ? there : undefined)),
    `*nat\n:HOOKLINE_POST_nat - [0:0]\n${lead().replace("-A", "-D")}\n-X HOOKLINE_POST_nat\nCOMMIT\n`,
  );
  assert.equal(
    rulesText([], () => undefined),
    "",
  );
});

test("only rules that lead to the chain count", () => {
  assert.deepEqual(jumpsTo(["-P POSTROUTING ACCEPT", "-A POSTROUTING -j X", "-A POSTROUTING -j XY"], "X"), [
    "-A POSTROUTING -j X",
  ]);
});
