// SPDX-License-Identifier: Apache-2.0
// The good packets from which the corpus is made (packet-corpus.ts): every transport, in every carrier of both families, on the
// ways that packets take past the hooks; and the dice that choose among them.
import { eth, onesSum, type Packet } from "./packet.ts";
import { type Both, INTERNET, MAC, NODE, POD_A, POD_B, POD_FAR } from "./packet-node.ts";
import { FAMILIES, type Family, SERVICE_PORT } from "./transports.ts";

/** Pod a's port of the flows to INTERNET that the corpus is about, and the one that the node has given them. */
export const POD_PORT = 41000;
export const NODE_PORT = 52000;

export interface Case {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Uniform numbers from a seed: mulberry32. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 to `sides` - 1. */
  roll(sides: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % sides;
  }

  of<T>(items: readonly T[]): T {
    return items[this.roll(items.length)] as T;
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.roll(256));
  }
}

/** Between whom, and the ports of the side that sends. */
export interface Way {
  name: string;
  src: Both;
  dst: Both;
  sport: number;
  dport: number;
  link: Packet;
}

const way = (name: string, ends: [Both, Both], ports: [number, number], macs: [string, string]): Way => ({
  name,
  src: ends[0],
  dst: ends[1],
  sport: ports[0],
  dport: ports[1],
  link: eth(...macs),
});
const POD_MACS: [string, string] = [MAC.podA, MAC.hostA];
export const OUT = way("out", [POD_A, INTERNET], [POD_PORT, SERVICE_PORT], POD_MACS);
export const BACK = way("back", [INTERNET, NODE], [SERVICE_PORT, NODE_PORT], [MAC.gateway, MAC.eth0]);
export const WAYS: readonly Way[] = [
  OUT,
  BACK,
  way("in", [INTERNET, POD_A], [7000, 8080], [MAC.gateway, MAC.eth0]),
  way("host", [NODE, INTERNET], [50000, SERVICE_PORT], [MAC.eth0, MAC.gateway]),
  way("east", [POD_A, POD_FAR], [POD_PORT, SERVICE_PORT], POD_MACS),
  way("next door", [POD_A, POD_B], [POD_PORT, SERVICE_PORT], POD_MACS),
];
export const MAIN_WAYS = WAYS.slice(0, 4);

export type Build = (on: Packet, w: Way, f: Family) => Packet;
const ends = ({ sport, dport }: Way): { sport: number; dport: number } => ({ sport, dport });
const TEXT = "what is said in it";
const ECHO = { 4: [8, 0], 6: [128, 129] } as const;
const ERROR = { 4: 3, 6: 1 } as const;

export const onIp = (w: Way, f: Family): Packet => w.link.ip({ src: w.src[f], dst: w.dst[f] });

/** The packet to which one on way `w` would be the answer, as an error quotes it. */
export function answered(w: Way, f: Family, build: Build): Uint8Array {
  const turned = { ...w, src: w.dst, dst: w.src, sport: w.dport, dport: w.sport };
  return build(onIp(turned, f), turned, f).bytes().subarray(14);
}

export const tcp: Build = (on, w) => on.tcp({ ...ends(w), flags: "PA" }).payload(TEXT);
export const udp: Build = (on, w) => on.udp(ends(w)).payload(TEXT);
const gre: Build = (on) => on.session({ protocol: 47 }).payload(TEXT);
const ping: Build = (on, w, f) => on.icmp({ type: ECHO[f][0], id: w.sport }).payload(TEXT);
const pong: Build = (on, w, f) => on.icmp({ type: ECHO[f][1], id: w.dport }).payload(TEXT);
const about =
  (quoted: Build): Build =>
  (on, w, f) =>
    on.icmp({ type: ERROR[f], code: 1 }).payload(answered(w, f, quoted));

export const BUILDS: Readonly<Record<string, Build>> = {
  syn: (on, w) => on.tcp({ ...ends(w), flags: "S", options: new Uint8Array([2, 4, 5, 180, 1, 1, 4, 2]) }),
  tcp,
  udp,
  "udp without sum": (on, w) => on.udp({ ...ends(w), checksum: 0 }).payload(TEXT),
  ping,
  pong,
  gre,
  "error about tcp": about(tcp),
  "error about udp": about(udp),
  "error about ping": about(ping),
  "error about gre": about(gre),
  "error about error": about(about(udp)),
};

const CARRIERS: Readonly<Record<Family, Record<string, (w: Way) => Packet>>> = {
  4: {
    plain: (w) => onIp(w, 4),
    options: (w) =>
      w.link.ipv4({ src: w.src[4], dst: w.dst[4], options: new Uint8Array([7, 7, 4, 0, 0, 0, 0, 0]) }),
    "first fragment": (w) => w.link.ipv4({ src: w.src[4], dst: w.dst[4], df: false, mf: true }),
  },
  6: {
    plain: (w) => onIp(w, 6),
    extensions: (w) =>
      onIp(w, 6).extension({ type: 0 }).extension({ type: 60, size: 24 }).extension({ type: 43, size: 16 }),
    "first fragment": (w) => onIp(w, 6).fragment6({ more: true }),
    "atomic fragment": (w) => onIp(w, 6).fragment6({}),
  },
};

export interface Base extends Case {
  readonly family: Family;
}

/** All good packets of these ways. */
export function bases(ways: readonly Way[]): Base[] {
  const found: Base[] = [];
  for (const family of FAMILIES) {
    for (const w of ways) {
      for (const [carrier, on] of Object.entries(CARRIERS[family])) {
        for (const [name, build] of Object.entries(BUILDS)) {
          const bytes = build(on(w), w, family).bytes();
          found.push({ name: `IPv${family} ${w.name} ${carrier} ${name}`, bytes, family });
        }
      }
    }
  }
  return found;
}

export const LEAST: Readonly<Record<Family, number>> = { 4: 34, 6: 54 };
export const IP_LENGTH: Readonly<Record<Family, number>> = { 4: 16, 6: 18 };

export function put16(bytes: Uint8Array, at: number, value: number): void {
  if (at + 2 > bytes.length) return;
  bytes[at] = value >> 8;
  bytes[at + 1] = value & 0xff;
}

/** Makes the IP header say how long the packet is, and its checksum right. */
export function settle(bytes: Uint8Array, family: Family): Uint8Array {
  put16(bytes, IP_LENGTH[family], bytes.length - (family === 4 ? 14 : 54));
  if (family === 4) rightHeaderSum(bytes);
  return bytes;
}

export function rightHeaderSum(bytes: Uint8Array): void {
  put16(bytes, 24, 0);
  put16(bytes, 24, ~onesSum(bytes.subarray(14, 14 + ((bytes[14] ?? 0) & 15) * 4)) & 0xffff);
}
