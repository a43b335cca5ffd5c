// SPDX-License-Identifier: Apache-2.0
// The metrics of one agent in Prometheus' text format and as plain rows. Values are read when they are asked for; those
// who ask at the same time share one reading.
import { exportedValues, type MetricRow } from "./metric.ts";
import type { buildRegistry } from "./metrics-registry.ts";
import type { Sample } from "./metrics-sample.ts";
import { METRICS } from "./metrics-table.ts";

export interface Exposition {
  readonly contentType: string;
  readonly text: string;
}

/** What a scrape asks. */
export class Metrics {
  readonly #sample: () => Promise<Sample>;
  #registry: Promise<ReturnType<typeof buildRegistry>> | undefined;
  #reading: Promise<Sample> | undefined;
  #last: Sample | undefined;

  constructor(sample: () => Promise<Sample>) {
    this.#sample = sample;
  }

  async #fresh(): Promise<Sample> {
    this.#reading ??= this.#sample().finally(() => {
      this.#reading = undefined;
    });
    return await this.#reading;
  }

  /** All metrics now, as Prometheus reads them. */
  async expose(): Promise<Exposition> {
    const sample = await this.#fresh();
    this.#last = sample;
    this.#registry ??= import("./metrics-registry.ts").then(({ buildRegistry: build }) =>
      build(() => this.#last ?? sample),
    );
    const registry = await this.#registry;
    return { contentType: registry.contentType, text: await registry.metrics() };
  }

  /** All metrics now, one row per value. */
  async rows(): Promise<MetricRow[]> {
    const sample = await this.#fresh();
    return METRICS.flatMap((metric) => exportedValues(metric, sample));
  }
}
