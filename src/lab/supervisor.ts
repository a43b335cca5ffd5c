// SPDX-License-Identifier: Apache-2.0
// The one process that holds a lab up: the Kubernetes API server, the underlay, an agent per node, the pod runner and the
// outside server. It tells its progress on file descriptor 3 and then runs until it is killed or asked to end.
import { createWriteStream, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startApiServer } from "../apiserver/server.ts";
import { waitFor } from "../base/async.ts";
import { Fault } from "../base/fault.ts";
import { createLog, type Log } from "../base/log.ts";
import { KubeClient } from "../source/client.ts";
import { AgentRunner } from "./agent-runner.ts";
import { cniRunner } from "./cni-runner.ts";
import { downLab } from "./down.ts";
import { labManifests, manifestText } from "./manifests.ts";
import { writeNodeStatus } from "./node-status.ts";
import { type LabPlan, labStateDir } from "./plan.ts";
import { followPods, podApi } from "./pod-api.ts";
import { type PodHost, PodRunner } from "./pod-runner.ts";
import { outcomeOf, spawnAt } from "./spawn.ts";
import { ownIdentity, writeState, writeWhole } from "./state.ts";
import { buildUnderlay } from "./underlay.ts";
import { followUserManifests, linkUserManifests } from "./user-manifests.ts";

/** One line on file descriptor 3. */
export type Progress = { step: string } | { ready: true } | { failed: string };

const PROGRESS_FD = 3;
const START_TIMEOUT_MS = 60_000;

/** Whoever started us may have gone away: progress is then told to nobody. */
function progressTeller(): (progress: Progress) => void {
  const stream = createWriteStream("", { fd: PROGRESS_FD });
  let open = true;
  stream.on("error", () => {
    open = false;
  });
  return (progress) => {
    if (open) stream.write(`${JSON.stringify(progress)}\n`);
  };
}

/** `hookline` for shells inside the lab. */
function writeCommand(plan: LabPlan, entry: string[]): void {
  const quoted = entry.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
  mkdirSync(join(plan.stateDir, "bin"), { recursive: true });
  writeWhole(join(plan.stateDir, "bin", "hookline"), `#!/bin/sh\nexec ${quoted} "$@"\n`, 0o755);
}

function writeManifests(plan: LabPlan): void {
  mkdirSync(plan.manifestsDir, { recursive: true });
  for (const [file, objects] of Object.entries(labManifests(plan))) {
    writeFileSync(join(plan.manifestsDir, file), manifestText(objects));
  }
  if (plan.userManifestsDir === "") return;
  linkUserManifests(plan.userManifestsDir, plan.manifestsDir);
  followUserManifests(plan.userManifestsDir, plan.manifestsDir);
}

/** Resolves when the outside server listens. It keeps running; if it ends, pods get refusals, which its log explains. */
function startOutside(plan: LabPlan, entry: string[], log: Log): Promise<void> {
  const { outside } = plan;
  const addresses = [...outside.gateway, ...outside.internet, ...outside.exempt];
  const child = spawnAt(
    { netns: outside.netns, cgroup: outside.cgroup },
    [...entry, "lab", "serve", "outside", ...addresses],
    { log: outside.log, ipc: true, detached: true },
  );
  return new Promise((resolve, reject) => {
    child.once("message", () => resolve());
    outcomeOf(child).then(({ status }) => {
      log.error({ status }, "outside server ended");
      reject(new Error(`the outside server ended with status ${status}; see ${outside.log}`));
    }, reject);
  });
}

interface Tools {
  entry: string[];
  bundle: string;
  client: KubeClient;
  log: Log;
}

function startNodes(plan: LabPlan, { entry, bundle, client, log }: Tools): Map<string, PodHost> {
  const hosts = new Map<string, PodHost>();
  for (const node of plan.nodes) {
    const onChange = (answers: boolean): void => {
      writeNodeStatus(client, node.name, answers).catch((err) => log.warn({ err }, "node status"));
    };
    const agent = new AgentRunner(plan, node, { entry, log, onChange });
    agent.start();
    hosts.set(node.name, { plan: node, cni: cniRunner(node, bundle), ready: agent.ready() });
  }
  return hosts;
}

async function bringUp(
  plan: LabPlan,
  entry: string[],
  bundle: string,
  tell: (progress: Progress) => void,
): Promise<void> {
  const log = createLog(`lab ${plan.name}`);
  tell({ step: "Kubernetes API server" });
  writeManifests(plan);
  writeCommand(plan, entry);
  await startApiServer({
    unixSocket: plan.apiSocket,
    tcp: { host: "127.0.0.1", port: 0, kubeconfig: plan.kubeconfig },
    manifestsDir: plan.manifestsDir,
    podGrace: true,
    log,
  });
  tell({ step: "underlay network and outside server" });
  buildUnderlay(plan);
  const outside = startOutside(plan, entry, log);
  tell({ step: `${plan.nodes.length} agents` });
  const client = new KubeClient({ api: plan.apiUrl });
  const hosts = startNodes(plan, { entry, bundle, client, log });
  const runner = new PodRunner(
    hosts,
    podApi(client),
    (pod, addresses) => [...entry, "lab", "serve", pod.name, ...addresses],
    log,
  );
  followPods(client, (pods) => runner.sync(pods), log);
  await Promise.all([...hosts.values()].map((host) => host.ready));
  tell({ step: `${plan.pods.length} pods` });
  await outside;
  await waitFor("pods to run", () => plan.pods.every((pod) => runner.isRunning("default", pod.name)), {
    timeoutMs: START_TIMEOUT_MS,
    intervalMs: 10,
  });
}

/**
 * Brings up the lab that `lab up` has planned in its state folder and stays.
 * `entry` runs `hookline`, `bundle` is the CNI plugin. Ends the process itself, with status 1 if the start failed.
 */
export async function superviseLab(name: string, entry: string[], bundle: string): Promise<void> {
  const tell = progressTeller();
  const plan: LabPlan = JSON.parse(readFileSync(join(labStateDir(name), "plan.json"), "utf8"));
  const state = { plan, supervisor: ownIdentity(), entry, startedAt: new Date().toISOString(), ready: false };
  writeState(state);
  const end = (): void => {
    downLab(name).finally(() => process.exit(0));
  };
  process.once("SIGTERM", end).once("SIGINT", end);
  try {
    await bringUp(plan, entry, bundle, tell);
    writeState({ ...state, ready: true });
    tell({ ready: true });
  } catch (thrown) {
    const fault = Fault.from(thrown);
    process.stderr.write(`${fault.stack}\n`);
    tell({ failed: fault.detail });
    process.exit(1);
  }
}
