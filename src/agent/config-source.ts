// SPDX-License-Identifier: Apache-2.0
// The configuration in force: layers from the cluster and from this machine resolved again whenever one changes, the last
// good one kept when a value is refused, unknown keys told once. Holds no clock and does no I/O but for reading the
// folder of --config-dir at start.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { matchesLabels } from "../source/label-selector.ts";
import type { ClusterView } from "./cluster.ts";
import {
  type ConfigLayer,
  type ConfigReading,
  changedOptions,
  type LayerValue,
  resolveConfig,
} from "./config.ts";
import { optionOfAlias } from "./option-names.ts";
import { type Config, OPTIONS, type Option, type OptionName } from "./options.ts";
import type { LastGood } from "./state-files.ts";

/** A mounted ConfigMap: one file per key; what begins with a dot is Kubernetes' own (..data). */
export function folderLayer(dir: string): ConfigLayer {
  const values = new Map<string, LayerValue>();
  for (const name of dir === "" ? [] : readdirSync(dir)) {
    const path = join(dir, name);
    if (name.startsWith(".") || !statSync(path).isFile()) continue;
    values.set(name, { text: readFileSync(path, "utf8").trimEnd(), path });
  }
  return { origin: dir, values };
}

/** The layers that come from the API, lowest first. `labels` are those of this node. */
export function clusterLayers(view: ClusterView, labels: Readonly<Record<string, string>>): ConfigLayer[] {
  const layers: ConfigLayer[] = [];
  const mapLayer = (origin: string, at: string, data: ReadonlyMap<string, string>): void => {
    const values = [...data].map(([key, text]) => [key, { text, path: `${origin} ${at}.${key}` }] as const);
    layers.push({ origin, values: new Map(values) });
  };
  if (view.configMap !== undefined) mapLayer(view.configMap.origin, "data", view.configMap.data);
  for (const { origin, fields } of view.networkConfigs) {
    const values = fields.map(
      ({ alias, text, path }) => [optionOfAlias(alias) ?? alias, { text, path }] as const,
    );
    layers.push({ origin, values: new Map(values) });
  }
  for (const { origin, selector, defaults } of view.nodeConfigs) {
    if (matchesLabels(selector, labels)) mapLayer(origin, "spec.defaults", defaults);
  }
  return layers;
}

/** What changed with a new reading. */
export interface ConfigChange {
  readonly config: Config;
  readonly changed: readonly OptionName[];
  /** One of them needs the programs to be loaded again. */
  readonly reload: boolean;
}

/** The configuration in force and how it came about. */
export class ConfigSource {
  readonly #local: { below: readonly ConfigLayer[]; above: readonly ConfigLayer[] };
  readonly #log: Log;
  readonly #told = new Set<string>();
  #reading: ConfigReading | undefined;
  #good: ConfigReading | undefined;
  #generation = 0;
  #fromState = false;

  /** `below` stands under the cluster's layers, `above` over them. */
  constructor(local: { below: readonly ConfigLayer[]; above: readonly ConfigLayer[] }, log: Log) {
    this.#local = local;
    this.#log = log;
  }

  /** Undefined until a first good one has been read. */
  get config(): Config | undefined {
    return this.#good?.config;
  }

  /** Grows with every change of what is in force. */
  get generation(): number {
    return this.#generation;
  }

  /** What is in force comes from the state folder, because the API server has not been reached. */
  get fromState(): boolean {
    return this.#fromState;
  }

  get faults(): readonly Fault[] {
    return this.#reading?.faults ?? [];
  }

  get unknownKeys(): readonly string[] {
    return [...new Set(this.#reading?.unknown.map((u) => u.path) ?? [])].sort();
  }

  originOf(name: OptionName): string {
    return this.#good?.origins.get(name) ?? "default";
  }

  /** Resolves all layers; undefined if nothing changes, be it that the new ones are refused. */
  update(cluster: readonly ConfigLayer[]): ConfigChange | undefined {
    return this.#take([...this.#local.below, ...cluster, ...this.#local.above], false);
  }

  /** Goes on with what the state folder holds, under the flags of today. */
  restore(lastGood: LastGood): ConfigChange | undefined {
    const values = new Map(Object.entries(lastGood.config));
    return this.#take([{ origin: "last good configuration", values }, ...this.#local.above], true);
  }

  /** Text and path of every value in force that a later start must find again; flags and environment come by themselves. */
  snapshot(): LastGood["config"] {
    const good = this.#good;
    if (good?.config === undefined) return {};
    const local = new Set(this.#local.above.flatMap((layer) => [...layer.values.keys()]));
    const entries = [...good.origins]
      .filter(([name]) => OPTIONS[name].when !== "start" && !local.has(name))
      .map(([name, path]) => {
        const text = (OPTIONS[name] as Option<unknown>).type.show((good.config as Config)[name]);
        return [name, { text, path }] as const;
      });
    return Object.fromEntries(entries);
  }

  #take(layers: readonly ConfigLayer[], fromState: boolean): ConfigChange | undefined {
    const reading = resolveConfig(layers);
    this.#reading = reading;
    this.#tell(reading);
    if (reading.config === undefined) return undefined;
    const before = this.config;
    this.#good = reading;
    this.#fromState = fromState;
    const changed = before === undefined ? [] : changedOptions(before, reading.config);
    if (before !== undefined && changed.length === 0) return undefined;
    this.#generation++;
    const reload = changed.some((name) => OPTIONS[name].when === "load");
    return { config: reading.config, changed, reload };
  }

  #tell(reading: ConfigReading): void {
    const unknown = [...new Set(reading.unknown.map((u) => u.path))].filter((path) => !this.#told.has(path));
    for (const path of unknown) this.#told.add(path);
    if (unknown.length > 0) this.#log.warn({ keys: unknown }, "keys that no option has are left out");
    for (const fault of reading.faults) {
      if (this.#told.has(fault.detail)) continue;
      this.#told.add(fault.detail);
      this.#log.error({ error: fault.detail }, "configuration refused; the last good one stays in force");
    }
  }
}
