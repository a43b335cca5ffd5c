// SPDX-License-Identifier: Apache-2.0
// Every map of the data plane with its layout and its codecs.
// Generated from the BTF of the data plane by `npm run gen`; the source is bpf/abi.
import type { Address } from "../../base/addr.ts";
import type { Prefix } from "../../base/prefix.ts";
import { addressCodec, noCodec, prefixCodec, type MapRow, u32Codec, u64Codec } from "../codec.ts";
import { type Counter, type CounterKey, type Device, type Endpoint, type PrefixRule, type Remote, counterCodec, counterKeyCodec, deviceCodec, endpointCodec, flowCodec, flowKeyCodec, prefixRuleCodec, remoteCodec, replyCodec } from "./types.ts";

export const MAPS = {
  /** Packets and bytes per hook, forwarded or dropped by reason. Written by the data plane. */
  counters: {
    name: "counters",
    doc: "Packets and bytes per hook, forwarded or dropped by reason. Written by the data plane.",
    type: 5,
    typeName: "percpu_hash",
    keySize: 4,
    valueSize: 16,
    maxEntries: 1024,
    flags: 0,
    perCpu: true,
    key: counterKeyCodec,
    value: counterCodec,
  } satisfies MapRow<CounterKey, Counter>,
  /** Native devices that carry our programs, by index, with their masquerade addresses. Written by the agent. */
  devices: {
    name: "devices",
    doc: "Native devices that carry our programs, by index, with their masquerade addresses. Written by the agent.",
    type: 1,
    typeName: "hash",
    keySize: 4,
    valueSize: 40,
    maxEntries: 256,
    flags: 0,
    perCpu: false,
    key: u32Codec,
    value: deviceCodec,
  } satisfies MapRow<number, Device>,
  /** Local pods by each of their addresses. Written by the agent. */
  endpoint_addrs: {
    name: "endpoint_addrs",
    doc: "Local pods by each of their addresses. Written by the agent.",
    type: 1,
    typeName: "hash",
    keySize: 16,
    valueSize: 56,
    maxEntries: 8192,
    flags: 0,
    perCpu: false,
    key: addressCodec,
    value: endpointCodec,
  } satisfies MapRow<Address, Endpoint>,
  /** Local pods by the index of their device on the node. Written by the agent. */
  endpoints: {
    name: "endpoints",
    doc: "Local pods by the index of their device on the node. Written by the agent.",
    type: 1,
    typeName: "hash",
    keySize: 4,
    valueSize: 56,
    maxEntries: 4096,
    flags: 0,
    perCpu: false,
    key: u32Codec,
    value: endpointCodec,
  } satisfies MapRow<number, Endpoint>,
  /** struct flow_event records of drops and new flows. Written by the data plane, drained by the agent. */
  events: {
    name: "events",
    doc: "struct flow_event records of drops and new flows. Written by the data plane, drained by the agent.",
    type: 27,
    typeName: "ringbuf",
    keySize: 0,
    valueSize: 0,
    maxEntries: 4194304,
    flags: 0,
    perCpu: false,
    key: noCodec,
    value: noCodec,
  } satisfies MapRow<undefined, undefined>,
  /** Events that found the ring buffer full. Written by the data plane, read by the agent and the CLI. */
  events_lost: {
    name: "events_lost",
    doc: "Events that found the ring buffer full. Written by the data plane, read by the agent and the CLI.",
    type: 6,
    typeName: "percpu_array",
    keySize: 4,
    valueSize: 8,
    maxEntries: 1,
    flags: 0,
    perCpu: true,
    key: u32Codec,
    value: u64Codec,
  } satisfies MapRow<number, bigint>,
  /** The flow table: one record per flow under the opener's tuple. Written by the data plane, read by the CLI. */
  flows: {
    name: "flows",
    doc: "The flow table: one record per flow under the opener's tuple. Written by the data plane, read by the CLI.",
    type: 12,
    typeName: "array_of_maps",
    keySize: 4,
    valueSize: 4,
    maxEntries: 2,
    flags: 0,
    perCpu: false,
    key: u32Codec,
    value: u32Codec,
    inner: {
      type: 1,
      typeName: "hash",
      keySize: 40,
      valueSize: 56,
      maxEntries: 65536,
      flags: 0,
      perCpu: false,
      key: flowKeyCodec,
      value: flowCodec,
    },
  } satisfies MapRow<number, number>,
  /** Who an address is: this node, other nodes, pods. Written by the agent from Kubernetes objects. */
  ipcache: {
    name: "ipcache",
    doc: "Who an address is: this node, other nodes, pods. Written by the agent from Kubernetes objects.",
    type: 11,
    typeName: "lpm_trie",
    keySize: 20,
    valueSize: 24,
    maxEntries: 512000,
    flags: 1,
    perCpu: false,
    key: prefixCodec,
    value: remoteCodec,
  } satisfies MapRow<Prefix, Remote>,
  /** Destinations that keep the pod's address, with the rule that says so. Written by the agent. */
  nonmasq_cidrs: {
    name: "nonmasq_cidrs",
    doc: "Destinations that keep the pod's address, with the rule that says so. Written by the agent.",
    type: 11,
    typeName: "lpm_trie",
    keySize: 20,
    valueSize: 8,
    maxEntries: 16384,
    flags: 1,
    perCpu: false,
    key: prefixCodec,
    value: prefixRuleCodec,
  } satisfies MapRow<Prefix, PrefixRule>,
  /** Index of translated flows by the tuple of their replies. Means nothing without its record in flows. */
  replies: {
    name: "replies",
    doc: "Index of translated flows by the tuple of their replies. Means nothing without its record in flows.",
    type: 12,
    typeName: "array_of_maps",
    keySize: 4,
    valueSize: 4,
    maxEntries: 2,
    flags: 0,
    perCpu: false,
    key: u32Codec,
    value: u32Codec,
    inner: {
      type: 1,
      typeName: "hash",
      keySize: 40,
      valueSize: 24,
      maxEntries: 65536,
      flags: 0,
      perCpu: false,
      key: flowKeyCodec,
      value: replyCodec,
    },
  } satisfies MapRow<number, number>,
  /** Ports that masquerading must not choose: bit port % 64 of word port / 64; words 0-1023 TCP, 1024-2047 UDP. Written by the agent. */
  reserved_ports: {
    name: "reserved_ports",
    doc: "Ports that masquerading must not choose: bit port % 64 of word port / 64; words 0-1023 TCP, 1024-2047 UDP. Written by the agent.",
    type: 2,
    typeName: "array",
    keySize: 4,
    valueSize: 8,
    maxEntries: 2048,
    flags: 0,
    perCpu: false,
    key: u32Codec,
    value: u64Codec,
  } satisfies MapRow<number, bigint>,
} as const;

/** Name of a map, and of its pin. */
export type MapName = keyof typeof MAPS;
