// SPDX-License-Identifier: Apache-2.0
// The records of the flow table as the CLI shows them: plain rows, and the line format of `cilium bpf nat list`. Pure.
import { type Address, familyOf } from "../base/addr.ts";
import type { Flow, FlowKey } from "../maps/gen/types.ts";
import { FlowState, masqueradeRuleText } from "../maps/gen/verdict.ts";
import { hasPorts, protocolName } from "../observe/protocol.ts";
import { ticksBetween } from "./duration.ts";

/** A record of the flow table, key and value together. */
export type FlowRecord = FlowKey & Flow;

export interface FlowRow {
  proto: string;
  source: string;
  destination: string;
  /** What the far side sees as source; the source itself if it is kept. */
  translatedSource: string;
  translatedDestination: string;
  direction: "out" | "in";
  state: FlowStateName;
  masqueraded: boolean;
  rule: number;
  ruleText: string;
  endpoint: number;
  ageSeconds: number;
  /** Seconds until the record is dead; 0 or less: dead already, its port is free. */
  expiresInSeconds: number;
}

export type FlowStateName = "new" | "established" | "closing" | "reset";

/** `1.2.3.4:80`, `[2001:db8::1]:80`. */
export function formatEndpoint(address: Address, port: number): string {
  return familyOf(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`;
}

/** The state of a record by its strongest bit. */
export function stateText(state: number): FlowStateName {
  if (state & FlowState.FLOW_RESET) return "reset";
  if (state & (FlowState.FLOW_OPENER_FIN | FlowState.FLOW_REPLIER_FIN)) return "closing";
  return state & FlowState.FLOW_REPLIED ? "established" : "new";
}

/** One record for people and programs; ends without ports are addresses. `now` in ticks. */
export function flowRow(record: FlowRecord, now: number): FlowRow {
  const end = hasPorts(record.proto) ? formatEndpoint : (address: Address): string => address;
  return {
    proto: protocolName(record.proto),
    source: end(record.saddr, record.sport),
    destination: end(record.daddr, record.dport),
    translatedSource: end(record.xsaddr, record.xsport),
    translatedDestination: end(record.xdaddr, record.xdport),
    direction: record.state & FlowState.FLOW_INBOUND ? "in" : "out",
    state: stateText(record.state),
    masqueraded: (record.state & FlowState.FLOW_XSOURCE) !== 0,
    rule: record.rule,
    ruleText: masqueradeRuleText[record.rule] ?? `rule ${record.rule}`,
    endpoint: record.endpoint,
    ageSeconds: Math.max(0, Math.round(ticksBetween(record.created, now))),
    expiresInSeconds: Math.round(ticksBetween(now, record.expires)),
  };
}

/**
 * The two lines per translated flow that `cilium bpf nat list` prints: the way out and the way back.
 * NeedsCT is Cilium's mark of entries that need tracking beside them; our record is both, so it is always 0.
 */
export function natLines(row: FlowRow): [out: string, back: string] {
  const tail = `Created=${row.ageSeconds}sec ago NeedsCT=0`;
  return [
    `${row.proto} OUT ${row.source} -> ${row.destination} XLATE_SRC ${row.translatedSource} ${tail}`,
    `${row.proto} IN ${row.destination} -> ${row.translatedSource} XLATE_DST ${row.source} ${tail}`,
  ];
}
