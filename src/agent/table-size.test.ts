// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { firstSize, lookMs, nextSize } from "./table-size.ts";

const Ki = 1024;
const pair = (flows: number, replies = flows) => ({ flows, replies });
const MAX = pair(1024 * Ki);

test("a table begins small, or as small as the options ask", () => {
  assert.deepEqual(firstSize(MAX), pair(16 * Ki));
  assert.deepEqual(firstSize(pair(4096, 1024)), pair(4096, 1024));
});

const rows: [what: string, records: number, size: number, to: number | undefined][] = [
  ["an empty table stays", 0, 16 * Ki, undefined],
  ["the first keeps room for a burst", 8 * Ki - 1, 16 * Ki, undefined],
  ["and grows when it has less", 8 * Ki + 1, 16 * Ki, 64 * Ki],
  ["a larger one grows when less than 30 % is free", 180_000, 256 * Ki, undefined],
  ["four times", 184_000, 256 * Ki, 1024 * Ki],
  ["at most to the maximum", 1024 * Ki, 512 * Ki, 1024 * Ki],
  ["and not beyond", 1024 * Ki, 1024 * Ki, undefined],
  ["a table larger than the options ask for stays", 4096 * Ki, 4096 * Ki, undefined],
  ["a tiny one grows when half of it is used", 600, Ki, 4 * Ki],
];
for (const [what, records, size, to] of rows) {
  test(what, () => {
    assert.deepEqual(nextSize(records, pair(size), MAX), to === undefined ? undefined : pair(to));
  });
}

test("the index grows with the table, up to its own maximum", () => {
  assert.deepEqual(nextSize(16 * Ki, pair(16 * Ki), pair(1024 * Ki, 32 * Ki)), pair(64 * Ki, 32 * Ki));
});

test("the fuller the table, the sooner it is looked at again", () => {
  assert.equal(lookMs(0, pair(1024 * Ki)), 50);
  assert.equal(lookMs(16 * Ki, pair(16 * Ki)), 5);
  const some = lookMs(6 * Ki, pair(16 * Ki));
  assert.ok(some > 5 && some < 50);
});
