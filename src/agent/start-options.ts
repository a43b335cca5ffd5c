// SPDX-License-Identifier: Apache-2.0
// What an agent is told when it is started, from flags, environment and the folder of --config-dir: the options of the
// start, resolved, and the layers that stand around those of the cluster ever after.
import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { findCgroup2 } from "../kernel/mount.ts";
import { type ConfigLayer, environmentLayers, flagLayer, resolveConfig } from "./config.ts";
import { folderLayer } from "./config-source.ts";
import type { Config } from "./options.ts";

export interface StartOptions {
  readonly nodeName: string;
  readonly runDir: string;
  readonly stateDir: string;
  readonly bpfRoot: string;
  readonly cgroupRoot: string;
  readonly kubeconfig: string;
  readonly api: string;
  readonly manifests: string;
  readonly objectPath: string;
  /** What the agent installs once it is ready; undefined if it is not to. */
  readonly cni: { readonly conflist: string; readonly binDir: string; readonly bundle: string } | undefined;
  readonly logLevel: Config["log-level"];
  /** Under and over the layers of the cluster. */
  readonly layers: { readonly below: readonly ConfigLayer[]; readonly above: readonly ConfigLayer[] };
}

const OBJECT = "build/datapath.bpf.o";
const PLUGIN = "dist/hookline-cni.cjs";

/** A built file of this package: one folder up from the bundle in dist/, or two from the sources. */
function packaged(name: string): string {
  const here = fileURLToPath(new URL(".", import.meta.url));
  const found = ["..", "../.."].map((up) => resolve(here, up, name)).find(existsSync);
  return found ?? resolve(here, "../..", name);
}

function cniOptions(config: Config): StartOptions["cni"] {
  const conflist = config["write-cni-conf-when-ready"];
  if (conflist === "") return undefined;
  return {
    conflist: resolve(conflist),
    binDir: resolve(config["cni-bin-dir"]),
    bundle: packaged(PLUGIN),
  };
}

function cgroupRoot(given: string): string {
  if (given !== "") return resolve(given);
  try {
    return findCgroup2();
  } catch {
    // Nothing of this release needs control groups.
    return "";
  }
}

/**
 * Reads flags, environment and folder. Wrong values of options that the cluster may set as well are refused here only
 * if they come from this machine.
 * @throws Fault CONFIG_VALUE, CONFIG_CONFLICT, FLAG_UNKNOWN, FLAG_VALUE_MISSING, ARGUMENT_UNKNOWN
 */
export function startOptions(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): StartOptions {
  const above = [...environmentLayers(environment), flagLayer(args)];
  const first = resolveConfig(above);
  if (first.config === undefined) throw first.faults[0];
  const config = first.config;
  const runDir = resolve(config["run-dir"]);
  return {
    nodeName: config["node-name"] || hostname(),
    runDir,
    stateDir: config["state-dir"] === "" ? join(runDir, "state") : resolve(config["state-dir"]),
    bpfRoot: resolve(config["bpf-root"]),
    cgroupRoot: cgroupRoot(config["cgroup-root"]),
    kubeconfig: config.kubeconfig,
    api: config.api,
    manifests: config.manifests === "" ? "" : resolve(config.manifests),
    objectPath: config.object === "" ? packaged(OBJECT) : resolve(config.object),
    cni: cniOptions(config),
    logLevel: config["log-level"],
    layers: { below: [folderLayer(config["config-dir"])], above },
  };
}
