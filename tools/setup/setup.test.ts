// SPDX-License-Identifier: Apache-2.0
// What a machine lacks, as people are told: pure decisions over invented machines, and the command itself on this one.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type Apt, installMissing } from "./apt.ts";
import { type Host, obstacles } from "./host.ts";
import { type Machine, missing, NEEDS, type Need } from "./needs.ts";

const GOOD: Host = {
  uid: 0,
  capabilities: (1n << 41n) - 1n,
  kernel: "6.1.0-28-amd64",
  btf: true,
  filesystems: ["sysfs", "bpf", "cgroup2"],
};

describe("obstacles", () => {
  const rows: [string, Partial<Host>, RegExp][] = [
    ["no root", { uid: 1000, capabilities: 0n }, /^not root: run it again as root/],
    ["root in a container", { capabilities: 0xa80425fbn }, /^root without CAP_SYS_ADMIN/],
    [
      "an old kernel",
      { kernel: "5.15.0-91-generic" },
      /^kernel 5.15.0-91-generic is too old: boot 6.1 or newer/,
    ],
    ["an old kernel of six", { kernel: "6.0.19" }, /^kernel 6.0.19 is too old/],
    ["no BTF", { btf: false }, /^the kernel has no BTF/],
    ["no bpffs", { filesystems: ["cgroup2"] }, /^the kernel has no bpffs/],
    ["no cgroup v2", { filesystems: ["bpf", "cgroup"] }, /^the kernel has no cgroup v2/],
  ];
  for (const [name, change, expected] of rows) {
    test(name, () => {
      const lines = obstacles({ ...GOOD, ...change });
      assert.equal(lines.length, 1);
      assert.match(lines[0] ?? "", expected);
    });
  }
  test("none", () => {
    for (const kernel of ["6.1.0-28-amd64", "6.8.0-41-generic", "7.0.1"]) {
      assert.deepEqual(obstacles({ ...GOOD, kernel }), [], kernel);
    }
  });
});

test("the command says in one line what is wrong and ends with 1", () => {
  const setup = [process.execPath, join(import.meta.dirname, "../setup.ts"), "lab"];
  const { status, stdout } = spawnSync("setpriv", ["--bounding-set=-all", ...setup], { encoding: "utf8" });
  assert.equal(status, 1);
  assert.match(stdout, /^setup: root without CAP_SYS_ADMIN and CAP_NET_ADMIN: .*\n$/);
});

describe("needs", () => {
  const machine = (programs: string[], files: string[] = []): Machine => ({
    program: (name) => programs.some((entry) => name.test(entry)),
    file: (path) => files.includes(path),
    library: () => true,
  });
  const names = (needs: readonly Need[]): string[] => needs.map((need) => need.name);

  test("the lab needs less than the tests", () => {
    const nothing = machine([]);
    assert.deepEqual(
      names(missing("lab", nothing)),
      NEEDS.filter((need) => need.for === "lab" && need.name !== "libbpf").map((need) => need.name),
    );
    const rest = NEEDS.filter((need) => need.name !== "libbpf");
    const without = (...purposes: string[]): string[] =>
      names(rest.filter((need) => !purposes.includes(need.for)));
    assert.deepEqual(names(missing("test", nothing)), without("kernels", "bench"));
    assert.deepEqual(names(missing("kernels", nothing)), without("bench"));
    assert.deepEqual(names(missing("bench", nothing)), without("kernels"));
  });

  test("any clang from 14 up will do, and any kubectl", () => {
    for (const clang of ["clang", "clang-14", "clang-18", "clang-19", "clang-21"]) {
      assert.ok(!names(missing("lab", machine([clang]))).includes("clang"), clang);
    }
    for (const clang of ["clang-13", "clang-format-19", "clangd", "clang++"]) {
      assert.ok(names(missing("lab", machine([clang]))).includes("clang"), clang);
    }
    assert.ok(!names(missing("test", machine(["kubectl"]))).includes("kubectl"));
  });
});

describe("installing", () => {
  const need = (name: string, packages: string[][], optional?: string): Need => ({
    name,
    why: "a test",
    for: "lab",
    packages,
    present: () => false,
    ...(optional === undefined ? {} : { optional }),
  });

  /** An archive with some packages; the others appear with an update, if it is reachable. */
  function archive(listed: string[], later: string[] = [], unreachable?: string) {
    const calls: string[] = [];
    let known = listed;
    const apt: Apt = {
      exists: true,
      known: (names) => new Set(names.filter((name) => known.includes(name))),
      install: (names) => {
        calls.push(`install ${names.join(" ")}`);
        return names.every((name) => known.includes(name)) && unreachable === undefined ? undefined : "E: no";
      },
      update: () => {
        calls.push("update");
        if (unreachable === undefined) known = [...known, ...later];
        return unreachable;
      },
    };
    return { apt, calls };
  }

  function run(needs: Need[], apt: Apt) {
    const said: string[] = [];
    return { ...installMissing(needs, apt, (line) => said.push(line)), said };
  }

  test("takes the first choice that there is, says it, and installs all at once", () => {
    const { apt, calls } = archive(["clang-18", "clang", "curl"]);
    const done = run([need("clang", [["clang-19"], ["clang-18"], ["clang"]]), need("curl", [["curl"]])], apt);
    assert.deepEqual(done.said, ["installing clang-18 (a test)", "installing curl (a test)"]);
    assert.deepEqual(calls, ["install clang-18 curl"]);
    assert.deepEqual([done.lines, done.failed], [[], false]);
  });

  test("updates the lists if they do not know a package", () => {
    const { apt, calls } = archive([], ["curl"]);
    const done = run([need("curl", [["curl"]])], apt);
    assert.deepEqual(calls, ["update", "install curl"]);
    assert.equal(done.failed, false);
  });

  test("says that apt is unreachable and what to install by hand", () => {
    const { apt } = archive([], [], "E: Could not resolve the archive");
    const done = run([need("clang", [["clang-19"], ["clang"]])], apt);
    assert.equal(done.failed, true);
    const expected =
      "clang is missing and apt is unreachable (E: Could not resolve the archive): make the archive reachable, or install clang-19, or clang by hand";
    assert.deepEqual(done.lines, [expected]);
    const known = archive(["clang"], [], "E: Could not resolve the archive");
    assert.match(
      run([need("clang", [["clang"]])], known.apt).lines.join(),
      /apt-get failed \(E: Could not resolve/,
    );
  });

  test("goes on without what is optional", () => {
    const { apt, calls } = archive(["curl"]);
    const done = run(
      [need("kubectl", [["kubernetes-client"]], "its tests are left out"), need("curl", [["curl"]])],
      apt,
    );
    assert.deepEqual(calls, ["install curl"]);
    assert.equal(done.failed, false);
    assert.deepEqual(done.lines, ["kubectl is in no package of this system: its tests are left out"]);
  });

  test("without apt-get names everything", () => {
    const { apt } = archive([]);
    const done = run([need("curl", [["curl"]])], { ...apt, exists: false });
    assert.deepEqual([done.failed, done.lines.length], [true, 1]);
  });
});
