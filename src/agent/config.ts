// SPDX-License-Identifier: Apache-2.0
// Decides the configuration in force from layers of text, lowest first:
// 1. the defaults of the options table,
// 2. a folder of files (--config-dir), which is ConfigMap cilium-config as Kubernetes mounts it,
// 3. ConfigMap kube-system/cilium-config,
// 4. CiliumNetworkConfig: it speaks for the whole cluster, so it stands below what a node says for itself,
// 5. CiliumNodeConfig objects whose nodeSelector matches this node, in the order of their names,
// 6. environment, CILIUM_* and over it HOOKLINE_*,
// 7. flags.
// All or nothing: one wrong value refuses the whole, and what was in force stays in force. Unknown keys are reported.
import type { Fault } from "../base/fault.ts";
import { faults } from "./faults.ts";
import { environmentName, FLAG_ALIASES } from "./option-names.ts";
import { type Config, isOptionName, OPTION_NAMES, OPTIONS, type Option, type OptionName } from "./options.ts";

/** Text values from one place. `path` is what stands before a key in messages. */
export interface ConfigLayer {
  /** `ConfigMap kube-system/cilium-config`, `flag`, `environment`. */
  readonly origin: string;
  readonly values: ReadonlyMap<string, LayerValue>;
  /** From this machine (flag, environment): may set "start" options. What comes from the API may not. */
  readonly local?: boolean;
}

export interface LayerValue {
  readonly text: string;
  /** `ConfigMap kube-system/cilium-config data.devices`, `--devices`, `HOOKLINE_DEVICES`. */
  readonly path: string;
}

/** What a reading of all layers gives. `config` is undefined if any value was refused. */
export interface ConfigReading {
  readonly config: Config | undefined;
  /** Path of the value in force; options at their default have none. */
  readonly origins: ReadonlyMap<OptionName, string>;
  readonly faults: readonly Fault[];
  /** Keys that no option has, with their path. */
  readonly unknown: readonly { readonly key: string; readonly path: string }[];
}

type Values = Record<string, unknown>;

function readValue(name: OptionName, value: LayerValue, into: Values): Fault | undefined {
  const option = OPTIONS[name] as Option<unknown>;
  try {
    const read = option.type.read(value.text);
    const why = option.refuse?.(read);
    if (why !== undefined) return faults.CONFIG_VALUE({ path: value.path, value: value.text, why });
    into[name] = read;
  } catch (thrown) {
    const why = thrown instanceof Error ? thrown.message : String(thrown);
    return faults.CONFIG_VALUE({ path: value.path, value: value.text, why }, thrown);
  }
  return undefined;
}

/** Values that read well one by one and make no sense together. */
function conflicts(config: Config, path: (name: OptionName) => string): Fault[] {
  const found: Fault[] = [];
  const conflict = (name: OptionName, why: string): void => {
    found.push(faults.CONFIG_CONFLICT({ path: path(name), why }));
  };
  if (!config["enable-ipv4"] && !config["enable-ipv6"]) {
    conflict("enable-ipv6", "false, and so is enable-ipv4: pods would have no addresses");
  }
  const flows = config["bpf-ct-global-tcp-max"] + config["bpf-ct-global-any-max"];
  if (config["bpf-nat-global-max"] > flows) {
    conflict(
      "bpf-nat-global-max",
      `more than bpf-ct-global-tcp-max and bpf-ct-global-any-max together (${flows})`,
    );
  }
  const ports = config["masquerade-port-range"];
  const nodePorts = config["node-port-range"];
  if (ports.first >= nodePorts.first && ports.last <= nodePorts.last) {
    conflict("masquerade-port-range", "inside node-port-range: no port would be left");
  }
  return found;
}

/** The configuration that `layers`, lowest first, give together. */
export function resolveConfig(layers: readonly ConfigLayer[]): ConfigReading {
  const values: Values = {};
  const chosen = new Map<OptionName, LayerValue>();
  const unknown: { key: string; path: string }[] = [];
  const found: Fault[] = [];
  for (const layer of layers) {
    for (const [key, value] of layer.values) {
      if (isOptionName(key) && (layer.local || OPTIONS[key].when !== "start")) chosen.set(key, value);
      else unknown.push({ key, path: value.path });
    }
  }
  for (const name of OPTION_NAMES) {
    const value = chosen.get(name) ?? { text: OPTIONS[name].default, path: `default of ${name}` };
    const fault = readValue(name, value, values);
    if (fault !== undefined) found.push(fault);
  }
  const origins = new Map([...chosen].map(([name, value]) => [name, value.path]));
  if (found.length === 0) {
    found.push(...conflicts(values as Config, (name) => origins.get(name) ?? name));
  }
  return { config: found.length === 0 ? (values as Config) : undefined, origins, faults: found, unknown };
}

/** The configuration as text, for files and people. */
export function showConfig(config: Config): Record<OptionName, string> {
  return Object.fromEntries(
    OPTION_NAMES.map((name) => [name, (OPTIONS[name] as Option<unknown>).type.show(config[name])]),
  ) as Record<OptionName, string>;
}

/** Names of the options in which two configurations differ. */
export function changedOptions(before: Config, after: Config): OptionName[] {
  const [a, b] = [showConfig(before), showConfig(after)];
  return OPTION_NAMES.filter((name) => a[name] !== b[name]);
}

/** Variables of the environment that name an option; CILIUM_* below HOOKLINE_*. Others are none of our business. */
export function environmentLayers(environment: Readonly<Record<string, string | undefined>>): ConfigLayer[] {
  return (["CILIUM", "HOOKLINE"] as const).map((prefix) => {
    const values = new Map<string, LayerValue>();
    for (const name of OPTION_NAMES) {
      const path = environmentName(name, prefix);
      const text = environment[path];
      if (text !== undefined) values.set(name, { text, path });
    }
    return { origin: "environment", values, local: true };
  });
}

/**
 * `--name value`, `--name=value`, and for switches `--name` or `--no-name`. `help` and `version` are not options: the
 * caller looks for them first.
 * @throws Fault FLAG_UNKNOWN, FLAG_VALUE_MISSING, ARGUMENT_UNKNOWN
 */
export function flagLayer(args: readonly string[]): ConfigLayer {
  const values = new Map<string, LayerValue>();
  for (let i = 0; i < args.length; i++) {
    const argument = args[i] ?? "";
    if (!argument.startsWith("--")) throw faults.ARGUMENT_UNKNOWN({ argument });
    const equals = argument.indexOf("=");
    const given = equals < 0 ? argument.slice(2) : argument.slice(2, equals);
    const negated = given.startsWith("no-") && isOptionName(given.slice(3));
    const name = negated ? given.slice(3) : (FLAG_ALIASES[given] ?? given);
    if (!isOptionName(name)) throw faults.FLAG_UNKNOWN({ name: given });
    const isSwitch = OPTIONS[name].type.isSwitch === true;
    let text = equals < 0 ? undefined : argument.slice(equals + 1);
    if (text === undefined && isSwitch) {
      const next = args[i + 1];
      if (!negated && next !== undefined && /^(true|false)$/.test(next)) {
        text = next;
        i++;
      } else text = negated ? "false" : "true";
    }
    if (text === undefined) {
      text = args[++i];
      if (text === undefined) throw faults.FLAG_VALUE_MISSING({ name: given });
    }
    values.set(name, { text, path: `--${given}` });
  }
  return { origin: "flag", values, local: true };
}
