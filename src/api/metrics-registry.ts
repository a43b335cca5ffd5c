// SPDX-License-Identifier: Apache-2.0
// The table of metrics as a registry of the Prometheus client, which makes the text. Loaded when somebody first asks: an
// agent that nobody scrapes does without the library.
import { Registry } from "prom-client";
import { exportedValues } from "./metric.ts";
import type { Sample } from "./metrics-sample.ts";
import { METRICS } from "./metrics-table.ts";

/** A registry whose values are read off what `last` gives, at the moment of asking. */
export function buildRegistry(last: () => Sample): Registry {
  const registry = new Registry();
  for (const metric of METRICS) {
    const { name, help, type } = metric;
    // What the library asks of a metric when it makes its text. Its own classes keep values, which here lie in the kernel.
    const text = {
      get: async () => ({
        name,
        help,
        type,
        aggregator: "sum",
        values: exportedValues(metric, last()).map((value) => ({
          value: value.value,
          labels: value.labels,
          metricName: value.name,
        })),
      }),
      name,
      help,
      type,
      reset() {},
    };
    registry.registerMetric(text as unknown as Parameters<Registry["registerMetric"]>[0]);
  }
  return registry;
}
