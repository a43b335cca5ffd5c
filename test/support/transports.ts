// SPDX-License-Identifier: Apache-2.0
// The conversations of packet tests: TCP, UDP, ICMP echo and protocols without ports in one shape, so that a table has one row for
// all of them. The opener uses one port (the identifier, for echo), the other side a fixed one.
import { ALL_ON, TestDatapath } from "./datapath.ts";
import { eth, type Packet } from "./packet.ts";
import { type Both, MAC, PacketNode } from "./packet-node.ts";
import type { Bench } from "./packet-rows.ts";

export const FAMILIES = [4, 6] as const;
export type Family = (typeof FAMILIES)[number];

/** Port of the side that answers. */
export const SERVICE_PORT = 80;

export interface Transport {
  readonly name: string;
  readonly proto: Readonly<Record<Family, number>>;
  /** Its port in a flow key; echo has none. */
  readonly servicePort: number;
  /** The first packet. */
  open(on: Packet, port: number, family: Family): Packet;
  /** A later packet of the opener. */
  more(on: Packet, port: number, family: Family): Packet;
  /** A packet of the other side. */
  answer(on: Packet, port: number, family: Family): Packet;
}

const dport = SERVICE_PORT;

export const TCP: Transport = {
  name: "TCP",
  proto: { 4: 6, 6: 6 },
  servicePort: SERVICE_PORT,
  open: (on, sport) => on.tcp({ sport, dport, flags: "S" }),
  more: (on, sport) => on.tcp({ sport, dport, flags: "PA" }).payload("GET / HTTP/1.1\r\n\r\n"),
  answer: (on, port) => on.tcp({ sport: dport, dport: port, flags: "PA" }).payload("odd"),
};

export const UDP: Transport = {
  name: "UDP",
  proto: { 4: 17, 6: 17 },
  servicePort: SERVICE_PORT,
  open: (on, sport) => on.udp({ sport, dport }).payload("question"),
  more: (on, sport) => on.udp({ sport, dport }).payload("and"),
  answer: (on, port) => on.udp({ sport: dport, dport: port }).payload("answer"),
};

const ECHO = { 4: { request: 8, reply: 0 }, 6: { request: 128, reply: 129 } } as const;

export const PING: Transport = {
  name: "ping",
  proto: { 4: 1, 6: 58 },
  servicePort: 0,
  open: (on, id, family) => on.icmp({ type: ECHO[family].request, id, seq: 1 }).payload("12345678"),
  more: (on, id, family) => on.icmp({ type: ECHO[family].request, id, seq: 2 }).payload("12345678"),
  answer: (on, id, family) => on.icmp({ type: ECHO[family].reply, id, seq: 1 }).payload("12345678"),
};

export const TRANSPORTS: readonly Transport[] = [TCP, UDP, PING];

/** A protocol whose packets between two addresses are one flow: it has no ports, or none that are looked at. */
function session(name: string, number: number): Transport {
  const say =
    (text: string): Transport["open"] =>
    (on) =>
      on.session({ protocol: number }).payload(text);
  return {
    name,
    proto: { 4: number, 6: number },
    servicePort: 0,
    open: say("first of it"),
    more: say("more of it"),
    answer: say("answer"),
  };
}

export const GRE = session("GRE", 47);
export const SESSIONS: readonly Transport[] = [
  GRE,
  session("IP in IP", 4),
  session("ESP", 50),
  session("AH", 51),
  session("SCTP", 132),
  session("protocol 253", 253),
];

/** Calls `make` for each family and each of these transports, and gives all rows. */
export function forEach<T>(
  transports: readonly Transport[],
  make: (family: Family, transport: Transport) => T,
): T[] {
  return FAMILIES.flatMap((family) => transports.map((transport) => make(family, transport)));
}

/** The same with all that can be translated. */
export const forAll = <T>(make: (family: Family, transport: Transport) => T): T[] =>
  forEach(TRANSPORTS, make);

/** From a pod to its device on the node. */
export function fromPodA(family: Family, src: Both, dst: Both, ttl = 64): Packet {
  return eth(MAC.podA, MAC.hostA).ip({ src: src[family], dst: dst[family], ttl });
}

/** From pod b to its device on the node. */
export function fromPodB(family: Family, src: Both, dst: Both, ttl = 64): Packet {
  return eth(MAC.podB, MAC.hostB).ip({ src: src[family], dst: dst[family], ttl });
}

/** From the gateway to eth0. */
export function fromNet(family: Family, src: Both, dst: Both, ttl = 64): Packet {
  return eth(MAC.gateway, MAC.eth0).ip({ src: src[family], dst: dst[family], ttl });
}

/** From the node's stack to the gateway. */
export function toNet(family: Family, src: Both, dst: Both, ttl = 64): Packet {
  return eth(MAC.eth0, MAC.gateway).ip({ src: src[family], dst: dst[family], ttl });
}

/** As pod a receives it from the node. */
export function toPodA(family: Family, src: Both, dst: Both, ttl = 64): Packet {
  return eth(MAC.hostA, MAC.podA).ip({ src: src[family], dst: dst[family], ttl });
}

/** As pod b receives it from the node. */
export function toPodB(family: Family, src: Both, dst: Both, ttl = 64): Packet {
  return eth(MAC.hostB, MAC.podB).ip({ src: src[family], dst: dst[family], ttl });
}

/** The node with one or more loaded configurations; call `close` at the end. */
export class Rig {
  readonly node = new PacketNode();
  readonly #loaded: TestDatapath[] = [];

  /** Loads the data plane under a configuration and fills its maps. */
  load(config = ALL_ON, tableSize?: number, object?: string): Bench {
    const datapath = new TestDatapath(config, this.node.netns, tableSize, object);
    this.#loaded.push(datapath);
    return { datapath, devices: this.node.devices, restore: () => this.node.describe(datapath) };
  }

  async close(): Promise<void> {
    for (const datapath of this.#loaded) datapath[Symbol.dispose]();
    await this.node[Symbol.asyncDispose]();
  }
}
