// SPDX-License-Identifier: Apache-2.0
// The table of metrics as a registry of the Prometheus client, which makes the text. Loaded when somebody first asks: an
// agent that nobody scrapes does without the library.
import { Counter, Gauge, Registry } from "prom-client";
import type { Sample } from "./metrics-sample.ts";
import { METRICS } from "./metrics-table.ts";

/** A registry whose values are read off what `last` gives, at the moment of asking. */
export function buildRegistry(last: () => Sample): Registry {
  const registry = new Registry();
  for (const { name, type, labels, help, read } of METRICS) {
    const described = { name, help, labelNames: [...labels], registers: [registry] };
    const labelled = (values: readonly string[]): Record<string, string> =>
      Object.fromEntries(labels.map((label, i) => [label, values[i] ?? ""]));
    if (type === "counter") {
      new Counter({
        ...described,
        collect() {
          // Counters live in the kernel and in the agent; the library's own is only their text.
          this.reset();
          for (const [value, ...of] of read(last())) this.inc(labelled(of), value);
        },
      });
    } else {
      new Gauge({
        ...described,
        collect() {
          this.reset();
          // A reset gauge without labels is 0, which would be a value where there is none.
          if (labels.length === 0) this.remove();
          for (const [value, ...of] of read(last())) this.set(labelled(of), value);
        },
      });
    }
  }
  return registry;
}
