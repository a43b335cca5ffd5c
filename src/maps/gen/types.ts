// SPDX-License-Identifier: Apache-2.0
// Keys, values and events as user space sees them.
// Generated from the BTF of the data plane by `npm run gen`; the source is bpf/abi.
import type { Address } from "../../base/addr.ts";
import { bound, readAddress, readArray, readBytes, readMac, type Codec, type MacAddress, u16, u32, u64, u8, writeAddress, writeArray, writeBytes, writeMac } from "../codec.ts";

/** struct adoption, 72 bytes. */
export interface Adoption {
  /** The tuple as the opener, a local pod, sends it. */
  key: FlowKey;
  /** Source address after translation. */
  xsaddr: Address;
  /** Source port after translation; for an echo the identifier. */
  xsport: number;
  /** Id of the pod. */
  endpoint: number;
  /** Security identity of the pod. */
  identity: number;
  /** Bits of enum flow_state. */
  state: number;
  /** Set by the program: 1 if the flow table holds the flow now, 0 if it knows the flow or the port already. */
  adopted: number;
}

export const ADOPTION_SIZE = 72;

export function readAdoption(view: DataView, at: number): Adoption {
  return {
    key: readFlowKey(view, at),
    xsaddr: readAddress(view, at + 40),
    xsport: view.getUint16(at + 56, false),
    endpoint: view.getUint16(at + 58, true),
    identity: view.getUint32(at + 60, true),
    state: view.getUint32(at + 64, true),
    adopted: view.getUint32(at + 68, true),
  };
}

export function writeAdoption(view: DataView, at: number, value: Adoption): void {
  bound(view, at, ADOPTION_SIZE);
  writeFlowKey(view, at, value.key);
  writeAddress(view, at + 40, value.xsaddr);
  view.setUint16(at + 56, u16(value.xsport), false);
  view.setUint16(at + 58, u16(value.endpoint), true);
  view.setUint32(at + 60, u32(value.identity), true);
  view.setUint32(at + 64, u32(value.state), true);
  view.setUint32(at + 68, u32(value.adopted), true);
}

export const adoptionCodec: Codec<Adoption> = { size: ADOPTION_SIZE, read: readAdoption, write: writeAdoption };

/** struct counter, 16 bytes. */
export interface Counter {
  /** Packets since the map was made. */
  packets: bigint;
  /** Bytes of those packets, link header included. */
  bytes: bigint;
}

export const COUNTER_SIZE = 16;

export function readCounter(view: DataView, at: number): Counter {
  return {
    packets: view.getBigUint64(at, true),
    bytes: view.getBigUint64(at + 8, true),
  };
}

export function writeCounter(view: DataView, at: number, value: Counter): void {
  bound(view, at, COUNTER_SIZE);
  view.setBigUint64(at, u64(value.packets), true);
  view.setBigUint64(at + 8, u64(value.bytes), true);
}

export const counterCodec: Codec<Counter> = { size: COUNTER_SIZE, read: readCounter, write: writeCounter };

/** struct crowd, 4120 bytes. */
export interface Crowd {
  /** Flows that got no port. */
  refused: bigint;
  /** Tick of the last of them. */
  refusedAt: number;
  /** Tick in which a word was last written. */
  marked: number;
  /** From when any port may be had. */
  all: number;
  /** Chunk in which a port was last found or given back. */
  hint: number;
  /** From when one of 64 ports may be had; ports 64 i to 64 i + 63. */
  chunk: readonly number[];
}

export const CROWD_SIZE = 4120;

export function readCrowd(view: DataView, at: number): Crowd {
  return {
    refused: view.getBigUint64(at, true),
    refusedAt: view.getUint32(at + 8, true),
    marked: view.getUint32(at + 12, true),
    all: view.getUint32(at + 16, true),
    hint: view.getUint32(at + 20, true),
    chunk: readArray(1024, 4, at + 24, (at) => view.getUint32(at, true)),
  };
}

export function writeCrowd(view: DataView, at: number, value: Crowd): void {
  bound(view, at, CROWD_SIZE);
  view.setBigUint64(at, u64(value.refused), true);
  view.setUint32(at + 8, u32(value.refusedAt), true);
  view.setUint32(at + 12, u32(value.marked), true);
  view.setUint32(at + 16, u32(value.all), true);
  view.setUint32(at + 20, u32(value.hint), true);
  writeArray(1024, 4, value.chunk, (offset, item) => view.setUint32(at + 24 + offset, u32(item), true));
}

export const crowdCodec: Codec<Crowd> = { size: CROWD_SIZE, read: readCrowd, write: writeCrowd };

/** struct datagram, 12 bytes. */
export interface Datagram {
  /** Source port; for an ICMP echo request the identifier. */
  sport: number;
  /** Destination port; for an ICMP echo reply the identifier. */
  dport: number;
  /** IP protocol of the datagram. */
  proto: number;
  /** Whether it opens a flow: 0 no, 1 an ICMP echo request, 2 any other but TCP. */
  opens: number;
  /** Tick of the first fragment. */
  seen: number;
}

export const DATAGRAM_SIZE = 12;

export function readDatagram(view: DataView, at: number): Datagram {
  return {
    sport: view.getUint16(at, false),
    dport: view.getUint16(at + 2, false),
    proto: view.getUint8(at + 4),
    opens: view.getUint8(at + 5),
    seen: view.getUint32(at + 8, true),
  };
}

export function writeDatagram(view: DataView, at: number, value: Datagram): void {
  bound(view, at, DATAGRAM_SIZE);
  view.setUint16(at, u16(value.sport), false);
  view.setUint16(at + 2, u16(value.dport), false);
  view.setUint8(at + 4, u8(value.proto));
  view.setUint8(at + 5, u8(value.opens));
  view.setUint8(at + 6, 0);
  view.setUint8(at + 7, 0);
  view.setUint32(at + 8, u32(value.seen), true);
}

export const datagramCodec: Codec<Datagram> = { size: DATAGRAM_SIZE, read: readDatagram, write: writeDatagram };

/** struct datagram_key, 40 bytes. */
export interface DatagramKey {
  /** Source address, as the fragment arrived. */
  saddr: Address;
  /** Destination address, as the fragment arrived. */
  daddr: Address;
  /** Identification in the IP header or the fragment header; of IPv4 it fills the first two bytes. */
  id: number;
  /** IP protocol; 0 for IPv6, whose later fragments do not always tell it. */
  proto: number;
}

export const DATAGRAM_KEY_SIZE = 40;

export function readDatagramKey(view: DataView, at: number): DatagramKey {
  bound(view, at, DATAGRAM_KEY_SIZE);
  return {
    saddr: readAddress(view, at),
    daddr: readAddress(view, at + 16),
    id: view.getUint32(at + 32, false),
    proto: view.getUint8(at + 36),
  };
}

export function writeDatagramKey(view: DataView, at: number, value: DatagramKey): void {
  bound(view, at, DATAGRAM_KEY_SIZE);
  writeAddress(view, at, value.saddr);
  writeAddress(view, at + 16, value.daddr);
  view.setUint32(at + 32, u32(value.id), false);
  view.setUint8(at + 36, u8(value.proto));
  view.setUint8(at + 37, 0);
  view.setUint8(at + 38, 0);
  view.setUint8(at + 39, 0);
}

export const datagramKeyCodec: Codec<DatagramKey> = { size: DATAGRAM_KEY_SIZE, read: readDatagramKey, write: writeDatagramKey };

/** struct device, 40 bytes. */
export interface Device {
  /** Masquerade address for IPv4, :: if there is none. */
  addr4: Address;
  /** Masquerade address for IPv6, :: if there is none. */
  addr6: Address;
  /** Largest packet, in bytes, without the link header. */
  mtu: number;
  /** Bits of enum device_flag. */
  flags: number;
}

export const DEVICE_SIZE = 40;

export function readDevice(view: DataView, at: number): Device {
  return {
    addr4: readAddress(view, at),
    addr6: readAddress(view, at + 16),
    mtu: view.getUint32(at + 32, true),
    flags: view.getUint32(at + 36, true),
  };
}

export function writeDevice(view: DataView, at: number, value: Device): void {
  bound(view, at, DEVICE_SIZE);
  writeAddress(view, at, value.addr4);
  writeAddress(view, at + 16, value.addr6);
  view.setUint32(at + 32, u32(value.mtu), true);
  view.setUint32(at + 36, u32(value.flags), true);
}

export const deviceCodec: Codec<Device> = { size: DEVICE_SIZE, read: readDevice, write: writeDevice };

/** struct endpoint, 56 bytes. */
export interface Endpoint {
  /** The pod's IPv4 address, :: if it has none. */
  addr4: Address;
  /** The pod's IPv6 address, :: if it has none. */
  addr6: Address;
  /** The pod's device on the node. */
  ifindex: number;
  /** Security identity of the pod's labels, 0 unknown. */
  identity: number;
  /** Endpoint id, 1-65535, never 0; owner of its flows. */
  id: number;
  /** Bits of enum endpoint_flag. */
  flags: number;
  /** MAC address inside the pod. */
  mac: MacAddress;
  /** MAC address of the pod's device on the node, the pod's next hop. */
  hostMac: MacAddress;
}

export const ENDPOINT_SIZE = 56;

export function readEndpoint(view: DataView, at: number): Endpoint {
  return {
    addr4: readAddress(view, at),
    addr6: readAddress(view, at + 16),
    ifindex: view.getUint32(at + 32, true),
    identity: view.getUint32(at + 36, true),
    id: view.getUint16(at + 40, true),
    flags: view.getUint16(at + 42, true),
    mac: readMac(view, at + 44),
    hostMac: readMac(view, at + 50),
  };
}

export function writeEndpoint(view: DataView, at: number, value: Endpoint): void {
  bound(view, at, ENDPOINT_SIZE);
  writeAddress(view, at, value.addr4);
  writeAddress(view, at + 16, value.addr6);
  view.setUint32(at + 32, u32(value.ifindex), true);
  view.setUint32(at + 36, u32(value.identity), true);
  view.setUint16(at + 40, u16(value.id), true);
  view.setUint16(at + 42, u16(value.flags), true);
  writeMac(view, at + 44, value.mac);
  writeMac(view, at + 50, value.hostMac);
}

export const endpointCodec: Codec<Endpoint> = { size: ENDPOINT_SIZE, read: readEndpoint, write: writeEndpoint };

/** struct flow, 56 bytes. */
export interface Flow {
  /** Source address after translation; equal to the key's if it is kept. */
  xsaddr: Address;
  /** Destination address after translation (a service's backend); equal to the key's if kept. */
  xdaddr: Address;
  /** Source port after translation. */
  xsport: number;
  /** Destination port after translation. */
  xdport: number;
  /** Tick from which the record is dead and its port free; 0 being ended or reopened, 1 and 2 on its way to a larger table. */
  expires: number;
  /** Tick of the first packet. */
  created: number;
  /** Id of the local pod that the flow belongs to, 0 the node itself. */
  endpoint: number;
  /** Host-order port of the proxy that the policy sent the flow to, 0 none. */
  proxyPort: number;
  /** Index of the service that the opener addressed, 0 none. */
  service: number;
  /** Bits of enum flow_state. */
  state: number;
  /** enum masquerade_rule that decided the translation. */
  rule: number;
  /** Security identity of the opener, as the policy verdict saw it. */
  identity: number;
}

export const FLOW_SIZE = 56;

export function readFlow(view: DataView, at: number): Flow {
  return {
    xsaddr: readAddress(view, at),
    xdaddr: readAddress(view, at + 16),
    xsport: view.getUint16(at + 32, false),
    xdport: view.getUint16(at + 34, false),
    expires: view.getUint32(at + 36, true),
    created: view.getUint32(at + 40, true),
    endpoint: view.getUint16(at + 44, true),
    proxyPort: view.getUint16(at + 46, true),
    service: view.getUint16(at + 48, true),
    state: view.getUint8(at + 50),
    rule: view.getUint8(at + 51),
    identity: view.getUint32(at + 52, true),
  };
}

export function writeFlow(view: DataView, at: number, value: Flow): void {
  bound(view, at, FLOW_SIZE);
  writeAddress(view, at, value.xsaddr);
  writeAddress(view, at + 16, value.xdaddr);
  view.setUint16(at + 32, u16(value.xsport), false);
  view.setUint16(at + 34, u16(value.xdport), false);
  view.setUint32(at + 36, u32(value.expires), true);
  view.setUint32(at + 40, u32(value.created), true);
  view.setUint16(at + 44, u16(value.endpoint), true);
  view.setUint16(at + 46, u16(value.proxyPort), true);
  view.setUint16(at + 48, u16(value.service), true);
  view.setUint8(at + 50, u8(value.state));
  view.setUint8(at + 51, u8(value.rule));
  view.setUint32(at + 52, u32(value.identity), true);
}

export const flowCodec: Codec<Flow> = { size: FLOW_SIZE, read: readFlow, write: writeFlow };

/** struct flow_event, 112 bytes. */
export interface FlowEvent {
  /** CLOCK_MONOTONIC at the last timer interrupt, ns. */
  time: bigint;
  /** Source address as the packet arrived. */
  saddr: Address;
  /** Destination address as the packet arrived. */
  daddr: Address;
  /** Source address after translation. */
  xsaddr: Address;
  /** Destination address after translation. */
  xdaddr: Address;
  /** Source port or ICMP identifier as it arrived. */
  sport: number;
  /** Destination port as it arrived. */
  dport: number;
  /** Source port after translation. */
  xsport: number;
  /** Destination port after translation. */
  xdport: number;
  /** Device of the hook. */
  ifindex: number;
  /** Security identity of the source, 0 unknown. */
  identity: number;
  /** Security identity of the destination, 0 unknown. */
  remoteIdentity: number;
  /** What the rule matched: prefix_rule.source for rules 5 and 7, else 0. */
  ruleArg: number;
  /** Bytes of the packet, link header included. */
  len: number;
  /** Local endpoint id, 0 none. */
  endpoint: number;
  /** enum event_kind. */
  kind: number;
  /** enum hook. */
  hook: number;
  /** enum drop_reason, 0 for a forwarded packet. */
  reason: number;
  /** enum masquerade_rule. */
  rule: number;
  /** IP protocol. */
  proto: number;
  /** TCP flags byte, 0 if not TCP. */
  tcpFlags: number;
}

export const FLOW_EVENT_SIZE = 112;

export function readFlowEvent(view: DataView, at: number): FlowEvent {
  bound(view, at, FLOW_EVENT_SIZE);
  return {
    time: view.getBigUint64(at, true),
    saddr: readAddress(view, at + 8),
    daddr: readAddress(view, at + 24),
    xsaddr: readAddress(view, at + 40),
    xdaddr: readAddress(view, at + 56),
    sport: view.getUint16(at + 72, false),
    dport: view.getUint16(at + 74, false),
    xsport: view.getUint16(at + 76, false),
    xdport: view.getUint16(at + 78, false),
    ifindex: view.getUint32(at + 80, true),
    identity: view.getUint32(at + 84, true),
    remoteIdentity: view.getUint32(at + 88, true),
    ruleArg: view.getUint32(at + 92, true),
    len: view.getUint32(at + 96, true),
    endpoint: view.getUint16(at + 100, true),
    kind: view.getUint8(at + 102),
    hook: view.getUint8(at + 103),
    reason: view.getUint8(at + 104),
    rule: view.getUint8(at + 105),
    proto: view.getUint8(at + 106),
    tcpFlags: view.getUint8(at + 107),
  };
}

export function writeFlowEvent(view: DataView, at: number, value: FlowEvent): void {
  bound(view, at, FLOW_EVENT_SIZE);
  view.setBigUint64(at, u64(value.time), true);
  writeAddress(view, at + 8, value.saddr);
  writeAddress(view, at + 24, value.daddr);
  writeAddress(view, at + 40, value.xsaddr);
  writeAddress(view, at + 56, value.xdaddr);
  view.setUint16(at + 72, u16(value.sport), false);
  view.setUint16(at + 74, u16(value.dport), false);
  view.setUint16(at + 76, u16(value.xsport), false);
  view.setUint16(at + 78, u16(value.xdport), false);
  view.setUint32(at + 80, u32(value.ifindex), true);
  view.setUint32(at + 84, u32(value.identity), true);
  view.setUint32(at + 88, u32(value.remoteIdentity), true);
  view.setUint32(at + 92, u32(value.ruleArg), true);
  view.setUint32(at + 96, u32(value.len), true);
  view.setUint16(at + 100, u16(value.endpoint), true);
  view.setUint8(at + 102, u8(value.kind));
  view.setUint8(at + 103, u8(value.hook));
  view.setUint8(at + 104, u8(value.reason));
  view.setUint8(at + 105, u8(value.rule));
  view.setUint8(at + 106, u8(value.proto));
  view.setUint8(at + 107, u8(value.tcpFlags));
  view.setUint8(at + 108, 0);
  view.setUint8(at + 109, 0);
  view.setUint8(at + 110, 0);
  view.setUint8(at + 111, 0);
}

export const flowEventCodec: Codec<FlowEvent> = { size: FLOW_EVENT_SIZE, read: readFlowEvent, write: writeFlowEvent };

/** struct flow_key, 40 bytes. */
export interface FlowKey {
  /** Source address of the opener. */
  saddr: Address;
  /** Destination address as the opener sent it. */
  daddr: Address;
  /** Source port; for ICMP echo the identifier. */
  sport: number;
  /** Destination port; 0 for ICMP echo. */
  dport: number;
  /** IP protocol: 6 TCP, 17 UDP, 1 ICMP, 58 ICMPv6. */
  proto: number;
}

export const FLOW_KEY_SIZE = 40;

export function readFlowKey(view: DataView, at: number): FlowKey {
  bound(view, at, FLOW_KEY_SIZE);
  return {
    saddr: readAddress(view, at),
    daddr: readAddress(view, at + 16),
    sport: view.getUint16(at + 32, false),
    dport: view.getUint16(at + 34, false),
    proto: view.getUint8(at + 36),
  };
}

export function writeFlowKey(view: DataView, at: number, value: FlowKey): void {
  bound(view, at, FLOW_KEY_SIZE);
  writeAddress(view, at, value.saddr);
  writeAddress(view, at + 16, value.daddr);
  view.setUint16(at + 32, u16(value.sport), false);
  view.setUint16(at + 34, u16(value.dport), false);
  view.setUint8(at + 36, u8(value.proto));
  view.setUint8(at + 37, 0);
  view.setUint8(at + 38, 0);
  view.setUint8(at + 39, 0);
}

export const flowKeyCodec: Codec<FlowKey> = { size: FLOW_KEY_SIZE, read: readFlowKey, write: writeFlowKey };

/** struct flush, 32 bytes. */
export interface Flush {
  /** Set by the caller: address of the openers' tuples in its memory, struct flow_key each. */
  keys: bigint;
  /** Set by the caller: how many. */
  count: number;
  /** Set by the caller: flows opened after this tick stay. */
  before: number;
  /** Set by the program: tick of this run. */
  now: number;
  /** Set by the program: records that were alive and are dead now, their ports free. */
  ended: number;
  /** Set by the program: dead records removed, with their index entries. */
  removed: number;
}

export const FLUSH_SIZE = 32;

export function readFlush(view: DataView, at: number): Flush {
  bound(view, at, FLUSH_SIZE);
  return {
    keys: view.getBigUint64(at, true),
    count: view.getUint32(at + 8, true),
    before: view.getUint32(at + 12, true),
    now: view.getUint32(at + 16, true),
    ended: view.getUint32(at + 20, true),
    removed: view.getUint32(at + 24, true),
  };
}

export function writeFlush(view: DataView, at: number, value: Flush): void {
  bound(view, at, FLUSH_SIZE);
  view.setBigUint64(at, u64(value.keys), true);
  view.setUint32(at + 8, u32(value.count), true);
  view.setUint32(at + 12, u32(value.before), true);
  view.setUint32(at + 16, u32(value.now), true);
  view.setUint32(at + 20, u32(value.ended), true);
  view.setUint32(at + 24, u32(value.removed), true);
  view.setUint8(at + 28, 0);
  view.setUint8(at + 29, 0);
  view.setUint8(at + 30, 0);
  view.setUint8(at + 31, 0);
}

export const flushCodec: Codec<Flush> = { size: FLUSH_SIZE, read: readFlush, write: writeFlush };

/** struct held, 64 bytes. */
export interface Held {
  /** The datagram that it is of. */
  key: DatagramKey;
  /** Tick in which it came; 0 the place is free, 1 somebody is filling or emptying it. */
  since: number;
  /** Tick in which a fragment was last held, in any place, of a datagram whose key hashes to this number. */
  marked: number;
  /** Tick in which a sender was last refused whose id ends with this number. */
  refused: number;
  /** Id of that sender. */
  refusedTo: number;
  /** Id of the pod that sent it; 0 it came from the network. */
  endpoint: number;
  /** Device of the hook. */
  ifindex: number;
  /** Bytes of the IP packet. */
  len: number;
  /** enum hook. */
  hook: number;
  /** IP protocol, as the fragment tells it. */
  proto: number;
}

export const HELD_SIZE = 64;

export function readHeld(view: DataView, at: number): Held {
  return {
    key: readDatagramKey(view, at),
    since: view.getUint32(at + 40, true),
    marked: view.getUint32(at + 44, true),
    refused: view.getUint32(at + 48, true),
    refusedTo: view.getUint16(at + 52, true),
    endpoint: view.getUint16(at + 54, true),
    ifindex: view.getUint32(at + 56, true),
    len: view.getUint16(at + 60, true),
    hook: view.getUint8(at + 62),
    proto: view.getUint8(at + 63),
  };
}

export function writeHeld(view: DataView, at: number, value: Held): void {
  bound(view, at, HELD_SIZE);
  writeDatagramKey(view, at, value.key);
  view.setUint32(at + 40, u32(value.since), true);
  view.setUint32(at + 44, u32(value.marked), true);
  view.setUint32(at + 48, u32(value.refused), true);
  view.setUint16(at + 52, u16(value.refusedTo), true);
  view.setUint16(at + 54, u16(value.endpoint), true);
  view.setUint32(at + 56, u32(value.ifindex), true);
  view.setUint16(at + 60, u16(value.len), true);
  view.setUint8(at + 62, u8(value.hook));
  view.setUint8(at + 63, u8(value.proto));
}

export const heldCodec: Codec<Held> = { size: HELD_SIZE, read: readHeld, write: writeHeld };

/** struct held_bytes, 9216 bytes. */
export interface HeldBytes {
  /** The IP packet, without link header. */
  bytes: Uint8Array;
}

export const HELD_BYTES_SIZE = 9216;

export function readHeldBytes(view: DataView, at: number): HeldBytes {
  return {
    bytes: readBytes(view, at, 9216),
  };
}

export function writeHeldBytes(view: DataView, at: number, value: HeldBytes): void {
  bound(view, at, HELD_BYTES_SIZE);
  writeBytes(view, at, 9216, value.bytes);
}

export const heldBytesCodec: Codec<HeldBytes> = { size: HELD_BYTES_SIZE, read: readHeldBytes, write: writeHeldBytes };

/** struct owner, 8 bytes. */
export interface Owner {
  /** Records of the flow table that belong to it. */
  flows: number;
  /** New flows refused because it holds more than its share of a table that is filling up. */
  refused: number;
}

export const OWNER_SIZE = 8;

export function readOwner(view: DataView, at: number): Owner {
  return {
    flows: view.getUint32(at, true),
    refused: view.getUint32(at + 4, true),
  };
}

export function writeOwner(view: DataView, at: number, value: Owner): void {
  bound(view, at, OWNER_SIZE);
  view.setUint32(at, u32(value.flows), true);
  view.setUint32(at + 4, u32(value.refused), true);
}

export const ownerCodec: Codec<Owner> = { size: OWNER_SIZE, read: readOwner, write: writeOwner };

/** struct prefix_rule, 8 bytes. */
export interface PrefixRule {
  /** enum masquerade_rule that a hit means. */
  rule: number;
  /** Index of the input line that asked for it, in the agent's source table. */
  source: number;
}

export const PREFIX_RULE_SIZE = 8;

export function readPrefixRule(view: DataView, at: number): PrefixRule {
  return {
    rule: view.getUint32(at, true),
    source: view.getUint32(at + 4, true),
  };
}

export function writePrefixRule(view: DataView, at: number, value: PrefixRule): void {
  bound(view, at, PREFIX_RULE_SIZE);
  view.setUint32(at, u32(value.rule), true);
  view.setUint32(at + 4, u32(value.source), true);
}

export const prefixRuleCodec: Codec<PrefixRule> = { size: PREFIX_RULE_SIZE, read: readPrefixRule, write: writePrefixRule };

/** struct recent, 128 bytes. */
export interface Recent {
  /** The tuple as it arrived. */
  key: FlowKey;
  /** Source address as it left. */
  xsaddr: Address;
  /** Destination address as it left. */
  xdaddr: Address;
  /** Source port as it left. */
  xsport: number;
  /** Destination port as it left. */
  xdport: number;
  /** Tick in which this was found out. */
  tick: number;
  /** Device that it came in by. */
  ifindex: number;
  /** Device that it went to. */
  outIfindex: number;
  /** Next hop as struct bpf_redir_neigh holds it; an IPv4 address in the first 4 bytes. */
  nextHop: Address;
  /** Address family of the next hop: 2 IPv4, 10 IPv6. */
  nextHopFamily: number;
  /** Destination MAC address for a local pod. */
  dmac: MacAddress;
  /** Source MAC address for a local pod. */
  smac: MacAddress;
  /** Largest packet that may go that way. */
  mtu: number;
  /** Local endpoint id. */
  endpoint: number;
  /** enum hook. */
  hook: number;
  /** What became of it: 2 delivered to a local pod, 3 sent by a device. */
  verdict: number;
  /** enum masquerade_rule. */
  rule: number;
}

export const RECENT_SIZE = 128;

export function readRecent(view: DataView, at: number): Recent {
  bound(view, at, RECENT_SIZE);
  return {
    key: readFlowKey(view, at),
    xsaddr: readAddress(view, at + 40),
    xdaddr: readAddress(view, at + 56),
    xsport: view.getUint16(at + 72, false),
    xdport: view.getUint16(at + 74, false),
    tick: view.getUint32(at + 76, true),
    ifindex: view.getUint32(at + 80, true),
    outIfindex: view.getUint32(at + 84, true),
    nextHop: readAddress(view, at + 88),
    nextHopFamily: view.getUint32(at + 104, true),
    dmac: readMac(view, at + 108),
    smac: readMac(view, at + 114),
    mtu: view.getUint16(at + 120, true),
    endpoint: view.getUint16(at + 122, true),
    hook: view.getUint8(at + 124),
    verdict: view.getUint8(at + 125),
    rule: view.getUint8(at + 126),
  };
}

export function writeRecent(view: DataView, at: number, value: Recent): void {
  bound(view, at, RECENT_SIZE);
  writeFlowKey(view, at, value.key);
  writeAddress(view, at + 40, value.xsaddr);
  writeAddress(view, at + 56, value.xdaddr);
  view.setUint16(at + 72, u16(value.xsport), false);
  view.setUint16(at + 74, u16(value.xdport), false);
  view.setUint32(at + 76, u32(value.tick), true);
  view.setUint32(at + 80, u32(value.ifindex), true);
  view.setUint32(at + 84, u32(value.outIfindex), true);
  writeAddress(view, at + 88, value.nextHop);
  view.setUint32(at + 104, u32(value.nextHopFamily), true);
  writeMac(view, at + 108, value.dmac);
  writeMac(view, at + 114, value.smac);
  view.setUint16(at + 120, u16(value.mtu), true);
  view.setUint16(at + 122, u16(value.endpoint), true);
  view.setUint8(at + 124, u8(value.hook));
  view.setUint8(at + 125, u8(value.verdict));
  view.setUint8(at + 126, u8(value.rule));
  view.setUint8(at + 127, 0);
}

export const recentCodec: Codec<Recent> = { size: RECENT_SIZE, read: readRecent, write: writeRecent };

/** struct remote, 24 bytes. */
export interface Remote {
  /** Security identity: 1 host, 2 world, 6 remote-node, 7 kube-apiserver, 256 and up pods. */
  identity: number;
  /** Bits of enum remote_flag. */
  flags: number;
  /** Address of the node that holds it, :: if none. */
  node: Address;
}

export const REMOTE_SIZE = 24;

export function readRemote(view: DataView, at: number): Remote {
  return {
    identity: view.getUint32(at, true),
    flags: view.getUint32(at + 4, true),
    node: readAddress(view, at + 8),
  };
}

export function writeRemote(view: DataView, at: number, value: Remote): void {
  bound(view, at, REMOTE_SIZE);
  view.setUint32(at, u32(value.identity), true);
  view.setUint32(at + 4, u32(value.flags), true);
  writeAddress(view, at + 8, value.node);
}

export const remoteCodec: Codec<Remote> = { size: REMOTE_SIZE, read: readRemote, write: writeRemote };

/** struct reply, 24 bytes. */
export interface Reply {
  /** Source address of the opener, before translation. */
  saddr: Address;
  /** Source port of the opener, before translation. */
  sport: number;
  /** Index of the service that gives the opener's destination; 0: the reply's source is it. */
  service: number;
  /** Tick when the entry was made; the sweep removes one that is older than a second and stands for no flow. */
  claim: number;
}

export const REPLY_SIZE = 24;

export function readReply(view: DataView, at: number): Reply {
  return {
    saddr: readAddress(view, at),
    sport: view.getUint16(at + 16, false),
    service: view.getUint16(at + 18, true),
    claim: view.getUint32(at + 20, true),
  };
}

export function writeReply(view: DataView, at: number, value: Reply): void {
  bound(view, at, REPLY_SIZE);
  writeAddress(view, at, value.saddr);
  view.setUint16(at + 16, u16(value.sport), false);
  view.setUint16(at + 18, u16(value.service), true);
  view.setUint32(at + 20, u32(value.claim), true);
}

export const replyCodec: Codec<Reply> = { size: REPLY_SIZE, read: readReply, write: writeReply };

/** struct scratch, 104 bytes. */
export interface Scratch {
  /** struct search of stage/port.h. */
  bytes: Uint8Array;
}

export const SCRATCH_SIZE = 104;

export function readScratch(view: DataView, at: number): Scratch {
  return {
    bytes: readBytes(view, at, 104),
  };
}

export function writeScratch(view: DataView, at: number, value: Scratch): void {
  bound(view, at, SCRATCH_SIZE);
  writeBytes(view, at, 104, value.bytes);
}

export const scratchCodec: Codec<Scratch> = { size: SCRATCH_SIZE, read: readScratch, write: writeScratch };

/** struct sweep_result, 56 bytes. */
export interface SweepResult {
  /** Set by the caller: bits of enum sweep_mode. */
  mode: number;
  /** Set by the caller: records and entries to move at most. */
  budget: number;
  /** Records looked at. */
  visited: bigint;
  /** Records removed because they had expired, or their pod or address is gone. */
  removed: bigint;
  /** Index entries removed because no live record stood behind them. */
  repliesRemoved: bigint;
  /** Live records with a translation. */
  masqueraded: bigint;
  /** Records and entries moved from the table that is being drained. */
  moved: bigint;
  /** Not 0: something is left to move, or may be. */
  left: bigint;
}

export const SWEEP_RESULT_SIZE = 56;

export function readSweepResult(view: DataView, at: number): SweepResult {
  return {
    mode: view.getUint32(at, true),
    budget: view.getUint32(at + 4, true),
    visited: view.getBigUint64(at + 8, true),
    removed: view.getBigUint64(at + 16, true),
    repliesRemoved: view.getBigUint64(at + 24, true),
    masqueraded: view.getBigUint64(at + 32, true),
    moved: view.getBigUint64(at + 40, true),
    left: view.getBigUint64(at + 48, true),
  };
}

export function writeSweepResult(view: DataView, at: number, value: SweepResult): void {
  bound(view, at, SWEEP_RESULT_SIZE);
  view.setUint32(at, u32(value.mode), true);
  view.setUint32(at + 4, u32(value.budget), true);
  view.setBigUint64(at + 8, u64(value.visited), true);
  view.setBigUint64(at + 16, u64(value.removed), true);
  view.setBigUint64(at + 24, u64(value.repliesRemoved), true);
  view.setBigUint64(at + 32, u64(value.masqueraded), true);
  view.setBigUint64(at + 40, u64(value.moved), true);
  view.setBigUint64(at + 48, u64(value.left), true);
}

export const sweepResultCodec: Codec<SweepResult> = { size: SWEEP_RESULT_SIZE, read: readSweepResult, write: writeSweepResult };

/** struct way, 80 bytes. */
export interface Way {
  /** The tuple as it arrived, source port 0. */
  key: FlowKey;
  /** Next hop as struct bpf_redir_neigh holds it; an IPv4 address in the first 4 bytes. */
  nextHop: Address;
  /** Address family of the next hop: 2 IPv4, 10 IPv6. */
  nextHopFamily: number;
  /** Tick in which this was found out. */
  tick: number;
  /** Device that it came in by. */
  ifindex: number;
  /** Native device that it leaves by. */
  outIfindex: number;
  /** Security identity of the destination, 0 unknown. */
  remoteIdentity: number;
  /** Largest packet that may go that way. */
  mtu: number;
}

export const WAY_SIZE = 80;

export function readWay(view: DataView, at: number): Way {
  return {
    key: readFlowKey(view, at),
    nextHop: readAddress(view, at + 40),
    nextHopFamily: view.getUint32(at + 56, true),
    tick: view.getUint32(at + 60, true),
    ifindex: view.getUint32(at + 64, true),
    outIfindex: view.getUint32(at + 68, true),
    remoteIdentity: view.getUint32(at + 72, true),
    mtu: view.getUint32(at + 76, true),
  };
}

export function writeWay(view: DataView, at: number, value: Way): void {
  bound(view, at, WAY_SIZE);
  writeFlowKey(view, at, value.key);
  writeAddress(view, at + 40, value.nextHop);
  view.setUint32(at + 56, u32(value.nextHopFamily), true);
  view.setUint32(at + 60, u32(value.tick), true);
  view.setUint32(at + 64, u32(value.ifindex), true);
  view.setUint32(at + 68, u32(value.outIfindex), true);
  view.setUint32(at + 72, u32(value.remoteIdentity), true);
  view.setUint32(at + 76, u32(value.mtu), true);
}

export const wayCodec: Codec<Way> = { size: WAY_SIZE, read: readWay, write: writeWay };
