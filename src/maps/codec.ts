// SPDX-License-Identifier: Apache-2.0
// How map entries and events become TypeScript values: the codec type, the scalars that the generated codecs (gen/)
// are made of, and the rows of the generated map table. Host order is little-endian: the machines that run Node
// with a prebuilt FFI and BPF are (x64, arm64).
import { type Address, addressBytes, formatAddress } from "../base/addr.ts";
import { faults as baseFaults } from "../base/faults.ts";
import { formatPrefix, mapPrefixLength, type Prefix } from "../base/prefix.ts";

/**
 * A fixed-size binary form. `at` is a byte offset into the view; both throw RangeError if the view ends before
 * `at + size`, and `write` then has written nothing. `write` throws RangeError for a number that does not fit.
 */
export interface Codec<T> {
  readonly size: number;
  read(view: DataView, at: number): T;
  write(view: DataView, at: number, value: T): void;
}

/** The value type of a codec. */
export type Decoded<C> = C extends Codec<infer T> ? T : never;

/** What bpf(2) needs to create a map, and how to read it. Inner maps have no name. */
export interface MapShape<K, V> {
  /** Number of enum bpf_map_type. */
  readonly type: number;
  /** The same as bpftool prints it: `hash`, `lpm_trie`, ... */
  readonly typeName: string;
  /** Bytes; 0 for a ring buffer. */
  readonly keySize: number;
  /** Bytes of one value, of one CPU for per-CPU maps; 0 for a ring buffer. */
  readonly valueSize: number;
  /** The default; the loader sets the real one. Bytes for a ring buffer. */
  readonly maxEntries: number;
  /** BPF_F_* bits. */
  readonly flags: number;
  /** Whether a value exists once per possible CPU. */
  readonly perCpu: boolean;
  readonly key: Codec<K>;
  readonly value: Codec<V>;
}

/** One map of the data plane. Maps of maps hold ids of inner maps, which have the shape `inner`. */
export interface MapRow<K, V> extends MapShape<K, V> {
  /** At most 15 characters; the name of the pin too. */
  readonly name: string;
  readonly doc: string;
  /** How entries are laid out, of maps of maps those of the inner ones: src/maps/layout.ts. */
  readonly layout: string;
  readonly inner?: MapShape<unknown, unknown>;
}

/** Six bytes in hexadecimal with colons, lower case: `02:00:0a:f4:01:05`. */
export type MacAddress = string;

const MAC_TEXT = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;
const MAC_BYTES = 6;
const ADDRESS_BYTES = 16;
const PREFIX_BYTES = 4 + ADDRESS_BYTES;
/** Bits before the IPv4 address in an IPv4-mapped one. */
const MAPPED_BITS = 96;
/** Bytes 8-11 of an IPv4-mapped address. */
const MAPPED_WORD = 0xffff;

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

function refuse(value: unknown, bits: string): never {
  throw new RangeError(`${value} does not fit into ${bits}`);
}

/** The value itself; RangeError unless it is an integer of 8 bits, without sign. */
export function u8(value: number): number {
  return (value & 0xff) === value ? value : refuse(value, "8 bits");
}

/** The value itself; RangeError unless it is an integer of 16 bits, without sign. */
export function u16(value: number): number {
  return (value & 0xffff) === value ? value : refuse(value, "16 bits");
}

/** The value itself; RangeError unless it is an integer of 32 bits, without sign. */
export function u32(value: number): number {
  return value >>> 0 === value ? value : refuse(value, "32 bits");
}

/** The value itself; RangeError unless it is an integer of 64 bits, without sign. */
export function u64(value: bigint): bigint {
  return BigInt.asUintN(64, value) === value ? value : refuse(value, "64 bits");
}

/** The value itself; RangeError unless it is an integer of 32 bits, with sign. */
export function s32(value: number): number {
  return (value | 0) === value ? value : refuse(value, "32 bits with sign");
}

/** The value itself; RangeError unless it is an integer of 64 bits, with sign. */
export function s64(value: bigint): bigint {
  return BigInt.asIntN(64, value) === value ? value : refuse(value, "64 bits with sign");
}

/** RangeError if the view ends before `at + size`. */
export function bound(view: DataView, at: number, size: number): void {
  if (at < 0 || at + size > view.byteLength) {
    throw new RangeError(`${size} bytes at ${at}: the buffer ends at ${view.byteLength}`);
  }
}

function bytesOf(view: DataView, at: number, length: number): Uint8Array {
  bound(view, at, length);
  return new Uint8Array(view.buffer, view.byteOffset + at, length);
}

/** struct addr as canonical text; an IPv4-mapped address as dotted quad. */
export function readAddress(view: DataView, at: number): Address {
  if (view.getUint32(at + 8) === MAPPED_WORD && view.getUint32(at) === 0 && view.getUint32(at + 4) === 0) {
    const word = view.getUint32(at + 12);
    return `${word >>> 24}.${(word >>> 16) & 255}.${(word >>> 8) & 255}.${word & 255}`;
  }
  return formatAddress(bytesOf(view, at, ADDRESS_BYTES));
}

/** @throws Fault ADDRESS_SYNTAX */
export function writeAddress(view: DataView, at: number, value: Address): void {
  addressBytes(value, bytesOf(view, at, ADDRESS_BYTES));
}

/**
 * struct prefix as a Prefix whose length counts in its own family.
 * @throws Fault PREFIX_SYNTAX if the length is over 128, or cuts into the 96 bits before an IPv4 address
 */
export function readPrefix(view: DataView, at: number): Prefix {
  const bits = view.getUint32(at, true);
  const address = readAddress(view, at + 4);
  const length = address.includes(":") ? bits : bits - MAPPED_BITS;
  if (length < 0 || bits > 8 * ADDRESS_BYTES) {
    throw baseFaults.PREFIX_SYNTAX({ text: `${address} in a map`, why: `prefix length ${bits} of 128` });
  }
  return { address, length };
}

/** @throws Fault ADDRESS_SYNTAX, PREFIX_SYNTAX */
export function writePrefix(view: DataView, at: number, value: Prefix): void {
  bound(view, at, PREFIX_BYTES);
  const bits = mapPrefixLength(value);
  if (!(bits >= 0 && bits <= 8 * ADDRESS_BYTES)) {
    throw baseFaults.PREFIX_SYNTAX({ text: formatPrefix(value), why: "prefix length out of range" });
  }
  writeAddress(view, at + 4, value.address);
  view.setUint32(at, u32(bits), true);
}

/** Six bytes as text. */
export function readMac(view: DataView, at: number): MacAddress {
  let text = HEX[view.getUint8(at)] ?? "";
  for (let i = 1; i < MAC_BYTES; i++) text += `:${HEX[view.getUint8(at + i)]}`;
  return text;
}

/** RangeError if the text is no MAC address. */
export function writeMac(view: DataView, at: number, value: MacAddress): void {
  bound(view, at, MAC_BYTES);
  if (!MAC_TEXT.test(value)) throw new RangeError(`"${value}": not a MAC address`);
  for (let i = 0; i < MAC_BYTES; i++)
    view.setUint8(at + i, Number.parseInt(value.slice(3 * i, 3 * i + 2), 16));
}

/** A copy of `length` bytes. */
export function readBytes(view: DataView, at: number, length: number): Uint8Array {
  return bytesOf(view, at, length).slice();
}

/** RangeError unless `value` has exactly `length` bytes. */
export function writeBytes(view: DataView, at: number, length: number, value: Uint8Array): void {
  if (value.length !== length) throw new RangeError(`${value.length} bytes for a field of ${length}`);
  bytesOf(view, at, length).set(value);
}

/** `length` items that lie `size` bytes apart. */
export function readArray<T>(length: number, size: number, at: number, read: (at: number) => T): T[] {
  return Array.from({ length }, (_, i) => read(at + i * size));
}

/** RangeError unless there are exactly `length` items. */
export function writeArray<T>(
  length: number,
  size: number,
  values: readonly T[],
  write: (offset: number, value: T) => void,
): void {
  if (values.length !== length) throw new RangeError(`${values.length} items for an array of ${length}`);
  values.forEach((value, i) => {
    write(i * size, value);
  });
}

/** struct addr. */
export const addressCodec: Codec<Address> = { size: ADDRESS_BYTES, read: readAddress, write: writeAddress };

/** struct prefix, the key of LPM maps. */
export const prefixCodec: Codec<Prefix> = { size: PREFIX_BYTES, read: readPrefix, write: writePrefix };

/** __u8. */
export const u8Codec: Codec<number> = {
  size: 1,
  read: (view, at) => view.getUint8(at),
  write: (view, at, value) => view.setUint8(at, u8(value)),
};

/** __u16. */
export const u16Codec: Codec<number> = {
  size: 2,
  read: (view, at) => view.getUint16(at, true),
  write: (view, at, value) => view.setUint16(at, u16(value), true),
};

/** __u32. */
export const u32Codec: Codec<number> = {
  size: 4,
  read: (view, at) => view.getUint32(at, true),
  write: (view, at, value) => view.setUint32(at, u32(value), true),
};

/** __u64. */
export const u64Codec: Codec<bigint> = {
  size: 8,
  read: (view, at) => view.getBigUint64(at, true),
  write: (view, at, value) => view.setBigUint64(at, u64(value), true),
};

/** Nothing: the key and the value of a ring buffer. */
export const noCodec: Codec<undefined> = { size: 0, read: () => undefined, write: () => {} };
