// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { describeKey, planWrites } from "./reconcile.ts";

const cases: [string, [string, string][], [string, string][], string[], string[]][] = [
  ["nothing to do", [["a", "1"]], [["a", "1"]], [], []],
  [
    "empty map",
    [
      ["a", "1"],
      ["b", "2"],
    ],
    [],
    ["a", "b"],
    [],
  ],
  ["nothing desired", [], [["a", "1"]], [], ["a"]],
  ["changed value", [["a", "2"]], [["a", "1"]], ["a"], []],
  [
    "removals, from the last that was read",
    [],
    [
      ["a", "1"],
      ["b", "2"],
      ["c", "3"],
    ],
    [],
    ["c", "b", "a"],
  ],
  [
    "one of each",
    [
      ["c", "3"],
      ["a", "1"],
      ["b", "9"],
    ],
    [
      ["a", "1"],
      ["b", "2"],
      ["d", "4"],
    ],
    ["c", "b"],
    ["d"],
  ],
];
for (const [name, desired, actual, put, remove] of cases) {
  test(`plan: ${name}`, () => {
    assert.deepEqual(planWrites(new Map(desired), new Map(actual)), { put, remove });
  });
}

test("keys are told as people write them", () => {
  assert.equal(describeKey({ address: "10.0.0.0", length: 8 }), "10.0.0.0/8");
  assert.equal(describeKey("fd00::1"), "fd00::1");
  assert.equal(describeKey(7), "7");
  assert.equal(describeKey({ reason: 1, hook: 2 }), "reason 1 hook 2");
});
