// SPDX-License-Identifier: Apache-2.0
// IP prefixes (CIDR blocks): parsing to canonical form, containment, and the 128-bit prefix length that LPM maps use.
import { ADDRESS_BYTES, type Address, addressBytes, type Family, familyOf, formatAddress } from "./addr.ts";
import { faults } from "./faults.ts";

/** A CIDR block with no host bits set. `length` counts in the family's own bits: 0-32 or 0-128. */
export interface Prefix {
  readonly address: Address;
  readonly length: number;
}

/** Bits that an IPv4 prefix gains in the 128-bit form of maps. */
const MAPPED_BITS = 96;

function maskHostBits(bytes: Uint8Array, keep: number): Uint8Array {
  for (let i = 0; i < ADDRESS_BYTES; i++) {
    const bits = Math.min(8, Math.max(0, keep - 8 * i));
    bytes[i] = (bytes[i] ?? 0) & (0xff << (8 - bits)) & 0xff;
  }
  return bytes;
}

/** The block of `length` bits around an address; host bits are cleared. */
export function prefixOf(address: Address, length: number): Prefix {
  const keep = familyOf(address) === 4 ? MAPPED_BITS + length : length;
  const bytes = maskHostBits(addressBytes(address), keep);
  return { address: formatAddress(bytes), length };
}

/**
 * `10.1.2.3/16` to {address: "10.1.0.0", length: 16}. A bare address is a block of one.
 * @throws Fault PREFIX_SYNTAX with the reason
 */
export function parsePrefix(text: string): Prefix {
  const trimmed = text.trim();
  const slash = trimmed.indexOf("/");
  const host = slash < 0 ? trimmed : trimmed.slice(0, slash);
  let bytes: Uint8Array;
  try {
    bytes = addressBytes(host);
  } catch (cause) {
    throw faults.PREFIX_SYNTAX({ text, why: "not an IPv4 or IPv6 prefix" }, cause);
  }
  const bits = host.includes(":") ? 128 : 32;
  // Go's netip refuses these as well; as a block of 128 bits it would be one of IPv4 under another name.
  if (bits === 128 && familyOf(formatAddress(bytes)) === 4)
    throw faults.PREFIX_SYNTAX({ text, why: "an IPv4 prefix in IPv6 form: write it as IPv4" });
  const lengthText = slash < 0 ? String(bits) : trimmed.slice(slash + 1);
  if (!/^\d{1,3}$/.test(lengthText))
    throw faults.PREFIX_SYNTAX({ text, why: "prefix length is not a number" });
  const length = Number(lengthText);
  if (length > bits) throw faults.PREFIX_SYNTAX({ text, why: `prefix length over ${bits}` });
  return prefixOf(formatAddress(bytes), length);
}

/** `10.1.0.0/16`. */
export function formatPrefix(prefix: Prefix): string {
  return `${prefix.address}/${prefix.length}`;
}

export function prefixFamily(prefix: Prefix): Family {
  return familyOf(prefix.address);
}

/** Prefix length in the 128-bit form of maps: IPv4 gains 96. */
export function mapPrefixLength(prefix: Prefix): number {
  return prefixFamily(prefix) === 4 ? MAPPED_BITS + prefix.length : prefix.length;
}

/** Whether an address, or the whole of another prefix, lies inside `outer`. */
export function prefixContains(outer: Prefix, inner: Address | Prefix): boolean {
  const address = typeof inner === "string" ? inner : inner.address;
  if (familyOf(address) !== prefixFamily(outer)) return false;
  if (typeof inner !== "string" && inner.length < outer.length) return false;
  return prefixOf(address, outer.length).address === outer.address;
}

/** Whether an IPv6 prefix holds the block in which maps keep IPv4 (::ffff:0:0/96), as ::/0 does. */
export function coversMappedIPv4(prefix: Prefix): boolean {
  if (prefixFamily(prefix) === 4) return false;
  return formatAddress(maskHostBits(addressBytes("0.0.0.0"), prefix.length)) === prefix.address;
}

/** Order of lists: IPv4 first, then by address, then the wider network first. */
export function comparePrefixes(a: Prefix, b: Prefix): number {
  const byFamily = prefixFamily(a) - prefixFamily(b);
  return byFamily || Buffer.compare(addressBytes(a.address), addressBytes(b.address)) || a.length - b.length;
}
