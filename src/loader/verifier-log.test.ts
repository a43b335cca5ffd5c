// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { logText, readVerifierLog } from "./verifier-log.ts";

test("the verdict is the last line before the statistics, with the C line before it", () => {
  const log = [
    "func#0 @0",
    "; int from_pod(struct __sk_buff *skb) @ from_pod.h:12",
    "0: (bf) r6 = r1",
    "; return p->data[0]; @ from_pod.h:14",
    "1: (71) r0 = *(u8 *)(r2 +0)",
    "R2 invalid mem access 'scalar'",
    "verification time 103 usec",
    "stack depth 0",
    "processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0",
    "",
  ].join("\n");
  assert.deepEqual(readVerifierLog(log), {
    line: "R2 invalid mem access 'scalar'",
    source: "return p->data[0]; @ from_pod.h:14",
  });
});

test("a log without C lines, and an empty one", () => {
  assert.deepEqual(readVerifierLog("0: (95) exit\nR0 !read_ok\n"), {
    line: "R0 !read_ok",
    source: undefined,
  });
  assert.deepEqual(readVerifierLog(""), { line: "no reason given", source: undefined });
});

test("the text of a buffer ends at its NUL", () => {
  assert.equal(logText(Uint8Array.of(97, 98, 0, 99)), "ab");
  assert.equal(logText(Uint8Array.of(97, 98)), "ab");
});
