// SPDX-License-Identifier: Apache-2.0
// Every metric, once: name, type, labels, what it says, and how it is read off a sample. Names that begin with cilium_ are
// Cilium's with Cilium's labels and meaning, those that begin with process_ are every Prometheus client's, ours begin with
// hookline_. docs/user/metrics.md and the example dashboard are checked against this table.
import { directionOf } from "../maps/direction.ts";
import { dropReasonText, Hook, hookText } from "../maps/gen/verdict.ts";
import { counter, gauge, type Metric, one, type Read, type Reading } from "./metric.ts";
import { FRAGMENTS } from "./metrics-fragments.ts";
import { NAT } from "./metrics-nat.ts";
import type { PacketCount, Sample } from "./metrics-sample.ts";

const STARTED = Date.now() / 1000 - process.uptime();

/** A forwarded packet passes up to two hooks and is counted at the first; a dropped one is dropped once. */
const FIRST_HOOKS: readonly number[] = [Hook.HOOK_FROM_POD, Hook.HOOK_FROM_NET];

const reasonText = (reason: number): string => dropReasonText[reason] ?? `reason ${reason}`;

/** Sums readings with the same labels. */
function summed(readings: readonly Reading[]): Reading[] {
  const sums = new Map<string, Reading>();
  for (const [value, ...labels] of readings) {
    const key = labels.join("\0");
    sums.set(key, [(sums.get(key)?.[0] ?? 0) + value, ...labels]);
  }
  return [...sums.values()];
}

type Amount = "packets" | "bytes";

const forwards =
  (amount: Amount): Read =>
  ({ packets }) =>
    summed([
      ...["EGRESS", "INGRESS"].map((direction): Reading => [0, direction]),
      ...packets
        .filter(({ hook, reason }) => reason === 0 && FIRST_HOOKS.includes(hook))
        .map((count): Reading => [count[amount], directionOf.get(count.hook) ?? "UNKNOWN"]),
    ]);

const drops =
  (amount: Amount): Read =>
  ({ packets }) =>
    summed(
      packets
        .filter(({ reason }) => reason !== 0)
        .map((count) => [count[amount], reasonText(count.reason), directionOf.get(count.hook) ?? "UNKNOWN"]),
    );

const byHook =
  (amount: Amount): Read =>
  ({ packets }) =>
    packets.map((count: PacketCount) => [
      count[amount],
      hookText[count.hook] ?? `hook ${count.hook}`,
      reasonText(count.reason),
    ]);

/** Of the flow table; nothing before the data plane is loaded. */
const flowTable =
  (value: (table: NonNullable<Sample["report"]["flowTable"]>) => number): Read =>
  ({ report }) =>
    report.flowTable === null ? [] : [[value(report.flowTable)]];

const perMap =
  (value: (map: Sample["maps"][number]) => number): Read =>
  ({ maps }) =>
    maps.map((map) => [value(map), map.name]);

const perWatch =
  (value: (watch: Sample["report"]["kubernetes"]["watches"][number]) => number | boolean | undefined): Read =>
  ({ report }) =>
    report.kubernetes.watches.flatMap((watch): Reading[] => {
      const is = value(watch);
      return is === undefined ? [] : [[Number(is), watch.name]];
    });

const perFamily =
  (value: (pool: Sample["report"]["ipam"]["ipv4"]) => number): Read =>
  ({ report }) => [
    [value(report.ipam.ipv4), "ipv4"],
    [value(report.ipam.ipv6), "ipv6"],
  ];

const CILIUM: readonly Metric[] = [
  gauge("cilium_version", "version", "1; the label is the agent's version.", ({ report }) => [
    [1, report.version],
  ]),
  counter(
    "cilium_forward_count_total",
    "direction",
    "Forwarded packets, counted at the first hook: EGRESS what pods send, INGRESS what comes from the network.",
    forwards("packets"),
  ),
  counter("cilium_forward_bytes_total", "direction", "Bytes of those packets.", forwards("bytes")),
  counter("cilium_drop_count_total", "reason direction", "Dropped packets by reason.", drops("packets")),
  counter("cilium_drop_bytes_total", "reason direction", "Bytes of those packets.", drops("bytes")),
  gauge(
    "cilium_bpf_map_pressure",
    "map_name",
    "Share of a map's room in use, 0 to 1, counted in the kernel at this scrape.",
    perMap((map) => map.entries / map.capacity),
  ),
  gauge(
    "cilium_bpf_map_capacity",
    "map_group",
    "Entries that a map has room for.",
    perMap((map) => map.capacity),
  ),
  gauge(
    "cilium_endpoint",
    "",
    "Pods of this node.",
    one((s) => s.report.endpoints.total),
  ),
  gauge(
    "cilium_endpoint_state",
    "endpoint_state",
    "Pods by state: ready, or not-ready if part of the wiring is missing.",
    ({ report: { endpoints } }) => [
      [endpoints.ready, "ready"],
      [endpoints.total - endpoints.ready, "not-ready"],
    ],
  ),
  gauge(
    "cilium_ip_addresses",
    "family",
    "Pod addresses in use.",
    perFamily((pool) => pool.inUse),
  ),
  gauge(
    "cilium_ipam_capacity",
    "family",
    "Addresses that pods can have.",
    perFamily((pool) => Number(pool.usable)),
  ),
  gauge(
    "cilium_nodes_all_num",
    "",
    "Nodes of the cluster, this one included.",
    one((s) => s.report.nodes),
  ),
];

const DATA_PLANE: readonly Metric[] = [
  counter("hookline_hook_packets_total", "hook reason", "Packets that a hook judged.", byHook("packets")),
  counter("hookline_hook_bytes_total", "hook reason", "Bytes of those packets.", byHook("bytes")),
  gauge(
    "hookline_flow_records",
    "state",
    "Records of the flow table: live, or dead (port free, room freed by the next sweep).",
    ({ flows }) => [
      [flows.live, "live"],
      [flows.dead, "dead"],
    ],
  ),
  gauge(
    "hookline_flow_table_records",
    "",
    "Records of the flow table as the data plane counts them.",
    flowTable((table) => table.records),
  ),
  gauge(
    "hookline_flow_table_size",
    "limit",
    "Records that the flow table has room for now, and at most.",
    ({ report: { flowTable } }) =>
      flowTable === null
        ? []
        : [
            [flowTable.size, "now"],
            [flowTable.maximum, "most"],
          ],
  ),
  gauge(
    "hookline_flow_owner_records",
    "owner",
    "Records of the flow table that belong to a pod, or to the node.",
    ({ report }) => report.flowOwners.map(({ name, flows }) => [flows, name]),
  ),
  counter(
    "hookline_flow_owner_refused_total",
    "owner",
    "New flows of a pod, or of the node, that were refused because it held more than its share.",
    ({ report }) => report.flowOwners.map(({ name, refused }) => [refused, name]),
  ),
  counter(
    "hookline_flow_table_growths_total",
    "",
    "How often the flow table has grown since the agent started.",
    flowTable((table) => table.growths),
  ),
  gauge(
    "hookline_flow_table_last_growth_seconds",
    "",
    "Time from the decision to the last record moved, the last time that the flow table grew.",
    flowTable((table) => table.lastGrowthMs / 1000),
  ),
  gauge(
    "hookline_map_entries",
    "map_name",
    "Entries of a map, counted in the kernel at this scrape.",
    perMap((map) => map.entries),
  ),
  gauge(
    "hookline_map_memory_bytes",
    "map_name",
    "Kernel memory that a map is charged for.",
    perMap((map) => map.memoryBytes),
  ),
  counter(
    "hookline_sweeps_total",
    "",
    "Sweeps of the flow table since the agent started.",
    one((s) => s.report.sweep.runs),
  ),
  counter(
    "hookline_sweep_seconds_total",
    "",
    "Time that sweeps took; they do not hold up the agent.",
    one((s) => s.sweepSeconds),
  ),
  gauge(
    "hookline_sweep_last_seconds",
    "",
    "Time that the last sweep took.",
    one((s) => s.report.sweep.lastMs / 1000),
  ),
  gauge(
    "hookline_sweep_interval_seconds",
    "",
    "Pause before the next sweep; it follows the table's fill.",
    one((s) => s.report.sweep.intervalMs / 1000),
  ),
  counter(
    "hookline_sweep_removed_total",
    "",
    "Dead records that sweeps removed.",
    one((s) => s.report.sweep.removed),
  ),
  gauge(
    "hookline_map_writes_pending",
    "map_name",
    "Writes of the agent that the kernel has not taken yet; they are tried again. In iptables mode also ipset, iptables and ip6tables.",
    ({ report }) => report.reconcilers.map((r) => [r.pending, r.map]),
  ),
  counter(
    "hookline_map_write_errors_total",
    "map_name",
    "Writes of the agent that the kernel refused, retries included.",
    ({ report }) => report.reconcilers.map((r) => [r.errors, r.map]),
  ),
  gauge(
    "hookline_device_attached",
    "device",
    "1 if our programs are on a native device, 0 if they should be.",
    ({ report }) => report.devices.map((device) => [Number(device.attached), device.name]),
  ),
  gauge("hookline_masquerade_mode", "mode", "1; the mode in force.", (s) => [
    [1, s.report.masquerading.mode],
  ]),
  gauge(
    "hookline_masquerade_exclusions",
    "",
    "Ranges in force from the ip-masq-agent's document.",
    one((s) => s.report.masquerading.ipMasqAgent.ranges),
  ),
];

const AGENT: readonly Metric[] = [
  gauge(
    "hookline_agent_ready",
    "",
    "1 if pods can be added.",
    one((s) => s.report.overall.state !== "failure"),
  ),
  gauge(
    "hookline_agent_start_seconds",
    "",
    "Time from the agent's start to the first moment at which a pod could be added.",
    one((s) => s.readySeconds),
  ),
  gauge(
    "hookline_faults",
    "",
    "What is refused, missing or not done; hookline status tells each.",
    one((s) => s.report.faults.length),
  ),
  gauge(
    "hookline_config_faults",
    "",
    "Option values that were refused; above 0 the last good configuration stays in force.",
    one((s) => s.configFaults),
  ),
  gauge(
    "hookline_config_unknown_keys",
    "",
    "Keys of the configuration that no option has.",
    one((s) => s.report.config.unknownKeys.length),
  ),
  gauge(
    "hookline_config_generation",
    "",
    "Grows with every change of the configuration in force.",
    one((s) => s.report.config.generation),
  ),
  counter(
    "hookline_events_total",
    "",
    "Events that the agent read from the data plane.",
    one((s) => s.report.monitor.events),
  ),
  counter(
    "hookline_events_lost_total",
    "cause",
    "Events that nobody saw: ring_full, the agent came too late; slow_reader, a listener of its socket read too slowly.",
    (s) => [
      [s.eventsLostInKernel, "ring_full"],
      [s.eventsUnread, "slow_reader"],
    ],
  ),
  gauge(
    "hookline_monitor_clients",
    "",
    "Listeners to the agent's events.",
    one((s) => s.report.monitor.clients),
  ),
  gauge("hookline_ipam_in_use", "cidr", "Addresses of a pod range in use.", ({ cidrs }) =>
    cidrs.map(({ cidr, inUse }) => [inUse, cidr]),
  ),
  gauge("hookline_ipam_available", "cidr", "Addresses of a pod range that are left.", ({ cidrs }) =>
    cidrs.map(({ cidr, inUse, usable }) => [Number(usable) - inUse, cidr]),
  ),
  gauge(
    "hookline_watch_connected",
    "kind",
    "1 if a kind of object is being followed, 0 while the API server is out of reach.",
    perWatch((watch) => watch.connected),
  ),
  gauge(
    "hookline_watch_silent_seconds",
    "kind",
    "Time since the API server was last heard of; no value before the first time.",
    perWatch((watch) => (watch.silentMs === undefined ? undefined : watch.silentMs / 1000)),
  ),
  gauge(
    "hookline_watch_objects",
    "kind",
    "Objects in use.",
    perWatch((watch) => watch.objects),
  ),
  gauge(
    "hookline_watch_refused_objects",
    "kind",
    "Objects whose present version cannot be used; their last good one stays in force.",
    perWatch((watch) => watch.faults.length),
  ),
  counter(
    "hookline_watch_relists_total",
    "kind",
    "Times that a kind had to be read as a whole.",
    perWatch((watch) => watch.relists),
  ),
  gauge(
    "hookline_objects_unpublished",
    "",
    "Objects of this agent that the API does not hold yet.",
    one((s) => s.unpublished),
  ),
  gauge(
    "hookline_scrape_seconds",
    "",
    "Time that reading these values took, pauses included.",
    one((s) => s.seconds),
  ),
  gauge(
    "process_start_time_seconds",
    "",
    "When the agent's process started, in Unix time.",
    one(() => STARTED),
  ),
  counter(
    "process_cpu_seconds_total",
    "",
    "Processor time of the agent, user and system.",
    one(() => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1e6;
    }),
  ),
  gauge(
    "process_resident_memory_bytes",
    "",
    "Memory of the agent.",
    one(() => process.memoryUsage.rss()),
  ),
];

/** All metrics, in the order in which they are exported and documented. */
export const METRICS: readonly Metric[] = [...CILIUM, ...NAT, ...FRAGMENTS, ...DATA_PLANE, ...AGENT];
