// SPDX-License-Identifier: Apache-2.0
// Packets for tests, as one reads them: eth().ipv4({ src, dst }).tcp({ sport, dport, flags: "S" }). Lengths and checksums
// are right unless a field says otherwise, so that a test can also lie. Layers are kept in order and never change:
// each call gives a new packet.
import { type Address, addressBytes } from "../../src/base/addr.ts";

export interface Eth {
  src: string;
  dst: string;
}
export interface Ipv4 {
  src: Address;
  dst: Address;
  ttl?: number;
  id?: number;
  /** Don't fragment. */
  df?: boolean;
  /** More fragments follow. */
  mf?: boolean;
  /** Fragment offset in bytes. */
  offset?: number;
  options?: Uint8Array;
  protocol?: number;
  version?: number;
  /** Header length in 32-bit words. */
  ihl?: number;
  length?: number;
  checksum?: number;
}
export interface Ipv6 {
  src: Address;
  dst: Address;
  hopLimit?: number;
  /** Flow label. */
  label?: number;
  next?: number;
  version?: number;
  length?: number;
}
export interface Extension {
  /** IPv6 header number: 0 hop-by-hop, 43 routing, 51 authentication, 60 destination options. */
  type: number;
  /** Bytes of the whole header, a multiple of 8 (of 4 for authentication). Default 8. */
  size?: number;
}
export interface Fragment6 {
  id?: number;
  /** In bytes. */
  offset?: number;
  more?: boolean;
  /** Next header. Default: what is built on it. */
  next?: number;
}
export interface Tcp {
  sport: number;
  dport: number;
  /** Letters of F S R P A U. */
  flags: string;
  seq?: number;
  ack?: number;
  window?: number;
  options?: Uint8Array;
  /** Header length in 32-bit words. */
  doff?: number;
  checksum?: number;
}
export interface Udp {
  sport: number;
  dport: number;
  length?: number;
  /** 0: none. */
  checksum?: number;
}
export interface Icmp {
  type: number;
  code?: number;
  /** Identifier of an echo, else the upper half of the second word. */
  id?: number;
  seq?: number;
  checksum?: number;
}
export interface Session {
  /** Number of a protocol that has no layer here; what follows is its payload. */
  protocol: number;
}

type Layer =
  | { kind: "eth"; of: Eth }
  | { kind: "ipv4"; of: Ipv4 }
  | { kind: "ipv6"; of: Ipv6 }
  | { kind: "extension"; of: Extension }
  | { kind: "fragment6"; of: Fragment6 }
  | { kind: "tcp"; of: Tcp }
  | { kind: "udp"; of: Udp }
  | { kind: "icmp"; of: Icmp }
  | { kind: "session"; of: Session }
  | { kind: "payload"; of: Uint8Array };

const NUMBER = { tcp: 6, udp: 17, icmp4: 1, icmp6: 58, fragment6: 44, none: 59 } as const;
const TCP_FLAGS = "FSRPAU";

/** One's complement sum of 16-bit words (RFC 1071), not yet inverted. */
export function onesSum(bytes: Uint8Array, sum = 0): number {
  let total = sum;
  for (let i = 0; i < bytes.length; i += 2) total += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}

/** IPv4 as 4 bytes, IPv6 as 16. */
export function wireAddress(address: Address): Uint8Array {
  const bytes = addressBytes(address);
  return address.includes(":") ? bytes : bytes.subarray(12);
}

/** What the pseudo-header of a transport checksum adds (RFC 9293 3.1, RFC 8200 8.1). */
export function pseudoSum(src: Uint8Array, dst: Uint8Array, protocol: number, length: number): number {
  return onesSum(src, onesSum(dst, protocol + length));
}

function concat(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

function header(size: number, fill: (view: DataView, bytes: Uint8Array) => void): Uint8Array {
  const bytes = new Uint8Array(size);
  fill(new DataView(bytes.buffer), bytes);
  return bytes;
}

function macBytes(text: string): number[] {
  return text.split(":").map((part) => Number.parseInt(part, 16));
}

/** What a layer must know of the one around it and the one inside. */
interface Around {
  ip: Ipv4 | Ipv6 | undefined;
  inner: Layer | undefined;
  body: Uint8Array;
}

function protocolOf(inner: Layer | undefined, v6: boolean): number {
  switch (inner?.kind) {
    case "tcp":
      return NUMBER.tcp;
    case "udp":
      return NUMBER.udp;
    case "icmp":
      return v6 ? NUMBER.icmp6 : NUMBER.icmp4;
    case "fragment6":
      return NUMBER.fragment6;
    case "extension":
      return inner.of.type;
    case "session":
      return inner.of.protocol;
    default:
      return v6 ? NUMBER.none : 255;
  }
}

function ipv4Bytes(of: Ipv4, { inner, body }: Around): Uint8Array {
  const options = of.options ?? new Uint8Array(0);
  const size = 20 + options.length;
  const head = header(size, (view, bytes) => {
    view.setUint8(0, ((of.version ?? 4) << 4) | (of.ihl ?? size / 4));
    view.setUint16(2, of.length ?? size + body.length);
    view.setUint16(4, of.id ?? 0x1234);
    view.setUint16(6, ((of.df ?? true) ? 0x4000 : 0) | (of.mf ? 0x2000 : 0) | ((of.offset ?? 0) / 8));
    view.setUint8(8, of.ttl ?? 64);
    view.setUint8(9, of.protocol ?? protocolOf(inner, false));
    bytes.set(wireAddress(of.src), 12);
    bytes.set(wireAddress(of.dst), 16);
    bytes.set(options, 20);
    view.setUint16(10, of.checksum ?? ~onesSum(bytes) & 0xffff);
  });
  return concat(head, body);
}

function ipv6Bytes(of: Ipv6, { inner, body }: Around): Uint8Array {
  const head = header(40, (view, bytes) => {
    view.setUint32(0, (((of.version ?? 6) << 28) | (of.label ?? 0x12345)) >>> 0);
    view.setUint16(4, of.length ?? body.length);
    view.setUint8(6, of.next ?? protocolOf(inner, true));
    view.setUint8(7, of.hopLimit ?? 64);
    bytes.set(wireAddress(of.src), 8);
    bytes.set(wireAddress(of.dst), 24);
  });
  return concat(head, body);
}

function extensionBytes(of: Extension, { inner, body }: Around): Uint8Array {
  const size = of.size ?? 8;
  const head = header(size, (view, bytes) => {
    view.setUint8(0, protocolOf(inner, true));
    view.setUint8(1, of.type === 51 ? size / 4 - 2 : size / 8 - 1);
    // Padding options (RFC 8200 4.2), so that a router finds the header well-formed.
    if (of.type !== 51) bytes.set([1, size - 4], 2);
  });
  return concat(head, body);
}

function fragment6Bytes(of: Fragment6, { inner, body }: Around): Uint8Array {
  const head = header(8, (view) => {
    view.setUint8(0, of.next ?? protocolOf(inner, true));
    view.setUint16(2, (of.offset ?? 0) | (of.more ? 1 : 0));
    view.setUint32(4, of.id ?? 0xabcd);
  });
  return concat(head, body);
}

/** The transport checksum over pseudo-header and bytes, whose own field is still 0. */
function transportSum(ip: Ipv4 | Ipv6 | undefined, protocol: number, bytes: Uint8Array): number {
  if (!ip) return 0;
  const pseudo =
    protocol === NUMBER.icmp4
      ? 0
      : pseudoSum(wireAddress(ip.src), wireAddress(ip.dst), protocol, bytes.length);
  return ~onesSum(bytes, pseudo) & 0xffff;
}

function tcpBytes(of: Tcp, { ip, body }: Around): Uint8Array {
  const options = of.options ?? new Uint8Array(0);
  const size = 20 + options.length;
  const bytes = concat(
    header(size, (view, head) => {
      view.setUint16(0, of.sport);
      view.setUint16(2, of.dport);
      view.setUint32(4, of.seq ?? 1000);
      view.setUint32(8, of.ack ?? (of.flags.includes("A") ? 2000 : 0));
      view.setUint8(12, (of.doff ?? size / 4) << 4);
      view.setUint8(
        13,
        [...of.flags].reduce((bits, letter) => bits | (1 << TCP_FLAGS.indexOf(letter)), 0),
      );
      view.setUint16(14, of.window ?? 0xfaf0);
      head.set(options, 20);
    }),
    body,
  );
  new DataView(bytes.buffer).setUint16(16, of.checksum ?? transportSum(ip, NUMBER.tcp, bytes));
  return bytes;
}

function udpBytes(of: Udp, { ip, body }: Around): Uint8Array {
  const bytes = concat(
    header(8, (view) => {
      view.setUint16(0, of.sport);
      view.setUint16(2, of.dport);
      view.setUint16(4, of.length ?? 8 + body.length);
    }),
    body,
  );
  // RFC 768: a computed sum of zero is sent as all ones.
  const sum = of.checksum ?? (transportSum(ip, NUMBER.udp, bytes) || 0xffff);
  new DataView(bytes.buffer).setUint16(6, sum);
  return bytes;
}

function icmpBytes(of: Icmp, { ip, body }: Around): Uint8Array {
  const bytes = concat(
    header(8, (view) => {
      view.setUint8(0, of.type);
      view.setUint8(1, of.code ?? 0);
      view.setUint16(4, of.id ?? 0);
      view.setUint16(6, of.seq ?? 1);
    }),
    body,
  );
  const protocol = ip?.src.includes(":") ? NUMBER.icmp6 : NUMBER.icmp4;
  new DataView(bytes.buffer).setUint16(2, of.checksum ?? transportSum(ip, protocol, bytes));
  return bytes;
}

function ethBytes(of: Eth, { inner, body }: Around): Uint8Array {
  const type = inner?.kind === "ipv6" ? 0x86dd : inner?.kind === "ipv4" ? 0x0800 : 0x0806;
  return concat(new Uint8Array([...macBytes(of.dst), ...macBytes(of.src), type >> 8, type & 0xff]), body);
}

function layerBytes(layer: Layer, around: Around): Uint8Array {
  switch (layer.kind) {
    case "eth":
      return ethBytes(layer.of, around);
    case "ipv4":
      return ipv4Bytes(layer.of, around);
    case "ipv6":
      return ipv6Bytes(layer.of, around);
    case "extension":
      return extensionBytes(layer.of, around);
    case "fragment6":
      return fragment6Bytes(layer.of, around);
    case "tcp":
      return tcpBytes(layer.of, around);
    case "udp":
      return udpBytes(layer.of, around);
    case "icmp":
      return icmpBytes(layer.of, around);
    case "session":
      return around.body;
    case "payload":
      return concat(layer.of, around.body);
  }
}

/** A packet as a list of layers, outermost first. */
export class Packet {
  readonly #layers: readonly Layer[];

  constructor(layers: readonly Layer[] = []) {
    this.#layers = layers;
  }

  #with(layer: Layer): Packet {
    return new Packet([...this.#layers, layer]);
  }

  eth(of: Eth): Packet {
    return this.#with({ kind: "eth", of });
  }

  ipv4(of: Ipv4): Packet {
    return this.#with({ kind: "ipv4", of });
  }

  ipv6(of: Ipv6): Packet {
    return this.#with({ kind: "ipv6", of });
  }

  /** IPv4 or IPv6, whichever the addresses are; `ttl` is the hop limit too. */
  ip(of: { src: Address; dst: Address; ttl?: number }): Packet {
    const hops = of.ttl === undefined ? {} : of.src.includes(":") ? { hopLimit: of.ttl } : { ttl: of.ttl };
    const ends = { src: of.src, dst: of.dst, ...hops };
    return of.src.includes(":") ? this.ipv6(ends) : this.ipv4(ends);
  }

  extension(of: Extension): Packet {
    return this.#with({ kind: "extension", of });
  }

  fragment6(of: Fragment6): Packet {
    return this.#with({ kind: "fragment6", of });
  }

  tcp(of: Tcp): Packet {
    return this.#with({ kind: "tcp", of });
  }

  udp(of: Udp): Packet {
    return this.#with({ kind: "udp", of });
  }

  icmp(of: Icmp): Packet {
    return this.#with({ kind: "icmp", of });
  }

  session(of: Session): Packet {
    return this.#with({ kind: "session", of });
  }

  payload(of: string | Uint8Array): Packet {
    return this.#with({ kind: "payload", of: typeof of === "string" ? new Uint8Array(Buffer.from(of)) : of });
  }

  /** A whole packet that was built elsewhere; nothing is added to it. */
  raw(of: Uint8Array): Packet {
    return new Packet([{ kind: "payload", of }]);
  }

  /** The packet on the wire. */
  bytes(): Uint8Array {
    let body: Uint8Array = new Uint8Array(0);
    for (let i = this.#layers.length - 1; i >= 0; i--) {
      const outer = this.#layers.slice(0, i).findLast((l) => l.kind === "ipv4" || l.kind === "ipv6");
      const ip = outer?.kind === "ipv4" || outer?.kind === "ipv6" ? outer.of : undefined;
      body = layerBytes(this.#layers[i] as Layer, { ip, inner: this.#layers[i + 1], body });
    }
    return body;
  }
}

/** A packet that starts with an Ethernet header. */
export function eth(src = "02:00:00:00:00:01", dst = "02:00:00:00:00:02"): Packet {
  return new Packet().eth({ src, dst });
}
