// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseMountInfo } from "./mount.ts";

test("mountinfo with optional fields, escapes and a mount below the root", () => {
  const text = [
    "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue",
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
    "50 1 0:40 / /a\\040b rw - bpf none rw",
    "",
  ].join("\n");
  assert.deepEqual(
    parseMountInfo(text).map((m) => [m.root, m.target, m.type, m.source, m.options[0]]),
    [
      ["/mnt1", "/mnt2", "ext3", "/dev/root", "rw"],
      ["/", "/sys/fs/cgroup/unified", "cgroup2", "cgroup2", "rw"],
      ["/", "/a b", "bpf", "none", "rw"],
    ],
  );
});
