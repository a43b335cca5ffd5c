// SPDX-License-Identifier: Apache-2.0
// More than 100,000 packets, most of them wrong in some way: every header cut at every byte, every length that lies, all orders
// of extension headers, all types, protocols and flags, errors about errors, fragments, and random changes to good packets. From
// a seed, always in the same order. Lengths are those that a test run takes.
import {
  answered,
  BACK,
  BUILDS,
  type Build,
  bases,
  type Case,
  Dice,
  IP_LENGTH,
  LEAST,
  MAIN_WAYS,
  OUT,
  onIp,
  put16,
  rightHeaderSum,
  settle,
  tcp,
  udp,
  WAYS,
  type Way,
} from "./packet-bases.ts";
import { type Both, INTERNET, NODE, NODE_FAR, POD_A, POD_B } from "./packet-node.ts";
import { FAMILIES, type Family } from "./transports.ts";

function* cuts(): Generator<Case> {
  for (const { name, bytes, family } of bases(MAIN_WAYS)) {
    for (let length = LEAST[family]; length < bytes.length; length++) {
      yield { name: `${name}, cut at ${length}`, bytes: bytes.slice(0, length) };
      yield { name: `${name}, shortened to ${length}`, bytes: settle(bytes.slice(0, length), family) };
    }
  }
}

/** Each byte that holds a length or a type gets every value; each length of 16 bits all values near the truth. */
function* lies(): Generator<Case> {
  for (const { name, bytes, family } of bases([OUT, BACK])) {
    const l4 = family === 4 ? 14 + ((bytes[14] ?? 0) & 15) * 4 : 54;
    for (const at of family === 4 ? [14, 23] : [14, 20, 55]) {
      for (let value = 0; value < 256; value += at === 14 ? 1 : 7) {
        const lying = bytes.slice();
        lying[at] = value;
        yield { name: `${name}, byte ${at} is ${value}`, bytes: lying };
      }
    }
    for (let doff = 0; doff < 16; doff++) {
      const lying = bytes.slice();
      if (l4 + 12 < lying.length) lying[l4 + 12] = doff << 4;
      yield { name: `${name}, TCP header of ${doff} words`, bytes: lying };
    }
    for (const at of [IP_LENGTH[family], l4 + 4]) {
      for (const value of [...Array(bytes.length - 10).keys(), 0x7fff, 0x8000, 0xffff]) {
        const lying = bytes.slice();
        put16(lying, at, value);
        yield { name: `${name}, length at ${at} is ${value}`, bytes: lying };
      }
    }
  }
}

/** Hop-by-hop, routing, destination options, authentication, fragment; encrypted, none, unknown. */
const HEADERS = [0, 43, 60, 51, 44, 50, 59, 253] as const;

function chained(w: Way, types: readonly number[], build: Build): Uint8Array {
  let on = onIp(w, 6);
  for (const type of types) {
    if (type === 44) on = on.fragment6({});
    else on = on.extension({ type, size: type === 51 ? 12 : 8 });
  }
  return build(on, w, 6).bytes();
}

function* chains(dice: Dice): Generator<Case> {
  const names = ["syn", "udp", "ping", "error about udp"];
  for (let length = 0; length <= 4; length++) {
    for (let n = 0; n < HEADERS.length ** length; n++) {
      const types = Array.from(
        { length },
        (_, i) => HEADERS[Math.floor(n / HEADERS.length ** i) % HEADERS.length] ?? 0,
      );
      const build = names[n % names.length] as string;
      const w = MAIN_WAYS[n % MAIN_WAYS.length] as Way;
      yield {
        name: `IPv6 ${w.name} headers ${types} ${build}`,
        bytes: chained(w, types, BUILDS[build] as Build),
      };
    }
  }
  for (let n = 0; n < 2000; n++) {
    const types = Array.from({ length: 5 + dice.roll(5) }, () => HEADERS[dice.roll(5)] ?? 0);
    const w = dice.of(MAIN_WAYS);
    yield { name: `IPv6 ${w.name} headers ${types} udp`, bytes: chained(w, types, udp) };
  }
  for (let size = 8; size <= 2048; size += 8) {
    for (const w of MAIN_WAYS) {
      const bytes = udp(
        onIp(w, 6).extension({ type: 60, size }).extension({ type: 43, size: 16 }),
        w,
        6,
      ).bytes();
      yield { name: `IPv6 ${w.name} destination options of ${size} bytes`, bytes };
    }
  }
}

/** Every type of ICMP, every protocol, every set of TCP flags. */
function* kinds(): Generator<Case> {
  for (const f of FAMILIES) {
    for (const w of WAYS) {
      for (let n = 0; n < 256; n++) {
        const on = onIp(w, f);
        const flags = tcp(on, w, f).bytes();
        flags[14 + (f === 4 ? 20 : 40) + 13] = n;
        yield { name: `IPv${f} ${w.name} TCP flags ${n}`, bytes: flags };
        const protocol = on.payload(answered(w, f, udp)).bytes();
        protocol[f === 4 ? 23 : 20] = n;
        if (f === 4) rightHeaderSum(protocol);
        yield { name: `IPv${f} ${w.name} protocol ${n}`, bytes: protocol };
        for (const code of [0, 1, 4]) {
          const icmp = on
            .icmp({ type: n, code, id: w.sport })
            .payload(answered(w, f, udp))
            .bytes();
          yield { name: `IPv${f} ${w.name} ICMP type ${n} code ${code}`, bytes: icmp };
        }
      }
    }
  }
}

/** Parts of datagrams: too short, overlapping, beyond the end, in any order, with few identifications so that they meet. */
function* fragments(dice: Dice): Generator<Case> {
  const sizes = [0, 1, 7, 8, 12, 19, 20, 24, 40, 100];
  for (let n = 0; n < 6000; n++) {
    const f = dice.of(FAMILIES);
    const w = dice.of(WAYS);
    const [id, more, offset] = [dice.roll(3), dice.roll(2) === 1, dice.of([0, 0, 0, 8, 16, 24, 1400, 65528])];
    const whole = dice
      .of([udp, BUILDS.ping, tcp, BUILDS.syn, BUILDS.gre] as Build[])(onIp(w, f), w, f)
      .bytes();
    const payload = whole.subarray(f === 4 ? 34 : 54).slice(0, dice.of(sizes));
    const protocol = whole[f === 4 ? 23 : 20] as number;
    const part =
      f === 4
        ? w.link.ipv4({ src: w.src[4], dst: w.dst[4], id, df: false, mf: more, offset, protocol })
        : onIp(w, f).fragment6({ id, offset, more });
    const bytes = part.payload(payload).bytes();
    if (f === 6) bytes[54] = protocol;
    yield {
      name: `IPv${f} ${w.name} protocol ${protocol} fragment ${id} at ${offset}, ${payload.length} bytes`,
      bytes,
    };
  }
}

/** Packets in packets, and packets in frames that are not IP's. */
function* wrapped(dice: Dice): Generator<Case> {
  const inner = bases(MAIN_WAYS);
  for (let n = 0; n < 3000; n++) {
    const [f, w] = [dice.of(FAMILIES), dice.of(WAYS)];
    const { name, bytes, family } = dice.of(inner);
    const packet = onIp(w, f).payload(bytes.subarray(14)).bytes();
    packet[f === 4 ? 23 : 20] = family === 4 ? 4 : 41;
    if (f === 4) rightHeaderSum(packet);
    yield { name: `${name} in IPv${f} ${w.name}`, bytes: packet };
  }
  for (let n = 0; n < 1000; n++) {
    const { name, bytes } = dice.of(inner);
    const tags = 1 + dice.roll(3);
    const tag = Array.from({ length: tags }, () => [
      ...dice.of([
        [0x81, 0],
        [0x88, 0xa8],
      ]),
      0,
      dice.of([0, 5]),
    ]).flat();
    const tagged = Buffer.concat([bytes.subarray(0, 12), Uint8Array.from(tag), bytes.subarray(12)]);
    yield { name: `${name}, ${tags} VLAN tags`, bytes: new Uint8Array(tagged) };
    const typed = bytes.slice();
    put16(typed, 12, dice.of([0x0806, 0x8847, 0x8864, 0x88cc, 0x0004, 0x0100, dice.roll(65536)]));
    yield { name: `${name}, ether type ${typed[12]} ${typed[13]}`, bytes: typed };
  }
  for (const { name, bytes, family } of bases(WAYS)) {
    const jumbo = new Uint8Array(3400);
    jumbo.set(bytes);
    yield { name: `${name}, with 3 KB of trailer`, bytes: jumbo };
    yield { name: `${name}, of 3 KB`, bytes: settle(jumbo.slice(), family) };
  }
}

const ODD: readonly Both[] = [
  { 4: "0.0.0.0", 6: "::" },
  { 4: "127.0.0.1", 6: "::1" },
  { 4: "255.255.255.255", 6: "ff02::1" },
  { 4: "224.0.0.1", 6: "fe80::1" },
  { 4: "169.254.1.1", 6: "::ffff:198.51.100.10" },
  { 4: "240.0.0.1", 6: "::ffff:10.244.1.5" },
  POD_A,
  POD_B,
  NODE,
  NODE_FAR,
  INTERNET,
];

/** Changes a packet in one random way. */
function change(bytes: Uint8Array, family: Family, dice: Dice): Uint8Array {
  const at = 14 + dice.roll(bytes.length - 14);
  switch (dice.roll(9)) {
    case 0:
      bytes[at] = dice.roll(256);
      return bytes;
    case 1:
      bytes[at] = (bytes[at] ?? 0) ^ (1 << dice.roll(8));
      return bytes;
    case 2:
      return bytes.slice(0, Math.max(LEAST[family], at));
    case 3:
      return new Uint8Array(Buffer.concat([bytes, dice.bytes(1 + dice.roll(40))]));
    case 4:
      return settle(bytes, family);
    case 5:
      put16(bytes, at, dice.of([0, 1, 0x7fff, 0x8000, 0xffff, bytes.length]));
      return bytes;
    case 6:
      bytes[family === 4 ? 22 : 21] = dice.of([0, 1, 2, 255]);
      return bytes;
    case 7: {
      const odd = onIp({ ...OUT, src: dice.of(ODD), dst: dice.of(ODD) }, family).bytes();
      const [from, size] = family === 4 ? [26, 4] : [22, 16];
      const end = dice.roll(2);
      bytes.set(odd.subarray(from + end * size, from + (end + 1) * size), from + end * size);
      return bytes;
    }
    default:
      bytes.copyWithin(at, 14 + dice.roll(bytes.length - 14), bytes.length);
      return bytes;
  }
}

function* changed(dice: Dice): Generator<Case> {
  const good = bases(WAYS);
  for (const { name, bytes } of good) yield { name, bytes };
  for (;;) {
    const { name, bytes, family } = dice.of(good);
    let packet: Uint8Array = bytes.slice();
    const times = 1 + dice.roll(4);
    for (let i = 0; i < times; i++) packet = change(packet, family, dice);
    yield { name: `${name}, changed ${times} times`, bytes: packet };
  }
}

/** The first `count` packets of a seed. */
export function* corpus(seed: number, count: number): Generator<Case> {
  const dice = new Dice(seed);
  let given = 0;
  for (const part of [cuts(), lies(), chains(dice), kinds(), fragments(dice), wrapped(dice), changed(dice)]) {
    for (const made of part) {
      if (given++ === count) return;
      yield made;
    }
  }
}
