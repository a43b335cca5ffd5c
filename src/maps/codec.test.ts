// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { addressCodec, type Codec, prefixCodec, u8Codec, u16Codec, u32Codec, u64Codec } from "./codec.ts";
import { nodeConfigCodec } from "./gen/config.ts";
import { MAPS } from "./gen/maps.ts";
import {
  type Endpoint,
  endpointCodec,
  type FlowKey,
  flowEventCodec,
  flowKeyCodec,
  remoteCodec,
  replyCodec,
} from "./gen/types.ts";
import { DropReason, dropReasonText } from "./gen/verdict.ts";

function bytes(hex: string): DataView {
  const data = Uint8Array.from(hex.replaceAll(/\s/g, "").match(/../g) ?? [], (pair) =>
    Number.parseInt(pair, 16),
  );
  return new DataView(data.buffer);
}

function hexOf(view: DataView): string {
  return Buffer.from(view.buffer, view.byteOffset, view.byteLength).toString("hex");
}

/** Reads the bytes, writes the value into dirty memory, and expects the value and the same bytes. */
function roundTrip<T>(codec: Codec<T>, hex: string, value: T): void {
  const view = bytes(hex);
  assert.equal(view.byteLength, codec.size);
  assert.deepEqual(codec.read(view, 0), value);
  const out = new DataView(new Uint8Array(codec.size + 8).fill(0xee).buffer);
  codec.write(out, 4, value);
  assert.equal(hexOf(out), `eeeeeeee${hexOf(view)}eeeeeeee`);
}

/** A view that ends one to all bytes early is refused in both directions and is left as it was. */
function refusesTruncation<T>(codec: Codec<T>, value: T): void {
  for (let length = 0; length < codec.size; length++) {
    const view = new DataView(new ArrayBuffer(codec.size + 16), 0, length);
    assert.throws(() => codec.read(view, 0), RangeError, `read of ${length} bytes`);
    assert.throws(() => codec.write(view, 0, value), RangeError, `write of ${length} bytes`);
    assert.equal(Buffer.from(view.buffer).toString("hex"), "00".repeat(codec.size + 16));
  }
}

const MAPPED = "00000000 00000000 0000ffff";
const KEY: FlowKey = { saddr: "10.244.1.5", daddr: "198.51.100.10", sport: 40000, dport: 80, proto: 6 };
const KEY_HEX = `${MAPPED} 0af40105  ${MAPPED} c633640a  9c40 0050 06 000000`;
const ENDPOINT: Endpoint = {
  addr4: "10.244.1.5",
  addr6: "fd00:10:244:1::5",
  ifindex: 7,
  identity: 0x01020304,
  id: 513,
  flags: 1,
  mac: "02:00:0a:f4:01:05",
  hostMac: "fe:dc:ba:98:76:54",
};

describe("generated codecs", () => {
  test("network order for ports, host order for numbers, mapped IPv4", () => {
    roundTrip(flowKeyCodec, KEY_HEX, KEY);
    const endpoint = `${MAPPED} 0af40105  fd000010 02440001 00000000 00000005
      07000000 04030201 0102 0100 02000af40105 fedcba987654`;
    roundTrip(endpointCodec, endpoint, ENDPOINT);
    const node = { identity: 6, flags: 1, node: "2001:db8::1" };
    roundTrip(remoteCodec, "06000000 01000000 20010db8000000000000000000000001", node);
    const reply = { saddr: "::", sport: 65535, service: 1, claim: 0xffffffff };
    roundTrip(replyCodec, `${"00".repeat(16)} ffff 0100 ffffffff`, reply);
  });

  test("every map's codecs have the map's sizes and round-trip zeros", () => {
    for (const row of Object.values(MAPS)) {
      assert.equal(row.key.size, row.keySize, row.name);
      assert.equal(row.value.size, row.valueSize, row.name);
      // The prefix length of an IPv4-mapped address cannot be 0; "::/0" is what zeros mean.
      for (const codec of [row.key, row.value] as Codec<unknown>[]) {
        const view = new DataView(new ArrayBuffer(codec.size));
        codec.write(view, 0, codec.read(view, 0));
        assert.equal(hexOf(view), "00".repeat(codec.size), row.name);
      }
    }
  });

  test("truncated memory is refused, also inside a pad", () => {
    refusesTruncation(flowKeyCodec, KEY);
    refusesTruncation(endpointCodec, ENDPOINT);
    refusesTruncation(prefixCodec, { address: "10.0.0.0", length: 8 });
    refusesTruncation(addressCodec, "10.0.0.1");
    for (const codec of [nodeConfigCodec, flowEventCodec] as Codec<unknown>[]) {
      refusesTruncation(codec, codec.read(new DataView(new ArrayBuffer(codec.size)), 0));
    }
  });

  test("numbers that do not fit are refused", () => {
    const view = new DataView(new ArrayBuffer(64));
    for (const sport of [-1, 65536, 1.5, Number.NaN]) {
      assert.throws(() => flowKeyCodec.write(view, 0, { ...KEY, sport }), RangeError, String(sport));
    }
    for (const value of [-1, 2 ** 32, 0.5]) assert.throws(() => u32Codec.write(view, 0, value), RangeError);
    for (const value of [-1n, 1n << 64n]) assert.throws(() => u64Codec.write(view, 0, value), RangeError);
    assert.throws(() => u8Codec.write(view, 0, 256), RangeError);
    assert.throws(() => u16Codec.write(view, 0, 65536), RangeError);
    const mac = "02:00:0a:f4:01";
    assert.throws(() => endpointCodec.write(view, 0, { ...ENDPOINT, mac }), RangeError);
  });

  test("numbers at the ends of their range", () => {
    for (const value of [0n, 1n, (1n << 64n) - 1n]) {
      const view = new DataView(new ArrayBuffer(8));
      u64Codec.write(view, 0, value);
      assert.equal(u64Codec.read(view, 0), value);
    }
    const view = new DataView(new ArrayBuffer(4));
    u32Codec.write(view, 0, 0xffffffff);
    assert.equal(u32Codec.read(view, 0), 0xffffffff);
  });
});

describe("addresses and prefixes", () => {
  const rows: [string, string][] = [
    ["0.0.0.0", `${MAPPED} 00000000`],
    ["255.255.255.255", `${MAPPED} ffffffff`],
    ["::", "00".repeat(16)],
    ["::1", `${"00".repeat(15)} 01`],
    ["::fffe:0:1", "00000000 00000000 0000fffe 00000001"],
    ["64:ff9b::102:304", "0064ff9b 00000000 00000000 01020304"],
    ["fd00:20::ffff:0:b", "fd000020 00000000 0000ffff 0000000b"],
  ];
  for (const [text, hex] of rows) test(text, () => roundTrip(addressCodec, hex, text));

  const prefixes: [string, number, string][] = [
    ["0.0.0.0", 0, `60000000 ${MAPPED} 00000000`],
    ["10.0.0.0", 8, `68000000 ${MAPPED} 0a000000`],
    ["192.0.2.1", 32, `80000000 ${MAPPED} c0000201`],
    ["::", 0, `00000000 ${"00".repeat(16)}`],
    ["fd00:10:244::", 48, "30000000 fd000010 02440000 00000000 00000000"],
  ];
  for (const [address, length, hex] of prefixes) {
    test(`${address}/${length}`, () => roundTrip(prefixCodec, hex, { address, length }));
  }

  test("a length that the address cannot have is refused", () => {
    assert.throws(() => prefixCodec.read(bytes(`5f000000 ${MAPPED} 0a000000`), 0), { code: "PREFIX_SYNTAX" });
    assert.throws(() => prefixCodec.read(bytes(`81000000 ${"00".repeat(16)}`), 0), { code: "PREFIX_SYNTAX" });
    const view = new DataView(new ArrayBuffer(20));
    const write = (address: string, length: number) => () => prefixCodec.write(view, 0, { address, length });
    assert.throws(write("10.0.0.0", 33), { code: "PREFIX_SYNTAX" });
    assert.throws(write("fd00::", 129), { code: "PREFIX_SYNTAX" });
    assert.throws(write("fd00::", -1), { code: "PREFIX_SYNTAX" });
    assert.throws(write("not an address", 8), { code: "ADDRESS_SYNTAX" });
    assert.equal(hexOf(view), "00".repeat(20));
  });
});

test("texts of drop reasons are the ones users know", () => {
  assert.equal(DropReason.DROP_INVALID_SOURCE_IP, 132);
  assert.equal(dropReasonText[132], "Invalid source ip");
  assert.equal(dropReasonText[DropReason.DROP_NAT_NO_MAPPING], "No mapping for NAT masquerade");
  for (const [name, value] of Object.entries(DropReason)) assert.ok(dropReasonText[value], name);
});
