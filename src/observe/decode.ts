// SPDX-License-Identifier: Apache-2.0
// One record of the ring buffer as a flow that people and programs can read: numbers become Cilium's texts, the boot
// clock becomes wall-clock time. Pure; who the addresses belong to is put in by enrich.ts.
import type { Address } from "../base/addr.ts";
import type { FlowEvent } from "../maps/gen/types.ts";
import {
  dropReasonText,
  EventKind,
  eventKindText,
  hookText,
  masqueradeRuleText,
} from "../maps/gen/verdict.ts";
import { protocolName } from "./protocol.ts";

/** One end of a flow. */
export interface FlowEnd {
  readonly address: Address;
  /** Port, or identifier of an ICMP echo for the source; 0 where the protocol has none. */
  readonly port: number;
  /** Security identity, 0 unknown. */
  readonly identity: number;
  /** `default/web-1`, or `node/node2`; "" if nobody of the cluster. */
  readonly name: string;
}

/** A packet that was dropped or opened a flow, as `monitor` tells it. */
export interface Flow {
  /** RFC 3339 with milliseconds. */
  readonly time: string;
  readonly kind: "drop" | "new-flow";
  readonly verdict: "DROPPED" | "FORWARDED";
  /** `from_pod`, `to_net` ... */
  readonly hook: string;
  readonly device: string;
  readonly ifindex: number;
  readonly proto: string;
  readonly source: FlowEnd;
  readonly destination: FlowEnd;
  /** Absent if nothing was translated. */
  readonly translated?: { readonly source: string; readonly destination: string };
  readonly tcpFlags: string;
  /** Bytes. */
  readonly length: number;
  /** Id of the local endpoint, 0 none. */
  readonly endpoint: number;
  /** Cilium's code and text, 0 and "" for a forwarded packet. */
  readonly reason: number;
  readonly reasonText: string;
  /** Number and sentence of the masquerade rule that decided. */
  readonly rule: number;
  readonly ruleText: string;
  /** The input line that the rule stands on, "" if it needs none. */
  readonly ruleSource: string;
}

const TCP_FLAGS = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

/** `SYN, ACK`. */
export function tcpFlagNames(flags: number): string {
  return TCP_FLAGS.filter((_, bit) => flags & (1 << bit)).join(", ");
}

/** `192.0.2.1:80`, `[2001:db8::1]:80`, and without a port the address alone. */
export function formatEnd(address: Address, port: number): string {
  if (port === 0) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/**
 * The flow of an event. `nowNs` and `nowMs` are the monotonic and the wall clock at one moment, so that a step of the
 * wall clock moves what is told and nothing else.
 */
export function decodeFlow(event: FlowEvent, clock: { nowNs: bigint; nowMs: number }): Flow {
  const ageMs = Number(clock.nowNs - event.time) / 1e6;
  const dropped = event.kind === EventKind.EVENT_DROP;
  const translated = {
    source: formatEnd(event.xsaddr, event.xsport),
    destination: formatEnd(event.xdaddr, event.xdport),
  };
  const source = formatEnd(event.saddr, event.sport);
  const destination = formatEnd(event.daddr, event.dport);
  const isTranslated = !dropped && (translated.source !== source || translated.destination !== destination);
  return {
    time: new Date(clock.nowMs - ageMs).toISOString(),
    kind: eventKindText[event.kind] === "drop" ? "drop" : "new-flow",
    verdict: dropped ? "DROPPED" : "FORWARDED",
    hook: hookText[event.hook] ?? `hook ${event.hook}`,
    device: "",
    ifindex: event.ifindex,
    proto: protocolName(event.proto),
    source: { address: event.saddr, port: event.sport, identity: event.identity, name: "" },
    destination: { address: event.daddr, port: event.dport, identity: event.remoteIdentity, name: "" },
    ...(isTranslated ? { translated } : {}),
    tcpFlags: tcpFlagNames(event.tcpFlags),
    length: event.len,
    endpoint: event.endpoint,
    reason: event.reason,
    reasonText: dropped ? (dropReasonText[event.reason] ?? `reason ${event.reason}`) : "",
    rule: event.rule,
    ruleText: masqueradeRuleText[event.rule] ?? `rule ${event.rule}`,
    ruleSource: "",
  };
}
