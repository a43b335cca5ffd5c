// SPDX-License-Identifier: Apache-2.0
// What may become of a packet, whatever it is: told from its bytes before and after a hook, with no knowledge of flows, routes
// or rules. Which bytes a translation owns, which sums must stay as right or as wrong as they were, and which headers lie.
import { onesSum, pseudoSum } from "./packet.ts";

/**
 * What the headers say. `malformed` is refused by the hooks that packets come in by; `flow` is what can be translated, `session` a
 * protocol that cannot, `icmp` neither echo nor error.
 */
export type Kind = "not-ip" | "malformed" | "link" | "flow" | "session" | "fragment" | "error" | "icmp";

/** An IP header and what follows it, at their offsets in the packet. */
export interface Shape {
  readonly kind: Kind;
  /** What is malformed about it. */
  readonly why: string;
  readonly v6: boolean;
  readonly l3: number;
  /** Transport header, or the payload of a later fragment. */
  readonly l4: number;
  readonly end: number;
  readonly protocol: number;
  /** It has the ports of a datagram in pieces. */
  readonly first: boolean;
  /** A first packet by itself: SYN, any UDP, an echo request, any other protocol. */
  readonly opens: boolean;
}

const [TCP, UDP, ICMP, ICMP6] = [6, 17, 1, 58];
const [HOP, ROUTING, FRAGMENT, DESTINATION] = [0, 43, 44, 60];
const EXTENSIONS_MOST = 6;
/** Bytes of extension headers: the transport header must be where the kernel can correct checksums. */
const EXTENSION_BYTES = 960;

class Reading {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  kind: Kind = "flow";
  why = "";
  v6 = false;
  l3 = 14;
  l4 = 0;
  end = 0;
  protocol = 0;
  first = false;
  opens = false;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  lies(why: string): this {
    this.kind = "malformed";
    this.why = why;
    return this;
  }

  is(kind: Kind): this {
    this.kind = kind;
    return this;
  }

  /** A protocol without ports: IPv4 tells it in each fragment. */
  session(): this {
    this.opens = true;
    return this.is("session");
  }

  fragment(offset: number, more: boolean): void {
    this.first = offset === 0 && more;
    if (offset > 0) this.kind = "fragment";
  }
}

const allZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);
const isMapped = (a: Uint8Array): boolean => allZero(a.subarray(0, 10)) && a[10] === 255 && a[11] === 255;
const linkScoped6 = (a: Uint8Array): boolean =>
  a[0] === 0xff || (a[0] === 0xfe && ((a[1] ?? 0) & 0xc0) === 0x80) || allZero(a);

function readTransport(r: Reading): Shape {
  const { view, l4, protocol } = r;
  const room = r.end - l4;
  if (protocol === TCP) {
    if (room < 20) return r.lies("TCP header cut");
    const size = (view.getUint8(l4 + 12) >> 4) * 4;
    if (size < 20 || size > room) return r.lies("TCP header length");
    r.opens = (view.getUint8(l4 + 13) & 0b10111) === 0b10;
    return r;
  }
  if (protocol === UDP) {
    if (room < 8) return r.lies("UDP header cut");
    const length = view.getUint16(l4 + 4);
    if (length < 8 || (!r.first && length > room)) return r.lies("UDP length");
    r.opens = true;
    return r;
  }
  if (protocol !== (r.v6 ? ICMP6 : ICMP)) return r.session();
  if (room < 8) return r.lies("ICMP header cut");
  const type = view.getUint8(l4);
  r.opens = type === (r.v6 ? 128 : 8);
  if (r.opens || type === (r.v6 ? 129 : 0)) return r;
  return r.is((r.v6 ? [1, 2, 3, 4] : [3, 4, 11, 12]).includes(type) ? "error" : "icmp");
}

function readIpv4(r: Reading): Shape {
  const { view, bytes, l3 } = r;
  const header = (view.getUint8(l3) & 15) * 4;
  const length = view.getUint16(l3 + 2);
  r.l4 = l3 + header;
  r.end = l3 + length;
  r.protocol = view.getUint8(l3 + 9);
  if (view.getUint8(l3) >> 4 !== 4) return r.lies("version");
  if (header < 20) return r.lies("header length");
  if (length < header || r.end > bytes.length) return r.lies("total length");
  const to = view.getUint32(l3 + 16);
  if (to >= 0xe0000000 || to === 0) return r.is("link");
  const flags = view.getUint16(l3 + 6);
  r.fragment(flags & 0x1fff, (flags & 0x2000) !== 0);
  if (r.kind !== "fragment") return readTransport(r);
  return [TCP, UDP, ICMP].includes(r.protocol) ? r : r.session();
}

/** Moves l4 behind the extension headers; what is wrong with them, or nothing. */
function skipExtensions(r: Reading): string {
  const { view, bytes } = r;
  for (let seen = 0; [HOP, ROUTING, FRAGMENT, DESTINATION].includes(r.protocol); seen++) {
    if (r.l4 + (r.protocol === FRAGMENT ? 8 : 2) > bytes.length) return "extension header cut";
    const words = view.getUint8(r.l4 + 1);
    const size = r.protocol === FRAGMENT ? 8 : (words + 1) * 8;
    if (r.protocol === FRAGMENT)
      r.fragment(view.getUint16(r.l4 + 2) >> 3, (view.getUint8(r.l4 + 3) & 1) === 1);
    r.protocol = view.getUint8(r.l4);
    r.l4 += size;
    if (r.l4 > r.end || r.l4 - r.l3 - 40 > EXTENSION_BYTES) return "extension header length";
    if (r.kind === "fragment") return "";
    if (seen === EXTENSIONS_MOST) return "too many extension headers";
  }
  return "";
}

function readIpv6(r: Reading): Shape {
  const { view, bytes, l3 } = r;
  r.v6 = true;
  r.l4 = l3 + 40;
  r.end = r.l4 + view.getUint16(l3 + 4);
  r.protocol = view.getUint8(l3 + 6);
  if (view.getUint8(l3) >> 4 !== 6) return r.lies("version");
  if (r.end > bytes.length) return r.lies("payload length");
  const src = bytes.subarray(l3 + 8, l3 + 24);
  const dst = bytes.subarray(l3 + 24, l3 + 40);
  if (isMapped(src) || isMapped(dst)) return r.lies("IPv4-mapped address");
  const why = skipExtensions(r);
  if (why) return r.lies(why);
  if (linkScoped6(src) || linkScoped6(dst)) return r.is("link");
  return r.kind === "fragment" ? r : readTransport(r);
}

/** Reads a packet that begins with an Ethernet header and has at least a whole IP header, if it has any. */
export function readShape(bytes: Uint8Array): Shape {
  const r = new Reading(bytes);
  const type = r.view.getUint16(12);
  if (type === 0x0800) return readIpv4(r);
  return type === 0x86dd ? readIpv6(r) : r.is("not-ip");
}

/**
 * The RST that RFC 9293 3.10.7.1 asks for where a connection is not known, as the sender of the segment gets it; undefined if
 * the packet is no segment that is answered.
 */
export function resetFor(
  { kind, v6, l4, end, protocol, first }: Shape,
  bytes: Uint8Array,
): Uint8Array | undefined {
  if (kind !== "flow" || protocol !== TCP || first) return undefined;
  const at = new DataView(bytes.buffer, bytes.byteOffset);
  const flags = at.getUint8(l4 + 13);
  const [FIN, SYN, RST, ACK] = [1, 2, 4, 16];
  if (flags & RST) return undefined;
  const [tcp, from, size] = v6 ? [54, 22, 16] : [34, 26, 4];
  const out = new Uint8Array(tcp + 20);
  const to = new DataView(out.buffer);
  out.set(bytes.subarray(6, 12), 0);
  out.set(bytes.subarray(0, 6), 6);
  out.set(bytes.subarray(12, 14), 12);
  const [src, dst] = [bytes.slice(from + size, from + 2 * size), bytes.slice(from, from + size)];
  out.set(src, from);
  out.set(dst, from + size);
  out.set(v6 ? [0x60, 0, 0, 0, 0, 20, TCP, 64] : [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP], 14);
  if (!v6) to.setUint16(24, ~onesSum(out.subarray(14, tcp)) & 0xffff);
  out.set([...bytes.subarray(l4 + 2, l4 + 4), ...bytes.subarray(l4, l4 + 2)], tcp);
  const data = end - l4 - (at.getUint8(l4 + 12) >> 4) * 4;
  const length = data + (flags & SYN ? 1 : 0) + (flags & FIN ? 1 : 0);
  if (flags & ACK) to.setUint32(tcp + 4, at.getUint32(l4 + 8));
  else to.setUint32(tcp + 8, at.getUint32(l4 + 4) + length);
  out.set([0x50, flags & ACK ? RST : RST | ACK], tcp + 12);
  to.setUint16(tcp + 16, ~onesSum(out.subarray(tcp), pseudoSum(src, dst, TCP, 20)) & 0xffff);
  return out;
}

/** A sum over bytes of the packet, modulo 65535: what it is off by does not change, whatever is translated. */
interface Sum {
  readonly name: string;
  readonly of: (bytes: Uint8Array) => number;
  /** Where it is stored. */
  readonly at: number;
  /** UDP: zero means that there is none. */
  readonly optional: boolean;
}

/** What a translation may change. */
interface Owned {
  readonly ranges: [from: number, length: number][];
  readonly sums: Sum[];
}

const modular = (sum: number): number => sum % 0xffff;

type Header = Pick<Shape, "kind" | "v6" | "l3" | "l4" | "end" | "protocol">;

function headerSum({ v6, l3, l4 }: Header, owned: Owned): void {
  if (v6) return;
  const of = (bytes: Uint8Array): number => modular(onesSum(bytes.subarray(l3, l4)));
  owned.sums.push({ name: "IP header checksum", of, at: l3 + 10, optional: false });
}

function addresses({ v6, l3 }: Header, owned: Owned): void {
  owned.ranges.push(v6 ? [l3 + 8, 32] : [l3 + 10, 10]);
}

/** Offset of the checksum in a transport header, and of the ports or the identifier. An error has neither. */
function transportFields({ kind, protocol }: Header): { check: number; ports: number; length: number } {
  if (protocol === TCP) return { check: 16, ports: 0, length: 4 };
  if (protocol === UDP) return { check: 6, ports: 0, length: 4 };
  return { check: 2, ports: 4, length: kind === "error" ? 0 : 2 };
}

/** The transport header at l4 of a packet at l3, as far as `end`. */
function transport(header: Header, what: string, owned: Owned): void {
  const { v6, l3, l4, end, protocol } = header;
  const { check, ports, length } = transportFields(header);
  owned.ranges.push([l4 + ports, length]);
  if (l4 + check + 2 > end) return;
  owned.ranges.push([l4 + check, 2]);
  const [source, size] = v6 ? [l3 + 8, 16] : [l3 + 12, 4];
  const of = (bytes: Uint8Array): number => {
    const src = bytes.subarray(source, source + size);
    const dst = bytes.subarray(source + size, source + 2 * size);
    const pseudo = protocol === ICMP ? 0 : pseudoSum(src, dst, protocol, end - l4);
    return modular(onesSum(bytes.subarray(l4, end), pseudo));
  };
  owned.sums.push({ name: `${what} checksum`, of, at: l4 + check, optional: protocol === UDP });
}

/** The packet that an ICMP error quotes: what of it may change, nothing if it cannot be told. */
function quoteFields(bytes: Uint8Array, error: Shape, owned: Owned): void {
  const l3 = error.l4 + 8;
  const least = error.v6 ? 40 : 20;
  if (l3 + least > error.end) return;
  // As if it were whole: its own lengths do not count.
  const r = new Reading(bytes);
  r.v6 = error.v6;
  r.l3 = l3;
  r.end = error.end;
  if (r.v6) {
    r.l4 = l3 + 40;
    r.protocol = r.view.getUint8(l3 + 6);
    if (skipQuoted(r)) return;
  } else {
    r.l4 = l3 + (r.view.getUint8(l3) & 15) * 4;
    r.protocol = r.view.getUint8(l3 + 9);
  }
  if (r.l4 + 8 > error.end) return;
  addresses(r, owned);
  headerSum(r, owned);
  transport(r, "quoted transport", owned);
}

function skipQuoted(r: Reading): boolean {
  for (let seen = 0; [HOP, ROUTING, FRAGMENT, DESTINATION].includes(r.protocol); seen++) {
    if (seen > EXTENSIONS_MOST || r.l4 + 8 > r.end) return true;
    const words = r.view.getUint8(r.l4 + 1);
    const size = r.protocol === FRAGMENT ? 8 : (words + 1) * 8;
    r.protocol = r.view.getUint8(r.l4);
    r.l4 += size;
  }
  return false;
}

/** Everything that a translation of this packet may change. */
function ownedBy(bytes: Uint8Array, shape: Shape): Owned {
  const owned: Owned = { ranges: [], sums: [] };
  if (shape.kind === "not-ip" || shape.kind === "malformed") return owned;
  headerSum(shape, owned);
  if (shape.kind === "link" || shape.kind === "session" || shape.kind === "icmp") return owned;
  addresses(shape, owned);
  if (shape.kind !== "fragment") transport(shape, "transport", owned);
  if (shape.kind === "error") quoteFields(bytes, shape, owned);
  return owned;
}

/** What a forwarder changes besides: MAC addresses, the TTL and with it the header checksum. */
function hop(shape: Shape, before: Uint8Array, after: Uint8Array, lines: string[]): [number, number][] {
  const at = shape.l3 + (shape.v6 ? 7 : 8);
  const [had, has] = [before[at] ?? 0, after[at] ?? 0];
  if (had - has !== 1) lines.push(`TTL ${had} became ${has}`);
  const ranges: [number, number][] = [
    [0, 12],
    [at, 1],
  ];
  if (!shape.v6) ranges.push([shape.l3 + 10, 2]);
  return ranges;
}

/** What is wrong with what became of a packet that was not dropped; nothing if all is well. */
export function judgeBytes(
  shape: Shape,
  before: Uint8Array,
  after: Uint8Array,
  redirected: boolean,
): string[] {
  const lines: string[] = [];
  if (after.length !== before.length) return [`${before.length} bytes became ${after.length}`];
  if (!redirected && Buffer.compare(before, after) === 0) return lines;
  const owned = ownedBy(before, shape);
  const allowed = new Uint8Array(before.length);
  const hopped = redirected ? hop(shape, before, after, lines) : [];
  for (const [from, length] of [...owned.ranges, ...hopped]) allowed.fill(1, from, from + length);
  const foreign = [...before.keys()].filter((i) => before[i] !== after[i] && allowed[i] === 0);
  if (foreign.length > 0) lines.push(`bytes ${foreign.join(", ")} changed`);
  for (const { name, of, at, optional } of owned.sums) {
    const [had, has] = [before, after].map((b) => ((b[at] ?? 0) << 8) | (b[at + 1] ?? 0));
    if (optional && had === 0 && has !== 0) lines.push(`${name} was none and is ${has}`);
    if (optional && had === 0) continue;
    if (optional && has === 0) lines.push(`${name} was ${had} and is none`);
    if (of(before) !== of(after)) lines.push(`${name} was off by ${of(before)}, is off by ${of(after)}`);
  }
  return lines;
}
