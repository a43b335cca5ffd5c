// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault } from "../../base/fault.ts";
import { parsePrefix } from "../../base/prefix.ts";
import { Ipam, readIpamState } from "./engine.ts";
import { RESTING_LIMIT } from "./plan.ts";
import { ipamSpec, type Owner, usableRange } from "./spec.ts";

const owner = (n: number | string, network = "net"): Owner => ({
  containerId: `c${n}`,
  ifName: "eth0",
  network,
});

function fault(code: string, pattern: RegExp): (thrown: unknown) => boolean {
  return (thrown) => {
    assert.ok(thrown instanceof Fault, String(thrown));
    assert.equal(thrown.code, code);
    assert.match(thrown.message, pattern);
    return true;
  };
}

const usable: [cidr: string, count: bigint, first: string | undefined][] = [
  ["10.0.0.0/24", 253n, "10.0.0.2"],
  ["10.0.0.0/28", 13n, "10.0.0.2"],
  ["10.0.0.0/30", 1n, "10.0.0.2"],
  ["10.0.0.0/31", -1n, undefined],
  ["10.0.0.0/32", -2n, undefined],
  ["fd00::/64", (1n << 64n) - 2n, "fd00::2"],
  ["fd00::/126", 2n, "fd00::2"],
  ["fd00::/127", 0n, undefined],
];
for (const [cidr, count, first] of usable) {
  test(`${cidr} has ${first ? `${count} addresses for pods, from ${first}` : "none for pods"}`, () => {
    const { first: from, last } = usableRange(parsePrefix(cidr));
    assert.equal(last - from + 1n, count);
    if (first === undefined) {
      assert.throws(() => ipamSpec([cidr]), fault("IPAM_CIDR_TOO_SMALL", /the first one is the router's/));
      return;
    }
    const ipam = new Ipam(ipamSpec([cidr]));
    const lease = ipam.allocate(owner(1));
    assert.equal(lease.ipv4 ?? lease.ipv6, first);
    const pool = first.includes(":") ? ipam.status().ipv6 : ipam.status().ipv4;
    assert.equal(pool.usable, count);
  });
}

const badSpecs: [cidrs: string[], code: string, pattern: RegExp][] = [
  [["10.0.0.0/24", "10.0.0.128/25"], "IPAM_CIDR_OVERLAP", /10\.0\.0\.0\/24 and 10\.0\.0\.128\/25/],
  [["10.0.0.0/33"], "PREFIX_SYNTAX", /prefix length over 32/],
  [["pods"], "PREFIX_SYNTAX", /not an IPv4 or IPv6 prefix/],
];
for (const [cidrs, code, pattern] of badSpecs) {
  test(`pod CIDRs ${cidrs} are refused`, () => assert.throws(() => ipamSpec(cidrs), fault(code, pattern)));
}

test("a family that is switched off gets no addresses", () => {
  const ipam = new Ipam(ipamSpec(["10.0.0.0/24", "fd00::/64"], { ipv4: true, ipv6: false }));
  assert.deepEqual(ipam.allocate(owner(1)), { owner: owner(1), ipv4: "10.0.0.2" });
});

test("without a pod CIDR the error says what to set and that a retry helps", () => {
  assert.throws(
    () => new Ipam(ipamSpec([])).allocate(owner(1)),
    (thrown) => fault("IPAM_NO_CIDR", /set spec\.podCIDRs/)(thrown) && (thrown as Fault).retriable,
  );
});

test("300 pods get 300 different pairs over two IPv4 CIDRs and one IPv6 CIDR", () => {
  const ipam = new Ipam(ipamSpec(["10.0.0.0/24", "10.0.7.0/25", "fd00::/64"]));
  const v4 = new Set<string>();
  const v6 = new Set<string>();
  for (let i = 0; i < 300; i++) {
    const lease = ipam.allocate(owner(i));
    v4.add(lease.ipv4 ?? "");
    v6.add(lease.ipv6 ?? "");
  }
  assert.equal(v4.size, 300);
  assert.equal(v6.size, 300);
  for (const reserved of ["10.0.0.0", "10.0.0.1", "10.0.0.255", "10.0.7.0", "10.0.7.1"]) {
    assert.ok(!v4.has(reserved), reserved);
  }
  assert.ok(v4.has("10.0.0.254") && v4.has("10.0.7.48"), "the second CIDR serves when the first is full");
  assert.deepEqual(ipam.status().ipv4, { usable: 253n + 125n, inUse: 300, resting: 0, outside: 0 });
});

test("the same owner gets the same addresses again, another interface others", () => {
  const ipam = new Ipam(ipamSpec(["10.0.0.0/24", "fd00::/64"]));
  const first = ipam.allocate(owner(1));
  assert.equal(ipam.allocate(owner(1)), first);
  assert.notEqual(ipam.allocate({ ...owner(1), ifName: "net1" }).ipv4, first.ipv4);
  assert.equal(ipam.status().ipv4.inUse, 2);
});

test("exhaustion names the CIDRs and the counts and takes nothing of the other family", () => {
  const ipam = new Ipam(ipamSpec(["10.0.0.0/29", "fd00::/64"]));
  for (let i = 0; i < 5; i++) ipam.allocate(owner(i));
  const expected = fault(
    "IPAM_EXHAUSTED",
    /no free IPv4 address in 10\.0\.0\.0\/29: 5 of 5 in use; delete pods/,
  );
  assert.throws(() => ipam.allocate(owner(9)), expected);
  assert.equal(ipam.status().ipv6.inUse, 5);
  assert.equal(ipam.lease(owner(9)), undefined);
  ipam.release(owner(3));
  assert.equal(ipam.allocate(owner(9)).ipv4, "10.0.0.5");
});

test("exhaustion of IPv6 gives the IPv4 address back", () => {
  const ipam = new Ipam(ipamSpec(["10.0.0.0/24", "fd00::/126"]));
  ipam.allocate(owner(1));
  ipam.allocate(owner(2));
  assert.throws(
    () => ipam.allocate(owner(3)),
    fault("IPAM_EXHAUSTED", /IPv6 address in fd00::\/126: 2 of 2/),
  );
  assert.equal(ipam.status().ipv4.inUse, 2);
});

test("released addresses come back last, the one released first before the others", () => {
  const ipam = new Ipam(ipamSpec(["10.0.0.0/29"]));
  for (let i = 0; i < 4; i++) ipam.allocate(owner(i));
  ipam.release(owner(2));
  ipam.release(owner(0));
  ipam.release(owner(1));
  const order = [10, 11, 12, 13].map((n) => ipam.allocate(owner(n)).ipv4);
  assert.deepEqual(order, ["10.0.0.6", "10.0.0.4", "10.0.0.2", "10.0.0.3"]);
  assert.equal(ipam.release(owner(2)), undefined, "a second release does nothing");
});

test("churn never gives an address to the next pod at once", () => {
  const ipam = new Ipam(ipamSpec(["10.0.0.0/28", "fd00::/64"]));
  let before = ipam.allocate(owner("first"));
  for (let i = 0; i < 3 * RESTING_LIMIT; i++) {
    ipam.release(before.owner);
    const next = ipam.allocate(owner(i));
    assert.notEqual(next.ipv4, before.ipv4);
    assert.notEqual(next.ipv6, before.ipv6);
    before = next;
  }
  assert.equal(ipam.status().ipv4.resting, 12);
  assert.equal(ipam.status().ipv6.resting, RESTING_LIMIT);
});

test("a restart keeps leases, the cursor and the order of the resting", () => {
  const spec = ipamSpec(["10.0.0.0/29", "fd00::/64"]);
  const before = new Ipam(spec, { now: () => 1000 });
  for (let i = 0; i < 4; i++) before.allocate(owner(i));
  before.release(owner(1));
  before.release(owner(0));
  const state = readIpamState(JSON.parse(JSON.stringify(before.snapshot())));
  const after = new Ipam(spec, { state });
  assert.deepEqual(after.snapshot(), before.snapshot());
  assert.deepEqual(after.allocate(owner(2)), before.allocate(owner(2)));
  assert.deepEqual(
    [20, 21, 22].map((n) => after.allocate(owner(n)).ipv4),
    ["10.0.0.6", "10.0.0.3", "10.0.0.2"],
  );
});

test("state that is restored before the CIDRs are known waits for them", () => {
  const spec = ipamSpec(["10.0.0.0/29", "fd00::/64"]);
  const before = new Ipam(spec);
  for (let i = 0; i < 3; i++) before.allocate(owner(i));
  before.release(owner(1));
  const after = new Ipam(ipamSpec([]), { state: before.snapshot() });
  assert.deepEqual(after.status().ipv4, { usable: 0n, inUse: 2, resting: 0, outside: 2 });
  assert.deepEqual(readIpamState(JSON.parse(JSON.stringify(after.snapshot()))), before.snapshot());
  after.setSpec(spec);
  assert.deepEqual(after.snapshot(), before.snapshot());
  assert.deepEqual(after.status(), before.status());
  assert.equal(after.allocate(owner(9)).ipv4, "10.0.0.5");
});

const badStates: [name: string, state: unknown, pattern: RegExp][] = [
  ["no object", null, /\(document\)/],
  ["a later version", { version: 2, leases: [], pools: {} }, /version/],
  [
    "an address that is none",
    {
      version: 1,
      leases: [{ owner: owner(1), ipv4: "10.0.0" }],
      pools: { ipv4: { cursors: {}, resting: [] }, ipv6: { cursors: {}, resting: [] } },
    },
    /leases\.0\.ipv4: "10\.0\.0": not an address/,
  ],
];
for (const [name, state, pattern] of badStates) {
  test(`saved state with ${name} is refused`, () => {
    assert.throws(() => readIpamState(state), fault("IPAM_STATE", pattern));
  });
}

test("two owners of one address are refused on restore", () => {
  const ipam = new Ipam(ipamSpec(["10.0.0.0/24"]));
  ipam.adopt({ owner: owner(1), ipv4: "10.0.0.9" });
  assert.throws(
    () => ipam.adopt({ owner: owner(2), ipv4: "10.0.0.9" }),
    fault("IPAM_ADDRESS_TAKEN", /10\.0\.0\.9: wanted by c2\/eth0, held by c1\/eth0/),
  );
});

test("a change of pod CIDRs keeps what is in use until it is released", () => {
  const ipam = new Ipam(ipamSpec(["10.0.0.0/29"]));
  for (let i = 0; i < 3; i++) ipam.allocate(owner(i));
  ipam.release(owner(2));
  ipam.setSpec(ipamSpec(["10.1.0.0/30"]));
  assert.equal(ipam.allocate(owner(0)).ipv4, "10.0.0.2");
  assert.deepEqual(ipam.status().ipv4, { usable: 1n, inUse: 2, resting: 0, outside: 2 });
  assert.equal(ipam.allocate(owner(5)).ipv4, "10.1.0.2");
  assert.throws(
    () => ipam.allocate(owner(6)),
    fault("IPAM_EXHAUSTED", /10\.1\.0\.0\/30: 1 of 1 in use, 2 more outside these CIDRs/),
  );
  ipam.release(owner(0));
  assert.deepEqual(ipam.status().ipv4, { usable: 1n, inUse: 2, resting: 0, outside: 1 });
  ipam.setSpec(ipamSpec(["10.0.0.0/29"]));
  const again = [7, 8, 9, 10].map((n) => ipam.allocate(owner(n)).ipv4);
  const why = "fresh ones first, then those released, in order; 10.0.0.3 is still held by c1";
  assert.deepEqual(again, ["10.0.0.5", "10.0.0.6", "10.0.0.4", "10.0.0.2"], why);
});

test("leaks are the leases of that network that the runtime does not list", () => {
  const ipam = new Ipam(ipamSpec(["10.0.0.0/24"]));
  for (const o of [owner(1), owner(2), { ...owner(2), ifName: "net1" }, owner(3, "other")]) ipam.allocate(o);
  const leaked = ipam.leaked("net", [{ containerId: "c2", ifName: "eth0" }]);
  assert.deepEqual(
    leaked.map((l) => `${l.owner.containerId} ${l.owner.ifName}`),
    ["c1 eth0", "c2 net1"],
  );
  assert.equal(ipam.leases().length, 4, "nothing is released yet");
});
