// SPDX-License-Identifier: Apache-2.0
// How far the ports towards each remote endpoint are used up: counted from the records of the flow table as somebody walks
// it, and from what the data plane refused. For the metrics and `bpf nat stats`.
import { type Address, familyOf } from "../base/addr.ts";
import {
  type Crowd,
  FLOW_KEY_SIZE,
  FLOW_SIZE,
  type Flow,
  type FlowKey,
  readFlow,
  readFlowKey,
  writeFlow,
  writeFlowKey,
} from "./gen/types.ts";
import { FlowState } from "./gen/verdict.ts";
import { TICK_NS } from "./ticks.ts";

/** A remote endpoint as seen from one of the node's addresses: its ports are a range of their own. */
export interface RemoteEndpoint {
  /** IP protocol. */
  readonly proto: number;
  /** The node's address that it sees. */
  readonly source: Address;
  readonly remote: Address;
  /** 0 for ICMP echo. */
  readonly port: number;
}

/** Ports that live flows hold towards it. */
export interface PortUse extends RemoteEndpoint {
  readonly held: number;
}

/** Flows that found no port towards it. */
export interface PortRefusals extends RemoteEndpoint {
  readonly refused: number;
  /** Since the last of them. */
  readonly secondsAgo: number;
}

/** How many are shown where nobody asks for another number, as Cilium's nat-map-stats-entries is by default. */
export const ENDPOINTS_SHOWN = 32;

/** Endpoints that one walk keeps apart. Walks go in the order of a hash: one that holds many ports is met early. */
const ENDPOINTS_MOST = 16_384;
const SLOTS = 2 * ENDPOINTS_MOST;

/** A record of zeros, but for `fields`. */
export function blankFlow(fields: Partial<Flow> = {}): Flow {
  return {
    xsaddr: "::",
    xdaddr: "::",
    xsport: 0,
    xdport: 0,
    expires: 0,
    created: 0,
    endpoint: 0,
    proxyPort: 0,
    service: 0,
    state: 0,
    rule: 0,
    identity: 0,
    ...fields,
  };
}

/** Where a field stands in a record, found out by writing it: reading whole records would make four addresses of each. */
export function flowFieldAt(fields: Partial<Flow>): number {
  const view = new DataView(new ArrayBuffer(FLOW_SIZE));
  writeFlow(view, 0, blankFlow(fields));
  return new Uint8Array(view.buffer).findIndex((byte) => byte !== 0);
}

function protoAt(): number {
  const view = new DataView(new ArrayBuffer(FLOW_KEY_SIZE));
  writeFlowKey(view, 0, { saddr: "::", daddr: "::", sport: 0, dport: 0, proto: 255 });
  return new Uint8Array(view.buffer).findIndex((byte) => byte !== 0);
}

const AT = {
  proto: protoAt(),
  state: flowFieldAt({ state: 255 }),
  source: flowFieldAt({ xsaddr: "ff00::" }),
  remote: flowFieldAt({ xdaddr: "ff00::" }),
  port: flowFieldAt({ xdport: 0xffff }),
};
const ADDRESS_BYTES = 16;

/** Counts records by remote endpoint: 0.05 s for a million of them. */
export class PortCounts {
  /** Open addressing: a million keys that are no small integers cost a Map 1 s. */
  readonly #marks = new Uint32Array(SLOTS);
  readonly #held = new Uint32Array(SLOTS);
  readonly #of = new Map<number, RemoteEndpoint>();

  /** The record at these places, if it is translated. */
  add(keys: DataView, key: number, values: DataView, value: number): void {
    if (!(values.getUint8(value + AT.state) & FlowState.FLOW_XSOURCE)) return;
    let low = values.getUint16(value + AT.port, true) | (keys.getUint8(key + AT.proto) << 16);
    let high = low;
    for (let i = 0; i < ADDRESS_BYTES; i += 4) {
      low = Math.imul(low ^ values.getUint32(value + AT.remote + i, true), 0x9e3779b1);
      low = Math.imul(low ^ (low >>> 15) ^ values.getUint32(value + AT.source + i, true), 0x85ebca6b);
      high = Math.imul(high ^ (low >>> 13), 0xc2b2ae35) ^ values.getUint32(value + AT.remote + i, true);
    }
    const mark = (high | 1) >>> 0;
    let slot = (low >>> 7) & (SLOTS - 1);
    while (this.#marks[slot] !== mark && this.#marks[slot] !== 0) slot = (slot + 1) & (SLOTS - 1);
    if (this.#marks[slot] === 0) {
      if (this.#of.size === ENDPOINTS_MOST) return;
      const { proto } = readFlowKey(keys, key);
      const { xsaddr: source, xdaddr: remote, xdport: port } = readFlow(values, value);
      this.#of.set(slot, { proto, source, remote, port });
      this.#marks[slot] = mark;
    }
    this.#held[slot] = (this.#held[slot] ?? 0) + 1;
  }

  #uses(): PortUse[] {
    return [...this.#of].map(([slot, of]) => ({ ...of, held: this.#held[slot] ?? 0 }));
  }

  /** Those with the most ports held, at most so many. */
  top(most: number): PortUse[] {
    return this.#uses()
      .sort((a, b) => b.held - a.held)
      .slice(0, most);
  }

  /** The largest share of a range that is held towards one endpoint, 0 to 1. `ports`: of the range for TCP and UDP. */
  fullest(family: 4 | 6, ports: number): number {
    let most = 0;
    for (const { held, proto, source } of this.#uses()) {
      if (familyOf(source) === family) most = Math.max(most, held / rangeOf(proto, ports));
    }
    return most;
  }
}

const [TCP, UDP] = [6, 17];

/** Ports of a protocol; an echo identifier can be any number. */
function rangeOf(proto: number, ports: number): number {
  return proto === TCP || proto === UDP ? ports : 65_536;
}

/** What `crowded` says of refusals, the most first, at most so many. `now` in ticks. */
export function portRefusals(
  crowded: Iterable<readonly [FlowKey, Crowd]>,
  now: number,
  most: number,
): PortRefusals[] {
  return [...crowded]
    .filter(([, crowd]) => crowd.refused > 0n)
    .map(([tuple, crowd]) => ({
      proto: tuple.proto,
      source: tuple.daddr,
      remote: tuple.saddr,
      port: tuple.sport,
      refused: Number(crowd.refused),
      // The data plane's clock may be a little ahead of what was read as now.
      secondsAgo: Math.max(0, ((now - crowd.refusedAt) | 0) * (Number(TICK_NS) / 1e9)),
    }))
    .sort((a, b) => b.refused - a.refused)
    .slice(0, most);
}
