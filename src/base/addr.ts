// SPDX-License-Identifier: Apache-2.0
// IP addresses. In TypeScript an address is its canonical text (RFC 5952; dotted quad for IPv4), so that it compares,
// sorts into a Map and prints as it is; in maps it is 16 bytes, IPv4 mapped into ::ffff:0:0/96 (RFC 4291 2.5.5.2).
import { isIP } from "node:net";
import { faults } from "./faults.ts";

/** Canonical text of an IPv4 or IPv6 address. Made by parseAddress or formatAddress only. */
export type Address = string;

export type Family = 4 | 6;

/** Bytes of an address in a map. */
export const ADDRESS_BYTES = 16;

/** The address that maps hold where there is none. */
export const NO_ADDRESS: Address = "::";

/** 4 or 6. `address` must be canonical. */
export function familyOf(address: Address): Family {
  return address.includes(":") ? 6 : 4;
}

function writeIPv4(text: string, out: Uint8Array, at: number): void {
  let i = at;
  for (const part of text.split(".")) out[i++] = Number(part);
}

function writeIPv6(text: string, out: Uint8Array, at: number): void {
  let rest = text;
  let tail = 8;
  const dot = rest.lastIndexOf(".");
  if (dot >= 0) {
    const colon = rest.lastIndexOf(":");
    writeIPv4(rest.slice(colon + 1), out, at + 12);
    rest = rest.slice(0, colon + 1).replace(/([^:]):$/, "$1");
    tail = 6;
  }
  const [left = "", right] = rest.split("::");
  const head = left === "" ? [] : left.split(":");
  const end = right === undefined || right === "" ? [] : right.split(":");
  const put = (group: string, index: number): void => {
    const value = Number.parseInt(group, 16);
    out[at + index * 2] = value >> 8;
    out[at + index * 2 + 1] = value & 0xff;
  };
  for (const [i, group] of head.entries()) put(group, i);
  for (const [i, group] of end.entries()) put(group, tail - end.length + i);
}

/**
 * 16 bytes of an address, written into `out` at `at` or into a new array.
 * @throws Fault ADDRESS_SYNTAX
 */
export function addressBytes(
  text: string,
  out: Uint8Array = new Uint8Array(ADDRESS_BYTES),
  at = 0,
): Uint8Array {
  const version = isIP(text);
  if (version === 0 || text.includes("%")) throw faults.ADDRESS_SYNTAX({ text });
  out.fill(0, at, at + ADDRESS_BYTES);
  if (version === 6) {
    writeIPv6(text, out, at);
    return out;
  }
  out[at + 10] = 0xff;
  out[at + 11] = 0xff;
  writeIPv4(text, out, at + 12);
  return out;
}

function isMapped(bytes: Uint8Array, at: number): boolean {
  for (let i = 0; i < 10; i++) if (bytes[at + i] !== 0) return false;
  return bytes[at + 10] === 0xff && bytes[at + 11] === 0xff;
}

/** Start and length, in groups, of the longest run of two or more zero groups (RFC 5952 4.2), or length 0. */
function longestZeroRun(groups: number[]): { start: number; length: number } {
  let best = { start: 0, length: 1 };
  let start = -1;
  for (let i = 0; i <= groups.length; i++) {
    if (i < groups.length && groups[i] === 0) {
      if (start < 0) start = i;
    } else if (start >= 0) {
      if (i - start > best.length) best = { start, length: i - start };
      start = -1;
    }
  }
  return best.length > 1 ? best : { start: 0, length: 0 };
}

/** Canonical text of the 16 bytes at `at`; a mapped IPv4 address as dotted quad. */
export function formatAddress(bytes: Uint8Array, at = 0): Address {
  if (isMapped(bytes, at)) {
    return `${bytes[at + 12]}.${bytes[at + 13]}.${bytes[at + 14]}.${bytes[at + 15]}`;
  }
  const groups: number[] = [];
  for (let i = 0; i < 8; i++) groups.push(((bytes[at + 2 * i] ?? 0) << 8) | (bytes[at + 2 * i + 1] ?? 0));
  const run = longestZeroRun(groups);
  const hex = groups.map((g) => g.toString(16));
  if (run.length === 0) return hex.join(":");
  return `${hex.slice(0, run.start).join(":")}::${hex.slice(run.start + run.length).join(":")}`;
}

/**
 * Any spelling of an address to its canonical text; `::ffff:1.2.3.4` becomes `1.2.3.4`.
 * @throws Fault ADDRESS_SYNTAX
 */
export function parseAddress(text: string): Address {
  return formatAddress(addressBytes(text.trim()));
}

/** The address `offset` places after `base`, in the same family; carries over groups. */
export function addressAfter(base: Address, offset: number | bigint): Address {
  const bytes = addressBytes(base);
  let carry = BigInt(offset);
  for (let i = ADDRESS_BYTES - 1; i >= 0 && carry !== 0n; i--) {
    carry += BigInt(bytes[i] ?? 0);
    bytes[i] = Number(carry & 0xffn);
    carry >>= 8n;
  }
  return formatAddress(bytes);
}
