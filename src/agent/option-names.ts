// SPDX-License-Identifier: Apache-2.0
// The other names by which an option is called: fields of CiliumNetworkConfig, environment variables, Cilium's own flags. All but
// the last are derived from the rows of options.ts.
import { OPTION_NAMES, OPTIONS, type Option, type OptionName } from "./options.ts";

const folded = (name: string): string => name.toLowerCase().replaceAll(/[-_.]/g, "");

const ALIASES = new Map<string, OptionName>();
for (const name of OPTION_NAMES) {
  const { helm, when } = OPTIONS[name] as Option<unknown>;
  if (when === "start") continue;
  if (helm !== undefined) ALIASES.set(folded(helm), name);
  ALIASES.set(folded(name), name);
}

/** The option behind a field of CiliumNetworkConfig's spec: `enableBPFMasquerade`, or a Helm path `bpf.masquerade`. */
export function optionOfAlias(alias: string): OptionName | undefined {
  return ALIASES.get(folded(alias));
}

/** `HOOKLINE_ENABLE_IPV6` or, with the other prefix, `CILIUM_ENABLE_IPV6`. */
export function environmentName(name: OptionName, prefix: "HOOKLINE" | "CILIUM"): string {
  return `${prefix}_${name.toUpperCase().replaceAll("-", "_")}`;
}

/** Cilium's own name of an option of ours that a flag may use as well. */
export const FLAG_ALIASES: Readonly<Record<string, OptionName>> = {
  "k8s-node-name": "node-name",
  "k8s-kubeconfig-path": "kubeconfig",
  "k8s-api-server": "api",
  "state-directory": "state-dir",
};
