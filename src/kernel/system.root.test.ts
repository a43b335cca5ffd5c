// SPDX-License-Identifier: Apache-2.0
// Settings, features and capabilities against the running kernel.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { ProgType } from "./bpf.ts";
import { hasFibFlag, hasHelper, missingFeatures, probe } from "./features.ts";
import { createNetns, removeNetns } from "./netns.ts";
import { readSysctl, sysctlPath, writeSysctl } from "./sysctl.ts";

test("a setting of one namespace is not the other's", () => {
  const name = `hlt-${randomBytes(3).toString("hex")}-sysctl`;
  using netns = createNetns(name);
  try {
    const setting = "net.ipv4.ip_default_ttl";
    const outside = readSysctl(setting);
    assert.ok(writeSysctl(setting, 77, netns));
    assert.ok(!writeSysctl(setting, 77, name));
    assert.equal(readSysctl(setting, netns), "77");
    assert.equal(readSysctl(setting), outside);
    assert.throws(() => writeSysctl("net.ipv4.none_such", 1, netns), { code: "ENOENT" });
    assert.equal(sysctlPath("net/ipv4/conf/eth0.7/rp_filter"), "/proc/sys/net/ipv4/conf/eth0.7/rp_filter");
  } finally {
    removeNetns(name);
  }
});

test("features are tried, and every answer has its reason", () => {
  const found = probe();
  for (const [name, feature] of Object.entries(found.features)) {
    assert.notEqual(feature.state, "unknown", `${name}: ${feature.why}`);
  }
  assert.equal(found.features.ringbuf.state, "supported");
  assert.ok(!hasHelper(9999, ProgType.schedCls));
  assert.ok(!hasFibFlag(1 << 30));
  assert.deepEqual(missingFeatures(found), []);
  const ringbuf = { ...found.features.ringbuf, state: "missing", why: "came with Linux 5.8" } as const;
  assert.deepEqual(missingFeatures({ kernel: "5.4.0", features: { ...found.features, ringbuf } }), [
    "kernel 5.4.0 has no ringbuf: it came with Linux 5.8",
  ]);
});

/** What cannot be regained is tried in a process of its own. */
function inChild(script: string): string {
  return execFileSync(process.execPath, ["--input-type=module-typescript", "-e", script], {
    cwd: new URL(".", import.meta.url),
    encoding: "utf8",
  }).trim();
}

test("dropped capabilities are gone for the process and for what it starts", () => {
  const output = inChild(`
    import { execFileSync } from "node:child_process";
    import { dropCapabilities, hasCapability } from "./capabilities.ts";
    import { createNetns } from "./netns.ts";
    import { openRtNetlink } from "./netlink/socket.ts";
    import { addBridge } from "./netlink/link.ts";
    const before = hasCapability("sysAdmin");
    dropCapabilities(["netRaw", "dacOverride"]);
    const status = execFileSync("cat", ["/proc/self/status"], { encoding: "utf8" });
    let refusal = "none";
    try { openRtNetlink().apply(addBridge({ name: "hlt-never" })); } catch (fault) { refusal = fault.detail; }
    console.log(before, hasCapability("sysAdmin"), hasCapability("netRaw"), refusal);
    console.log(/CapBnd:\\s*(\\w+)/.exec(status)[1], /CapEff:\\s*(\\w+)/.exec(status)[1]);
  `);
  assert.equal(output, "true false true link.add EPERM hlt-never bridge\n0000000000002002 0000000000002002");
});
