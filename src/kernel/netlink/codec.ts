// SPDX-License-Identifier: Apache-2.0
// Netlink messages as bytes (netlink(7), RFC 3549): a header, a fixed body that depends on the type, then attributes
// of (length, type, value), each padded to 4 bytes. Host order is little-endian (ffi.ts).
import { type Address, addressBytes, familyOf, formatAddress } from "../../base/addr.ts";

/** include/uapi/linux/netlink.h. */
export const NLM_F = {
  request: 1,
  multi: 2,
  ack: 4,
  dumpInterrupted: 0x10,
  dump: 0x300,
  replace: 0x100,
  exclusive: 0x200,
  create: 0x400,
  append: 0x800,
  capped: 0x100,
  ackAttributes: 0x200,
} as const;

export const HEADER_BYTES = 16;

const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

const align4 = (length: number): number => (length + 3) & ~3;

/** AF_INET or AF_INET6 of an address. */
export function addressFamily(address: Address): number {
  return familyOf(address) === 4 ? 2 : 10;
}

/** The 4 or 16 bytes that rtnetlink takes for an address. */
export function bareAddress(address: Address): Uint8Array {
  const mapped = addressBytes(address);
  return familyOf(address) === 4 ? mapped.subarray(12) : mapped;
}

/** Canonical text of 4 or 16 bytes. */
export function readAddress(bytes: Uint8Array): Address {
  if (bytes.length !== 4) return formatAddress(bytes);
  return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`;
}

/** `02:00:00:00:00:01` to 6 bytes. */
export function macBytes(mac: string): Uint8Array {
  return Uint8Array.from(mac.split(":"), (byte) => Number.parseInt(byte, 16));
}

export function readMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** What a message asks for, for the fault if the kernel refuses it: `link.add` of `hl01 peer eth0`. */
export interface Purpose {
  readonly op: string;
  readonly object: string;
}

/** A request under construction. Attributes are appended in the order of the calls. */
export class Request {
  readonly purpose: Purpose;
  #bytes = new Uint8Array(512);
  #view = new DataView(this.#bytes.buffer);
  #length = HEADER_BYTES;

  /** `type` RTM_*, `flags` NLM_F_* without request and ack, which are added. */
  constructor(purpose: Purpose, type: number, flags: number) {
    this.purpose = purpose;
    this.#view.setUint16(4, type, true);
    this.#view.setUint16(6, flags | NLM_F.request, true);
  }

  #grow(bytes: number): number {
    const at = this.#length;
    this.#length += align4(bytes);
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.length));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }

  /** The fixed part of the message, or of a nested message: `fields` are [offset, bytes 1|2|4, value]. */
  body(size: number, fields: readonly (readonly [at: number, width: 1 | 2 | 4, value: number])[]): this {
    const start = this.#grow(size);
    for (const [at, width, value] of fields) {
      if (width === 1) this.#view.setUint8(start + at, value);
      else if (width === 2) this.#view.setUint16(start + at, value, true);
      else this.#view.setInt32(start + at, value | 0, true);
    }
    return this;
  }

  bytes(type: number, value: Uint8Array): this {
    const at = this.#grow(4 + value.length);
    this.#view.setUint16(at, 4 + value.length, true);
    this.#view.setUint16(at + 2, type, true);
    this.#bytes.set(value, at + 4);
    return this;
  }

  u8(type: number, value: number): this {
    return this.bytes(type, Uint8Array.of(value));
  }

  u16(type: number, value: number): this {
    return this.bytes(type, Uint8Array.of(value & 0xff, value >>> 8));
  }

  u32(type: number, value: number): this {
    return this.bytes(type, new Uint8Array(Uint32Array.of(value).buffer));
  }

  /** With closing NUL. */
  text(type: number, value: string): this {
    return this.bytes(type, Buffer.from(`${value}\0`, "utf8"));
  }

  address(type: number, value: Address): this {
    return this.bytes(type, bareAddress(value));
  }

  /** An attribute whose value is what `fill` appends. */
  nest(type: number, fill: (message: this) => void, flag = NLA_F_NESTED): this {
    const at = this.#grow(4);
    this.#view.setUint16(at + 2, type | flag, true);
    fill(this);
    this.#view.setUint16(at, this.#length - at, true);
    return this;
  }

  /** The message with its sequence number; `ack` asks for an answer that says whether it was done. */
  encode(sequence: number, ack: boolean): Uint8Array {
    this.#view.setUint32(0, this.#length, true);
    this.#view.setUint32(8, sequence, true);
    const flags = this.#view.getUint16(6, true);
    this.#view.setUint16(6, ack ? flags | NLM_F.ack : flags, true);
    return this.#bytes.subarray(0, this.#length);
  }
}

/** The attributes of a message or of a nested attribute; of a repeated type the last counts. */
export class Attributes {
  readonly #values = new Map<number, Uint8Array>();

  constructor(bytes: Uint8Array) {
    for (const [type, value] of attributesOf(bytes)) this.#values.set(type, value);
  }

  bytes(type: number): Uint8Array | undefined {
    return this.#values.get(type);
  }

  u8(type: number): number | undefined {
    return this.#values.get(type)?.[0];
  }

  u32(type: number): number | undefined {
    const value = this.#values.get(type);
    return value && value.length >= 4 ? viewOn(value).getUint32(0, true) : undefined;
  }

  /** Signed; namespace ids use it. */
  s32(type: number): number | undefined {
    const value = this.u32(type);
    return value === undefined ? undefined : value | 0;
  }

  text(type: number): string | undefined {
    const value = this.#values.get(type);
    if (!value) return undefined;
    const end = value.indexOf(0);
    return Buffer.from(end < 0 ? value : value.subarray(0, end)).toString("utf8");
  }

  address(type: number): Address | undefined {
    const value = this.#values.get(type);
    return value && (value.length === 4 || value.length === 16) ? readAddress(value) : undefined;
  }

  mac(type: number): string | undefined {
    const value = this.#values.get(type);
    return value?.length === 6 ? readMac(value) : undefined;
  }

  nested(type: number): Attributes {
    return new Attributes(this.#values.get(type) ?? new Uint8Array(0));
  }
}

function viewOn(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** All attributes in order, also repeated ones. Stops at the first one that does not fit. */
export function* attributesOf(bytes: Uint8Array): Generator<[type: number, value: Uint8Array]> {
  const view = viewOn(bytes);
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > bytes.length) return;
    yield [view.getUint16(at + 2, true) & NLA_TYPE_MASK, bytes.subarray(at + 4, at + length)];
    at += align4(length);
  }
}

/** A received message: header fields and what follows them. */
export class Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly payload: Uint8Array;
  readonly view: DataView;

  constructor(bytes: Uint8Array) {
    const header = viewOn(bytes);
    this.type = header.getUint16(4, true);
    this.flags = header.getUint16(6, true);
    this.sequence = header.getUint32(8, true);
    this.payload = bytes.subarray(HEADER_BYTES);
    this.view = viewOn(this.payload);
  }

  /** The attributes after a fixed part of `size` bytes. */
  attributes(size: number): Attributes {
    return new Attributes(this.payload.subarray(align4(size)));
  }
}

/** The messages of one datagram. Stops at the first one that does not fit. */
export function* messagesOf(datagram: Uint8Array): Generator<Message> {
  const view = viewOn(datagram);
  for (let at = 0; at + HEADER_BYTES <= datagram.length; ) {
    const length = view.getUint32(at, true);
    if (length < HEADER_BYTES || at + length > datagram.length) return;
    yield new Message(datagram.subarray(at, at + length));
    at += align4(length);
  }
}
