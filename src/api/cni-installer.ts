// SPDX-License-Identifier: Apache-2.0
// Installs the CNI plugin where the agent's options say, once pods can be added. A runtime that finds the configuration
// calls the plugin at once, so it must not be there earlier. A folder that is not writable yet may be later.
import { existsSync } from "node:fs";
import { basename, dirname } from "node:path";
import type { Agent } from "../agent/create.ts";
import { sleep } from "../base/async.ts";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { installCni } from "./cni-install.ts";
import { faults } from "./faults.ts";

const AGAIN_MS = 5_000;

/** Tries until it is done or `stop` is given; why it is not yet stands in `agent.cniProblem`. Never rejects. */
export async function keepInstalling(agent: Agent, log: Log, stop: AbortSignal): Promise<void> {
  const { cni, runDir } = agent.options;
  if (cni === undefined) return;
  await agent.ready;
  while (!stop.aborted) {
    try {
      if (!existsSync(cni.bundle)) throw faults.CNI_BUNDLE({ path: cni.bundle });
      const installed = installCni({
        binDir: cni.binDir,
        confDir: dirname(cni.conflist),
        confName: basename(cni.conflist),
        runDir,
        nodePath: process.execPath,
        bundlePath: cni.bundle,
      });
      log.info(installed, "CNI plugin installed");
      agent.cniProblem = undefined;
      return;
    } catch (thrown) {
      const problem = faults.CNI_INSTALL({ ...cni, why: Fault.from(thrown).detail }, thrown).detail;
      if (problem !== agent.cniProblem) log.error({ err: thrown }, "CNI plugin not installed");
      agent.cniProblem = problem;
    }
    await sleep(AGAIN_MS, stop).catch(() => undefined);
  }
}
