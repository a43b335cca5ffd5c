// SPDX-License-Identifier: Apache-2.0
// The metrics of one agent in Prometheus' text format and as plain rows. Values are read when they are asked for; those
// who ask at the same time share one reading.
import type { Registry } from "prom-client";
import type { Sample } from "./metrics-sample.ts";
import { METRICS } from "./metrics-table.ts";

/** One row of GET /v1/metrics, and of `hookline metrics list`. */
export interface MetricRow {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Exposition {
  readonly contentType: string;
  readonly text: string;
}

/** What a scrape asks. */
export class Metrics {
  readonly #sample: () => Promise<Sample>;
  #registry: Promise<Registry> | undefined;
  #reading: Promise<Sample> | undefined;
  #last: Sample | undefined;

  constructor(sample: () => Promise<Sample>) {
    this.#sample = sample;
  }

  /** Once somebody asks: an agent that nobody scrapes does not load the library. */
  async #build(): Promise<Registry> {
    const { Counter, Gauge, Registry: NewRegistry } = await import("prom-client");
    const registry = new NewRegistry();
    const last = (): Sample | undefined => this.#last;
    for (const { name, type, labels, help, read } of METRICS) {
      const described = { name, help, labelNames: [...labels], registers: [registry] };
      const labelled = (values: readonly string[]): Record<string, string> =>
        Object.fromEntries(labels.map((label, i) => [label, values[i] ?? ""]));
      if (type === "counter") {
        new Counter({
          ...described,
          collect() {
            this.reset();
            const sample = last();
            // Counters live in the kernel and in the agent; the library's own is only their text.
            for (const [value, ...of] of sample ? read(sample) : []) this.inc(labelled(of), value);
          },
        });
      } else {
        new Gauge({
          ...described,
          collect() {
            this.reset();
            // A label value that is gone must not stay behind.
            if (labels.length === 0) this.remove();
            const sample = last();
            for (const [value, ...of] of sample ? read(sample) : []) this.set(labelled(of), value);
          },
        });
      }
    }
    return registry;
  }

  async #fresh(): Promise<Sample> {
    this.#reading ??= this.#sample().finally(() => {
      this.#reading = undefined;
    });
    return await this.#reading;
  }

  /** All metrics now, as Prometheus reads them. */
  async expose(): Promise<Exposition> {
    this.#registry ??= this.#build();
    const [registry, sample] = await Promise.all([this.#registry, this.#fresh()]);
    this.#last = sample;
    return { contentType: registry.contentType, text: await registry.metrics() };
  }

  /** All metrics now, one row per value. */
  async rows(): Promise<MetricRow[]> {
    const sample = await this.#fresh();
    return METRICS.flatMap(({ name, labels, read }) =>
      read(sample).map(([value, ...of]) => ({
        name,
        labels: Object.fromEntries(labels.map((label, i) => [label, of[i] ?? ""])),
        value,
      })),
    );
  }
}
