// SPDX-License-Identifier: Apache-2.0
// Everything that one scrape tells, read at that moment: counters and fill from the maps in the kernel, the rest from the
// agent's report. Big maps are counted in small steps, so that a scrape never holds up the agent for long.
import type { Agent } from "../agent/create.ts";
import type { DataPlane } from "../agent/data-plane.ts";
import { statusReport } from "../agent/report.ts";
import type { StatusReport } from "../agent/status.ts";
import type { CidrCounts } from "../engine/ipam/plan.ts";
import { countEntries, countFlows, type FlowCounts } from "../maps/fill.ts";
import { type FragmentFates, NO_FATES } from "../maps/fragments.ts";
import { MAPS } from "../maps/gen/maps.ts";
import {
  ENDPOINTS_SHOWN,
  PortCounts,
  type PortRefusals,
  type PortUse,
  portRefusals,
} from "../maps/port-use.ts";
import { type ResetCounts, readResets } from "../maps/resets.ts";
import { RETRY_FAMILIES, RETRY_MAPS, type RetryFamily, readRetries } from "../maps/retries.ts";
import { findInner, type MapName, type OuterName, type Table } from "../maps/table.ts";
import { nowTicks } from "../maps/ticks.ts";

/** Packets and bytes of one hook and reason, over all processors. */
export interface PacketCount {
  /** Number of enum hook. */
  readonly hook: number;
  /** Number of enum drop_reason, 0 forwarded. */
  readonly reason: number;
  readonly packets: number;
  readonly bytes: number;
}

/** One map as it was counted. */
export interface MapCount {
  /** `flows`, `replies`, `nonmasq_cidrs`; `flows_draining` is the smaller table that growth leaves behind. */
  readonly name: string;
  readonly entries: number;
  readonly capacity: number;
  readonly memoryBytes: number;
}

/** How far the ports towards remote endpoints are used up. */
export interface PortSample {
  /** The largest share of the range that is in use towards one endpoint, 0 to 1. */
  readonly fullest: Readonly<Record<RetryFamily, number>>;
  /** The endpoints with the most ports in use. */
  readonly used: readonly PortUse[];
  /** Those that refused the most flows. */
  readonly refusals: readonly PortRefusals[];
}

export interface Sample {
  readonly report: StatusReport;
  readonly packets: readonly PacketCount[];
  readonly maps: readonly MapCount[];
  /** Over all slots of the flow table. */
  readonly flows: FlowCounts;
  readonly ports: PortSample;
  /** New flows by the number of ports that were refused before. */
  readonly retries: Readonly<Record<RetryFamily, readonly number[]>>;
  /** Fragments that came before the first of their datagram. */
  readonly fragments: FragmentFates;
  readonly cidrs: readonly CidrCounts[];
  readonly sweepSeconds: number;
  /** RSTs to pods, since the map was made. */
  readonly resets: ResetCounts;
  /** Events that found the ring buffer full, since the maps were made. */
  readonly eventsLostInKernel: number;
  /** Events that a listener of the socket was too slow for. */
  readonly eventsUnread: number;
  readonly configFaults: number;
  /** Objects of ours that the API does not hold yet. */
  readonly unpublished: number;
  readonly readySeconds: number | undefined;
  /** What reading all this took. */
  readonly seconds: number;
}

function sum(values: readonly bigint[] | undefined): number {
  return Number((values ?? []).reduce((total, value) => total + value, 0n));
}

function readPackets(dataPlane: DataPlane): PacketCount[] {
  using table = dataPlane.table("counters");
  const counts: PacketCount[] = [];
  for (const [index, cpus] of table.entriesPerCpu()) {
    const packets = sum(cpus.map((cpu) => cpu.packets));
    if (packets === 0) continue;
    counts.push({ hook: index >> 8, reason: index & 255, packets, bytes: sum(cpus.map((cpu) => cpu.bytes)) });
  }
  return counts;
}

async function countSlots(
  dataPlane: DataPlane,
  name: OuterName,
  ports: PortCounts,
  counted: (counts: FlowCounts) => void,
): Promise<MapCount[]> {
  using outer = dataPlane.table(name) as unknown as Table<number, number>;
  const counts: MapCount[] = [];
  for (let slot = 0; slot < outer.maxEntries; slot++) {
    using table = findInner(outer, name, slot) as Table<unknown, unknown> | undefined;
    if (table === undefined) continue;
    let entries: number;
    if (name === "flows") {
      const flows = await countFlows(table.map, ports);
      counted(flows);
      entries = flows.live + flows.dead;
    } else entries = await countEntries(table.map);
    const { maxEntries: capacity, map } = table;
    counts.push({
      name: slot === 0 ? name : `${name}_draining`,
      entries,
      capacity,
      memoryBytes: map.memory(),
    });
  }
  return counts;
}

const isOuter = (name: MapName): name is OuterName => "inner" in MAPS[name];
/** Arrays are neither full nor empty, and the ring buffer is not made of entries. */
const UNCOUNTED: readonly string[] = ["array", "percpu_array", "prog_array", "ringbuf"];

async function countMaps(
  dataPlane: DataPlane,
  ports: PortCounts,
): Promise<{ maps: MapCount[]; flows: FlowCounts }> {
  const maps: MapCount[] = [];
  let flows: FlowCounts = { live: 0, dead: 0 };
  const counted = ({ live, dead }: FlowCounts): void => {
    flows = { live: flows.live + live, dead: flows.dead + dead };
  };
  for (const name of Object.keys(MAPS) as MapName[]) {
    if (isOuter(name)) {
      maps.push(...(await countSlots(dataPlane, name, ports, counted)));
      continue;
    }
    if (UNCOUNTED.includes(MAPS[name].typeName)) continue;
    using table = dataPlane.table(name) as unknown as Table<unknown, unknown>;
    const entries = await countEntries(table.map);
    maps.push({ name, entries, capacity: table.maxEntries, memoryBytes: table.map.memory() });
  }
  return { maps, flows };
}

function readLost(dataPlane: DataPlane): number {
  using table = dataPlane.table("events_lost");
  return sum(table.getPerCpu(0));
}

function countResets(dataPlane: DataPlane): ResetCounts {
  using table = dataPlane.table("resets");
  return readResets(table);
}

function readPorts(agent: Agent, counts: PortCounts): Pick<Sample, "ports" | "retries"> {
  const { dataPlane } = agent;
  const range = agent.config.config?.["masquerade-port-range"];
  const ports = range === undefined ? 65_536 : range.last - range.first + 1;
  const retries: Record<RetryFamily, number[]> = { ipv4: [], ipv6: [] };
  let refusals: PortRefusals[] = [];
  if (dataPlane !== undefined) {
    for (const family of RETRY_FAMILIES) {
      using table = dataPlane.table(RETRY_MAPS[family]);
      retries[family] = readRetries(table);
    }
    using crowded = dataPlane.table("crowded");
    refusals = portRefusals(crowded.entries(), nowTicks(), ENDPOINTS_SHOWN);
  }
  const fullest = { ipv4: counts.fullest(4, ports), ipv6: counts.fullest(6, ports) };
  return { retries, ports: { fullest, used: counts.top(ENDPOINTS_SHOWN), refusals } };
}

/** Reads everything now. Before the data plane is loaded there are no packets and no maps. */
export async function readSample(agent: Agent): Promise<Sample> {
  const start = performance.now();
  const { dataPlane } = agent;
  const ports = new PortCounts();
  const counted =
    dataPlane === undefined ? { maps: [], flows: { live: 0, dead: 0 } } : await countMaps(dataPlane, ports);
  return {
    ...counted,
    ...readPorts(agent, ports),
    report: statusReport(agent),
    packets: dataPlane === undefined ? [] : readPackets(dataPlane),
    fragments: dataPlane?.fragments.fates ?? NO_FATES,
    cidrs: agent.pods.cidrCounts(),
    sweepSeconds: (dataPlane?.flowTable.sweepState.totalMs ?? 0) / 1000,
    resets: dataPlane === undefined ? { ipv4: 0, ipv6: 0 } : countResets(dataPlane),
    eventsLostInKernel: dataPlane === undefined ? 0 : readLost(dataPlane),
    eventsUnread: agent.flows.unread,
    configFaults: agent.config.faults.length,
    unpublished: agent.publisher.status.pending,
    readySeconds: agent.readyMs === undefined ? undefined : agent.readyMs / 1000,
    seconds: (performance.now() - start) / 1000,
  };
}
