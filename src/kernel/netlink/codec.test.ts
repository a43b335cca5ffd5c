// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  Attributes,
  attributesOf,
  Message,
  macBytes,
  messagesOf,
  Request,
  readAddress,
  readMac,
} from "./codec.ts";

const purpose = { op: "test", object: "it" };

test("a request is laid out as netlink(7) says", () => {
  const bytes = new Request(purpose, 16, 0x600)
    .body(16, [[4, 4, 7]])
    .text(3, "eth0")
    .nest(18, (r) => r.text(1, "veth"))
    .encode(9, true);
  assert.equal(
    Buffer.from(bytes)
      .toString("hex")
      .replace(/(.{8})/g, "$1 ")
      .trim(),
    [
      "3c000000 10000506 09000000 00000000", // length 60, type 16, flags create|exclusive|request|ack, sequence 9
      "00000000 07000000 00000000 00000000", // ifinfomsg, index 7
      "09000300 65746830 00000000", // IFLA_IFNAME, 9 bytes, padded
      "10001280 09000100 76657468 00000000", // nested IFLA_LINKINFO { IFLA_INFO_KIND }
    ].join(" "),
  );
});

test("a large request grows", () => {
  const request = new Request(purpose, 1, 0);
  for (let i = 0; i < 500; i++) request.u32(1, i);
  const [message] = [...messagesOf(request.encode(1, false))];
  assert.ok(message);
  assert.deepEqual(
    [...attributesOf(message.payload)].map(([, value]) => value[0]),
    Array.from({ length: 500 }, (_, i) => i & 0xff),
  );
});

test("attributes read back what was written", () => {
  const bytes = new Request(purpose, 1, 0)
    .u8(1, 200)
    .u32(2, 0xfffffffe)
    .text(3, "é")
    .address(4, "10.0.0.1")
    .address(5, "fd00::1")
    .bytes(6, macBytes("02:00:00:0a:ff:01"))
    .nest(7, (r) => r.u32(1, 5))
    .encode(1, false);
  const attributes = new Message(bytes).attributes(0);
  assert.equal(attributes.u8(1), 200);
  assert.equal(attributes.u32(2), 0xfffffffe);
  assert.equal(attributes.s32(2), -2);
  assert.equal(attributes.text(3), "é");
  assert.equal(attributes.address(4), "10.0.0.1");
  assert.equal(attributes.address(5), "fd00::1");
  assert.equal(attributes.mac(6), "02:00:00:0a:ff:01");
  assert.equal(attributes.nested(7).u32(1), 5);
  assert.equal(attributes.u32(99), undefined);
});

test("truncated input ends the iteration", () => {
  const bytes = new Request(purpose, 1, 0).u32(1, 1).u32(2, 2).encode(1, false);
  for (let cut = 0; cut < bytes.length; cut++) {
    assert.equal([...messagesOf(bytes.subarray(0, cut))].length, 0);
    assert.ok([...attributesOf(bytes.subarray(16, Math.max(16, cut)))].length < 2);
  }
  assert.deepEqual([...attributesOf(Uint8Array.of(0, 0, 1, 0))], []);
  assert.deepEqual(new Attributes(Uint8Array.of(3, 0, 1, 0)).bytes(1), undefined);
});

test("addresses and MAC addresses", () => {
  assert.equal(readAddress(Uint8Array.of(192, 0, 2, 1)), "192.0.2.1");
  assert.equal(readMac(macBytes("aa:bb:cc:00:11:22")), "aa:bb:cc:00:11:22");
});
