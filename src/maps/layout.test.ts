// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { MAPS } from "./gen/maps.ts";
import { carrier, describeChange } from "./layout.ts";

const OLD = "prefixlen:0:4:__u32,addr:4:16:struct addr|source:0:4:__u32,rule:4:4:__u32,gone:8:2:__u16";
const NEW = "prefixlen:0:4:__u32,addr:4:16:struct addr|rule:0:4:__u32,source:4:4:__u32,fresh:8:2:__u16";

test("a change is told field by field", () => {
  assert.deepEqual(describeChange(OLD, OLD), []);
  assert.deepEqual(describeChange(OLD, NEW), [
    "value field source is __u32, 4 bytes at 0, wanted __u32, 4 bytes at 4",
    "value field rule is __u32, 4 bytes at 4, wanted __u32, 4 bytes at 0",
    "value field gone is __u16, 2 bytes at 8, wanted none",
    "value field fresh is none, wanted __u16, 2 bytes at 8",
  ]);
});

test("fields are carried over by name, what is new is 0, what is gone is left behind", () => {
  const to = new Uint8Array(10).fill(0xff);
  carrier(OLD, NEW)?.value(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), to);
  assert.deepEqual([...to], [5, 6, 7, 8, 1, 2, 3, 4, 0, 0]);
});

test("an entry whose key has another meaning is not carried over", () => {
  const types = NEW.replace("addr:4:16:struct addr", "addr:4:16:__u8[16]");
  assert.equal(carrier(OLD, types), undefined);
  assert.equal(carrier(OLD.replace("prefixlen:0:4:__u32,", ""), NEW), undefined);
  assert.equal(carrier(OLD, NEW.replace("prefixlen:0:4:__u32,", "")), undefined);
});

test("every map says how its entries are laid out, shortly enough for the target of a link", () => {
  for (const map of Object.values(MAPS)) {
    assert.ok(map.layout.length < 4096, map.name);
    if (map.typeName !== "ringbuf") assert.match(map.layout, /^\w+:0:\d+:[^|]+\|\w+:0:\d+:/, map.name);
  }
  assert.match(MAPS.flows.layout, /\|.*expires:\d+:4:__u32/, "of maps of maps the inner entries");
});
