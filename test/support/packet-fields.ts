// SPDX-License-Identifier: Apache-2.0
// Packets read back, field by field, with every length and checksum judged; and the difference between two of them, for
// failing tests. Reads what packet.ts writes; what is cut short ends in a field `cut`.
import { formatAddress } from "../../src/base/addr.ts";
import { onesSum, pseudoSum } from "./packet.ts";

/** Fields in wire order: `ipv4.ttl` to `63`. */
export type Fields = Map<string, string>;

const EXTENSIONS = new Set([0, 43, 51, 60]);
const NAMES: Record<number, string> = { 6: "tcp", 17: "udp", 1: "icmp", 58: "icmp" };
const TCP_FLAGS = "FSRPAU";

interface Reader {
  readonly fields: Fields;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** Addresses and protocol that the transport checksum covers. */
interface Ends {
  src: Uint8Array;
  dst: Uint8Array;
  protocol: number;
  /** Where the IP packet ends. */
  end: number;
}

function hex(value: number, digits = 4): string {
  return `0x${value.toString(16).padStart(digits, "0")}`;
}

function mac(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

function addressText(bytes: Uint8Array): string {
  if (bytes.length === 16) return formatAddress(bytes);
  return bytes.join(".");
}

function judged(stored: number, right: boolean): string {
  return right ? "right" : `wrong (${hex(stored)})`;
}

function readTransport({ fields, bytes, view }: Reader, at: number, ends: Ends): void {
  const name = NAMES[ends.protocol];
  const end = Math.min(ends.end, bytes.length);
  const minimum = ends.protocol === 6 ? 20 : 8;
  if (!name || end - at < minimum) {
    fields.set(
      name ? "cut" : "payload",
      `${name ?? ends.protocol}: ${Buffer.from(bytes.subarray(at, end)).toString("hex")}`,
    );
    return;
  }
  const pseudo = ends.protocol === 1 ? 0 : pseudoSum(ends.src, ends.dst, ends.protocol, end - at);
  const right = onesSum(bytes.subarray(at, end), pseudo) === 0xffff;
  let body = at + 8;
  if (name === "icmp") {
    fields.set("icmp.type", `${view.getUint8(at)}`);
    fields.set("icmp.code", `${view.getUint8(at + 1)}`);
    fields.set("icmp.id", `${view.getUint16(at + 4)}`);
    fields.set("icmp.seq", `${view.getUint16(at + 6)}`);
    fields.set("icmp.checksum", judged(view.getUint16(at + 2), right));
  } else {
    fields.set(`${name}.sport`, `${view.getUint16(at)}`);
    fields.set(`${name}.dport`, `${view.getUint16(at + 2)}`);
  }
  if (name === "udp") {
    const stored = view.getUint16(at + 6);
    fields.set("udp.length", `${view.getUint16(at + 4)}`);
    fields.set("udp.checksum", stored === 0 ? "none" : judged(stored, right));
  }
  if (name === "tcp") {
    const flags = view.getUint8(at + 13);
    fields.set("tcp.seq", `${view.getUint32(at + 4)}`);
    fields.set("tcp.ack", `${view.getUint32(at + 8)}`);
    fields.set("tcp.flags", [...TCP_FLAGS].filter((_, bit) => flags & (1 << bit)).join(""));
    fields.set("tcp.checksum", judged(view.getUint16(at + 16), right));
    body = at + (view.getUint8(at + 12) >> 4) * 4;
  }
  fields.set("payload", Buffer.from(bytes.subarray(body, end)).toString("hex"));
}

function readIpv4(reader: Reader, at: number): void {
  const { fields, bytes, view } = reader;
  if (bytes.length < at + 20) {
    fields.set("cut", "ipv4");
    return;
  }
  const size = (view.getUint8(at) & 15) * 4;
  const flags = view.getUint16(at + 6);
  const src = bytes.subarray(at + 12, at + 16);
  const dst = bytes.subarray(at + 16, at + 20);
  fields.set("ipv4.src", addressText(src));
  fields.set("ipv4.dst", addressText(dst));
  fields.set("ipv4.ttl", `${view.getUint8(at + 8)}`);
  fields.set("ipv4.protocol", `${view.getUint8(at + 9)}`);
  fields.set("ipv4.length", `${view.getUint16(at + 2)}`);
  fields.set("ipv4.id", hex(view.getUint16(at + 4)));
  fields.set("ipv4.fragment", hex(flags));
  fields.set("ipv4.options", Buffer.from(bytes.subarray(at + 20, at + size)).toString("hex"));
  const right = onesSum(bytes.subarray(at, at + size)) === 0xffff;
  fields.set("ipv4.checksum", judged(view.getUint16(at + 10), right));
  const end = at + view.getUint16(at + 2);
  if (flags & 0x1fff) fields.set("payload", Buffer.from(bytes.subarray(at + size, end)).toString("hex"));
  else readTransport(reader, at + size, { src, dst, protocol: view.getUint8(at + 9), end });
}

function readIpv6(reader: Reader, at: number): void {
  const { fields, bytes, view } = reader;
  if (bytes.length < at + 40) {
    fields.set("cut", "ipv6");
    return;
  }
  const src = bytes.subarray(at + 8, at + 24);
  const dst = bytes.subarray(at + 24, at + 40);
  const end = at + 40 + view.getUint16(at + 4);
  fields.set("ipv6.src", addressText(src));
  fields.set("ipv6.dst", addressText(dst));
  fields.set("ipv6.hopLimit", `${view.getUint8(at + 7)}`);
  fields.set("ipv6.length", `${view.getUint16(at + 4)}`);
  let protocol = view.getUint8(at + 6);
  let next = at + 40;
  while (EXTENSIONS.has(protocol) && next + 8 <= bytes.length) {
    const words = view.getUint8(next + 1);
    const size = protocol === 51 ? (words + 2) * 4 : (words + 1) * 8;
    fields.set(`ipv6.extension@${next - at}`, `${protocol}, ${size} bytes`);
    protocol = view.getUint8(next);
    next += size;
  }
  fields.set("ipv6.next", `${protocol}`);
  if (protocol === 44) fields.set("payload", Buffer.from(bytes.subarray(next, end)).toString("hex"));
  else readTransport(reader, next, { src, dst, protocol, end });
}

/** All fields of a packet that starts with an Ethernet header. */
export function readFields(bytes: Uint8Array): Fields {
  const fields: Fields = new Map();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  fields.set("eth.dst", mac(bytes.subarray(0, 6)));
  fields.set("eth.src", mac(bytes.subarray(6, 12)));
  const type = view.getUint16(12);
  fields.set("eth.type", hex(type));
  const reader = { fields, bytes, view };
  if (type === 0x0800) readIpv4(reader, 14);
  else if (type === 0x86dd) readIpv6(reader, 14);
  else fields.set("payload", Buffer.from(bytes.subarray(14)).toString("hex"));
  return fields;
}

/** One line for each field that differs: name, expected, actual. Empty if none does. */
export function differences(expected: Uint8Array, actual: Uint8Array): string[] {
  const wanted = readFields(expected);
  const got = readFields(actual);
  const lines: string[] = [];
  for (const name of new Set([...wanted.keys(), ...got.keys()])) {
    const a = wanted.get(name) ?? "absent";
    const b = got.get(name) ?? "absent";
    if (a !== b) lines.push(`${name}: expected ${a}, actual ${b}`);
  }
  if (lines.length === 0 && Buffer.compare(expected, actual) !== 0) {
    lines.push(
      `bytes: expected ${Buffer.from(expected).toString("hex")}`,
      `bytes: actual   ${Buffer.from(actual).toString("hex")}`,
    );
  }
  return lines;
}
