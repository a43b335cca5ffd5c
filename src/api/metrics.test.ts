// SPDX-License-Identifier: Apache-2.0
// The table of metrics against those who rely on it: the page, the example dashboard, Prometheus' rules for names and its
// text format.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Metric } from "./metric.ts";
import { Metrics } from "./metrics.ts";
import type { Sample } from "./metrics-sample.ts";
import { METRICS } from "./metrics-table.ts";

const ROOT = join(import.meta.dirname, "../..");
const byName = new Map(METRICS.map((metric) => [metric.name, metric]));

test("names are unique and say their owner; counters end in _total", () => {
  assert.equal(byName.size, METRICS.length);
  for (const { name, type, labels, help } of METRICS) {
    assert.match(name, /^(cilium|hookline|process)_[a-z0-9_]+$/);
    assert.equal(name.endsWith("_total"), type === "counter", name);
    for (const label of labels) assert.match(label, /^[a-z_]+$/, name);
    assert.match(help, /^[A-Z0-9].*\.$/, name);
  }
});

test("docs/user/metrics.md has each metric, and none that does not exist", () => {
  const page = readFileSync(join(ROOT, "docs/user/metrics.md"), "utf8");
  const row = ({ name, type, labels, help }: Metric): string =>
    `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(", ")} | ${help} |`;
  const rows = page.split("\n").filter((line) => /^\| `[a-z_]+` \| (counter|gauge|histogram) \|/.test(line));
  assert.deepEqual(rows, METRICS.map(row));
  for (const [name] of page.matchAll(/\b(?:cilium|hookline|process)_[a-z_]+[a-z]\b/g)) {
    assert.ok(metricNamed(name), `${name} in the page`);
  }
});

/** The metric that a series belongs to: a histogram has several. */
function metricNamed(series: string): Metric | undefined {
  const owner = byName.get(series.replace(/_(bucket|sum|count)$/, ""));
  if (owner?.type !== "histogram" || byName.has(series)) return byName.get(series);
  return { ...owner, labels: [...owner.labels, "le"] };
}

/** Metrics of a PromQL expression, each with the labels that are asked of it. */
function metricsOf(expr: string): { name: string; labels: string[] }[] {
  const grouped = [...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, names = ""]) => names.split(/, */));
  return [...expr.matchAll(/\b((?:cilium|hookline|process)_\w+)(?:\{([^}]*)\})?/g)].map(
    ([, name = "", selector = ""]) => ({
      name,
      labels: [
        ...grouped,
        ...[...selector.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label = ""]) => label),
      ],
    }),
  );
}

test("the example dashboard asks only for metrics and labels that exist", () => {
  const dashboard = JSON.parse(readFileSync(join(ROOT, "examples/grafana/hookline.json"), "utf8"));
  const ids = new Set<number>();
  let asked = 0;
  for (const panel of dashboard.panels) {
    ids.add(panel.id);
    for (const { expr, legendFormat } of panel.targets) {
      const metrics = metricsOf(expr);
      assert.ok(metrics.length > 0, `${panel.title}: ${expr}`);
      const shown = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label);
      for (const { name, labels } of metrics) {
        const metric = metricNamed(name);
        assert.ok(metric, `${panel.title}: ${name}`);
        // Prometheus itself adds the instance.
        for (const label of [...labels, ...shown])
          assert.ok(
            label === "instance" || metric.labels.includes(label),
            `${panel.title}: ${name} ${label}`,
          );
        assert.equal(/\brate\(/.test(expr), metric.type !== "gauge", `${panel.title}: rate() of counters`);
        asked++;
      }
    }
  }
  assert.equal(ids.size, dashboard.panels.length, "panels have numbers of their own");
  assert.ok(asked >= dashboard.panels.length);
  const { query } = dashboard.templating.list[1].query;
  assert.ok(byName.has(/label_values\((\w+),/.exec(query)?.[1] ?? ""), query);
});

/** A node with one map; `drops` packets dropped at from_pod, `also` at to_net for the same reason. */
function sample(drops: number, also: number, maps: string[]): Sample {
  const count = (hook: number, reason: number, packets: number) => ({
    hook,
    reason,
    packets,
    bytes: packets * 100,
  });
  return {
    report: {
      version: "1.0.0",
      overall: { state: "ok", text: "" },
      kubernetes: { watches: [{ name: "nodes", connected: true, objects: 3, relists: 0, faults: [] }] },
      endpoints: { total: 3, ready: 2 },
      ipam: { ipv4: { inUse: 1, usable: "254" }, ipv6: { inUse: 1, usable: String(2n ** 64n) } },
      flowOwners: [{ id: 0, name: "the node", flows: 1, refused: 0 }],
      flowTable: {
        records: 1,
        size: 4,
        maximum: 16,
        growing: null,
        growths: 2,
        lastGrowthMs: 30,
      },
      sweep: { runs: 1, lastMs: 2, intervalMs: 3000, removed: 4 },
      masquerading: { ipMasqAgent: { ranges: 2 } },
      reconcilers: [],
      devices: [{ name: 'et"h\\0', attached: true }],
      faults: [],
      config: { unknownKeys: [], generation: 1 },
      monitor: { events: 0, lost: 0, clients: 0 },
      nodes: 1,
    },
    packets: [count(1, 0, 10), count(4, 0, 7), count(3, 0, 5), count(1, 132, drops), count(4, 132, also)],
    maps: maps.map((name) => ({ name, entries: 1, capacity: 4, memoryBytes: 4096 })),
    flows: { live: 1, dead: 0 },
    ports: {
      fullest: { ipv4: 0.25, ipv6: 0 },
      used: [{ proto: 6, source: "172.20.0.11", remote: "198.51.100.10", port: 443, held: 9 }],
      refusals: [
        { proto: 58, source: "fd00::11", remote: "2001:db8::10", port: 0, refused: 3, secondsAgo: 1 },
      ],
    },
    retries: { ipv4: [5, 2, 1], ipv6: [0, 0, 0] },
    fragments: { held: 9, released: 5, ended: 3 },
    cidrs: [{ cidr: "fd00::/64", usable: 2n ** 64n, inUse: 1 }],
    sweepSeconds: 0.002,
    resets: { ipv4: 4, ipv6: 6 },
    eventsLostInKernel: 0,
    eventsUnread: 0,
    configFaults: 0,
    unpublished: 0,
    readySeconds: undefined,
    seconds: 0.001,
  } as unknown as Sample;
}

test("packets: forwarded ones count at their first hook, dropped ones at any", async () => {
  const metrics = new Metrics(async () => sample(2, 3, []));
  const rows = await metrics.rows();
  const of = (name: string) =>
    rows.filter((r) => r.name === name).map((r) => [...Object.values(r.labels), r.value]);
  assert.deepEqual(of("cilium_forward_count_total"), [
    ["EGRESS", 10],
    ["INGRESS", 5],
  ]);
  assert.deepEqual(of("cilium_drop_count_total"), [["Invalid source ip", "EGRESS", 5]]);
  assert.deepEqual(of("cilium_drop_bytes_total"), [["Invalid source ip", "EGRESS", 500]]);
  assert.equal(of("hookline_hook_packets_total").length, 5);
});

test("fragments: what was held is released, given up, or waits", async () => {
  const rows = await new Metrics(async () => sample(0, 0, [])).rows();
  const of = rows.filter(({ name }) => name.startsWith("hookline_fragments_"));
  assert.deepEqual(
    of.map(({ name, labels, value }) => [name, labels.outcome, value]),
    [
      ["hookline_fragments_held_total", undefined, 9],
      ["hookline_fragments_ended_total", "released", 5],
      ["hookline_fragments_ended_total", "given_up", 3],
      ["hookline_fragments_waiting", undefined, 1],
    ],
  );
});

test("ports: the busiest and the exhausted endpoints by name, retries as a histogram", async () => {
  const metrics = new Metrics(async () => sample(0, 0, []));
  const { text } = await metrics.expose();
  const lines = text.split("\n").filter((line) => /^(cilium|hookline)_nat_/.test(line));
  assert.deepEqual(lines, [
    'cilium_nat_endpoint_max_connection{family="ipv4"} 0.25',
    'cilium_nat_endpoint_max_connection{family="ipv6"} 0',
    'hookline_nat_endpoint_ports{source="172.20.0.11",remote="198.51.100.10:443",proto="TCP"} 9',
    'hookline_nat_refused_total{source="fd00::11",remote="2001:db8::10",proto="ICMPv6"} 3',
    'hookline_nat_port_retries_bucket{family="ipv4",le="0"} 5',
    'hookline_nat_port_retries_bucket{family="ipv4",le="1"} 7',
    'hookline_nat_port_retries_bucket{family="ipv4",le="+Inf"} 8',
    'hookline_nat_port_retries_bucket{family="ipv6",le="0"} 0',
    'hookline_nat_port_retries_bucket{family="ipv6",le="1"} 0',
    'hookline_nat_port_retries_bucket{family="ipv6",le="+Inf"} 0',
    'hookline_nat_port_retries_sum{family="ipv4"} 4',
    'hookline_nat_port_retries_count{family="ipv4"} 8',
    'hookline_nat_port_retries_sum{family="ipv6"} 0',
    'hookline_nat_port_retries_count{family="ipv6"} 0',
  ]);
});

test("text: values of this scrape only, labels escaped, nothing where there is no value", async () => {
  let scrapes = 0;
  const metrics = new Metrics(async () => (scrapes++ === 0 ? sample(2, 3, ["flows"]) : sample(4, 3, [])));
  const [first, joined] = await Promise.all([metrics.expose(), metrics.expose()]);
  assert.equal(scrapes, 1, "those who ask together share a reading");
  assert.equal(
    first.text.match(/^cilium_drop_count_total.*$/m)?.[0],
    joined.text.match(/^cilium_drop_count_total.*$/m)?.[0],
  );
  assert.match(first.contentType, /^text\/plain; version=0\.0\.4/);
  assert.match(first.text, /^cilium_bpf_map_pressure\{map_name="flows"\} 0\.25$/m);
  assert.match(first.text, /^hookline_device_attached\{device="et\\"h\\\\0"\} 1$/m);
  assert.doesNotMatch(first.text, /^hookline_agent_start_seconds /m);
  assert.match(first.text, /^hookline_ipam_available\{cidr="fd00::\/64"\} 18446744073709552000$/m);
  const second = await metrics.expose();
  assert.match(second.text, /^cilium_drop_count_total\{reason="Invalid source ip",direction="EGRESS"\} 7$/m);
  assert.doesNotMatch(second.text, /map_name="flows"/);
});
