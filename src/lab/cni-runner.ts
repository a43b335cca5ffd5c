// SPDX-License-Identifier: Apache-2.0
// The lab's side of the CNI contract: runs the installed plugin as a container runtime does, with the environment and
// the configuration of the specification, and turns its answer into addresses or a fault.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { installCni } from "../api/cni-install.ts";
import type { Address } from "../base/addr.ts";
import { parsePrefix } from "../base/prefix.ts";
import { netnsPath } from "../kernel/netns.ts";
import { faults } from "./faults.ts";
import type { NodePlan } from "./plan.ts";
import { outcomeOf, searchPath } from "./spawn.ts";

/** One pod as the runtime names it. */
export interface Sandbox {
  containerId: string;
  netns: string;
  podNamespace: string;
  podName: string;
}

export interface CniRunner {
  /** Addresses that the pod got. @throws Fault POD_CNI */
  add(sandbox: Sandbox): Promise<Address[]>;
  /** @throws Fault POD_CNI */
  del(sandbox: Sandbox): Promise<void>;
}

interface Conflist {
  name: string;
  cniVersion: string;
  cniVersions?: string[];
  plugins: Record<string, unknown>[];
}

/** The configuration that a runtime passes to the first plugin of a list: the list's name and the newest version. */
function pluginConfig(list: Conflist): Record<string, unknown> {
  const cniVersion = list.cniVersions?.at(-1) ?? list.cniVersion;
  return { cniVersion, name: list.name, ...list.plugins[0] };
}

/** Installs the plugin for one node's agent and gives the calls for it. `bundle` is dist/hookline-cni.cjs. */
export function cniRunner(node: NodePlan, bundle: string): CniRunner {
  const root = join(dirname(node.runDir), "cni");
  const installed = installCni({
    binDir: join(root, "bin"),
    confDir: join(root, "net.d"),
    runDir: node.runDir,
    nodePath: process.execPath,
    bundlePath: bundle,
    logFile: join(root, "plugin.log"),
  });
  const config = pluginConfig(JSON.parse(readFileSync(installed.conflist, "utf8")));

  const call = async (command: string, sandbox: Sandbox): Promise<string> => {
    const child = spawn(installed.plugin, [], {
      env: {
        ...searchPath(),
        CNI_COMMAND: command,
        CNI_CONTAINERID: sandbox.containerId,
        CNI_NETNS: netnsPath(sandbox.netns),
        CNI_IFNAME: "eth0",
        CNI_PATH: dirname(installed.plugin),
        CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${sandbox.podNamespace};K8S_POD_NAME=${sandbox.podName}`,
      },
      stdio: ["pipe", "pipe", "pipe"],
    });
    child.stdin.on("error", () => undefined);
    child.stdin.end(JSON.stringify(config));
    const { status, stdout, stderr } = await outcomeOf(child);
    if (status === 0) return stdout;
    const pod = `${sandbox.podNamespace}/${sandbox.podName}`;
    throw faults.POD_CNI({ command, pod, why: errorText(stdout) || stderr.trim() || `status ${status}` });
  };

  return {
    add: async (sandbox) => {
      const result = JSON.parse(await call("ADD", sandbox)) as { ips?: { address: string }[] };
      return (result.ips ?? []).map((ip) => parseHost(ip.address));
    },
    del: async (sandbox) => {
      await call("DEL", sandbox);
    },
  };
}

/** `10.244.1.5/24` in a result is an address with its subnet's length. */
function parseHost(text: string): Address {
  return parsePrefix(text.split("/")[0] ?? text).address;
}

/** The text of a CNI error object, or "". */
function errorText(stdout: string): string {
  try {
    const { msg, details } = JSON.parse(stdout) as { msg?: string; details?: string };
    return [msg, details].filter(Boolean).join(": ");
  } catch {
    return "";
  }
}
