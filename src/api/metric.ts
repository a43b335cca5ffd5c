// SPDX-License-Identifier: Apache-2.0
// What a metric is, and how rows of the tables of metrics are made.
import type { Sample } from "./metrics-sample.ts";

/** One value, with the values of the metric's labels in their order. */
export type Reading = readonly [value: number, ...labels: string[]];

/** Of a histogram the readings have one label more, the bucket's upper bound or +Inf; their values are cumulative. */
export interface Metric {
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly labels: readonly string[];
  readonly help: string;
  readonly read: (sample: Sample) => readonly Reading[];
}

export type Read = Metric["read"];

function metric(type: Metric["type"]) {
  return (name: string, labels: string, help: string, read: Read): Metric => ({
    name,
    type,
    labels: labels === "" ? [] : labels.split(" "),
    help,
    read,
  });
}
export const gauge = metric("gauge");
export const counter = metric("counter");
export const histogram = metric("histogram");

/** A metric without labels; undefined is no value. */
export const one =
  (value: (sample: Sample) => number | boolean | undefined): Read =>
  (sample) => {
    const is = value(sample);
    return is === undefined ? [] : [[Number(is)]];
  };

/** One value as it is exported; one row of GET /v1/metrics and of `hookline metrics list`. */
export interface MetricRow {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

function labelled(names: readonly string[], values: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.map((label, i) => [label, values[i] ?? ""]));
}

/** `_bucket`, `_sum` and `_count` of a histogram. What lies beyond the last bound counts in the sum as one more than it. */
function histogramValues({ name, labels }: Metric, readings: readonly Reading[]): MetricRow[] {
  const buckets = readings.map(([value, ...of]) => ({
    name: `${name}_bucket`,
    labels: labelled([...labels, "le"], of),
    value,
  }));
  const series = Map.groupBy(readings, ([, ...of]) => of.slice(0, -1).join("\0"));
  const totals = [...series.values()].flatMap((of) => {
    const labelValues = labelled(labels, (of[0] ?? [0]).slice(1, -1) as string[]);
    let [sum, below] = [0, 0];
    of.forEach(([value], bound) => {
      sum += (value - below) * bound;
      below = value;
    });
    return [
      { name: `${name}_sum`, labels: labelValues, value: sum },
      { name: `${name}_count`, labels: labelValues, value: below },
    ];
  });
  return [...buckets, ...totals];
}

/** All values of a metric, as Prometheus and `hookline metrics list` show them. */
export function exportedValues(of: Metric, sample: Sample): MetricRow[] {
  const readings = of.read(sample);
  if (of.type === "histogram") return histogramValues(of, readings);
  return readings.map(([value, ...labels]) => ({
    name: of.name,
    labels: labelled(of.labels, labels),
    value,
  }));
}
