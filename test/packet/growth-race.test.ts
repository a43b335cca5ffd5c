// SPDX-License-Identifier: Apache-2.0
// The data plane's own flow table under fire on all processors while it grows again and again: no lasting flow is ever missed or
// under another port, no answer misses its flow, and at the end records, entries and counts agree. A tenth of `npm run bench --
// growth`, with some of its broken variants.
import assert from "node:assert/strict";
import { test } from "node:test";
import { race, wrongs } from "../../bench/shapes/growth.ts";

test("nothing is lost, halved or miscounted while the table grows under fire", async () => {
  const result = await race("as it is", 4, ({ growths, moved }) => growths > 5 && moved > 50);
  assert.ok(result.growths > 5 && result.moved > 50, `too little happened: ${JSON.stringify(result)}`);
  assert.equal(wrongs(result), 0, JSON.stringify(result));
});

test("an exchange that is not announced loses flows", async () => {
  assert.ok(
    wrongs(await race("exchanged without a word", 1, ({ tally }) => tally.lost + tally.halves > 0)) > 0,
  );
});

test("nor while flows are flushed besides, again and again", async () => {
  const result = await race("flushed meanwhile", 3, ({ growths, flushed }) => growths > 5 && flushed > 100);
  assert.ok(result.flushed > 100 && result.growths > 5, `too little happened: ${JSON.stringify(result)}`);
  assert.equal(wrongs(result), 0, JSON.stringify(result));
});

test("a flush that writes whole records leaves halves", async () => {
  const wrong = await race("flushed by whole records", 1, ({ tally }) => tally.lost + tally.halves > 0);
  assert.ok(wrongs(wrong) > 0);
});
