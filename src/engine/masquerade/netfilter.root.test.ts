// SPDX-License-Identifier: Apache-2.0
// When rules count as standing, with the real programs in a network namespace of this process: not before the last of them has
// been written, also if the sets were refused at first and a later try succeeds.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { sleep } from "../../base/async.ts";
import { parsePrefix } from "../../base/prefix.ts";
import { checked, libc } from "../../kernel/ffi.ts";
import { Netfilter } from "./netfilter.ts";
import { planNetfilter } from "./netfilter-plan.ts";

const CLONE_NEWNET = 0x4000_0000;

const plan = planNetfilter({
  families: [4, 6],
  masqueraded: [4, 6],
  podRanges: [parsePrefix("10.244.1.0/24"), parsePrefix("fd00:10:244:1::/64")],
  kept: [],
  nodes: [],
  devices: [{ name: "eth0", addr4: "172.20.0.11", addr6: "fd00:20::11" }],
  sourceRoutes: [],
  randomFully: false,
});

const run = (program: string, ...args: readonly string[]): string =>
  execFileSync(program, args, { encoding: "utf8", stdio: "pipe" });

test("after sets that were refused, rules stand when both families have been written", async () => {
  checked("namespace.make", "net", libc.unshare(CLONE_NEWNET));
  const netfilter = new Netfilter({ retryMs: { first: 10, longest: 10 } });
  try {
    await netfilter.remove();
    // A set of another kind under our name, which a rule keeps from being taken away.
    run("ipset", "create", "hookline-pods-4", "hash:ip");
    const held = ["POSTROUTING", "-m", "set", "--match-set", "hookline-pods-4", "src"];
    run("iptables", "-t", "nat", "-A", ...held);
    await netfilter.setDesired(plan);
    assert.equal(netfilter.inForce, false);
    run("iptables", "-t", "nat", "-D", ...held);
    run("ipset", "destroy", "hookline-pods-4");
    const deadline = performance.now() + 30_000;
    while (!netfilter.inForce && performance.now() < deadline) await sleep(1);
    assert.ok(netfilter.inForce, netfilter.fault?.detail ?? "not written");
    for (const program of ["iptables", "ip6tables"])
      assert.match(run(program, "-t", "nat", "-S"), /^-A HOOKLINE_POST_nat -o eth0 .* -j SNAT/m);
  } finally {
    await netfilter.remove();
    netfilter.close();
  }
});
