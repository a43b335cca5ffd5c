// SPDX-License-Identifier: Apache-2.0
// The lab's kubelet: from Pod objects to running pods. For each Pod bound to a node of the lab it makes the namespace,
// calls the CNI plugin, starts the process, writes the status; a Pod that goes takes all that with it. Pods without a
// node are bound in turn.
import { once } from "node:events";
import { join } from "node:path";
import type { Address } from "../base/addr.ts";
import { backoffMs, SerialQueue, sleep } from "../base/async.ts";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { findCgroup2, removeCgroup } from "../kernel/mount.ts";
import { createNetns, listNetns, removeNetns } from "../kernel/netns.ts";
import type { CniRunner, Sandbox } from "./cni-runner.ts";
import { type NodePlan, podCgroup, podNetns } from "./plan.ts";
import { PodProcess } from "./pod-process.ts";
import { type PodSpec, runningStatus, waitingStatus } from "./pod-status.ts";

/** What the runner needs of the Kubernetes API. */
export interface PodApi {
  bind(pod: PodSpec, node: string): Promise<void>;
  writeStatus(pod: PodSpec, status: Record<string, unknown>): Promise<void>;
  /** Takes a Pod out of the API whose deletion was asked for and which has ended. */
  finish(pod: PodSpec): Promise<void>;
}

/** A node as the runner sees it. */
export interface PodHost {
  plan: NodePlan;
  cni: CniRunner;
  /** Resolves when the node's agent takes CNI calls. */
  ready: Promise<void>;
}

interface Running {
  pod: PodSpec;
  host: PodHost;
  sandbox: Sandbox;
  addresses: Address[];
  process: PodProcess | undefined;
  stopping: AbortController;
}

/** Processes that start at the same time; more only wait for the processors. */
const CONCURRENT_STARTS = 4;

function keyOf(pod: PodSpec): string {
  return `${pod.namespace}/${pod.name}`;
}

export class PodRunner {
  readonly #hosts: Map<string, PodHost>;
  readonly #api: PodApi;
  readonly #log: Log;
  /** Command that serves as a pod's process when the Pod names none. */
  readonly #webCommand: (pod: PodSpec, addresses: Address[]) => string[];
  /** What the last sync told. */
  #known: ReadonlyMap<string, PodSpec> = new Map();
  readonly #pods = new Map<string, Running>();
  readonly #queues = new Map<string, SerialQueue>();
  readonly #starts = Array.from({ length: CONCURRENT_STARTS }, () => new SerialQueue());
  #nextStart = 0;
  #nextNode = 0;

  constructor(
    hosts: Map<string, PodHost>,
    api: PodApi,
    webCommand: (pod: PodSpec, addresses: Address[]) => string[],
    log: Log,
  ) {
    this.#hosts = hosts;
    this.#api = api;
    this.#webCommand = webCommand;
    this.#log = log;
  }

  /** All Pods as the API has them now, by namespace/name; called again after every change. */
  sync(pods: ReadonlyMap<string, PodSpec>): void {
    for (const [key, pod] of this.#known) if (!pods.has(key)) this.#gone(pod);
    for (const [key, pod] of pods) {
      const known = this.#known.get(key);
      const same =
        known?.uid === pod.uid && known.nodeName === pod.nodeName && known.deleting === pod.deleting;
      if (!same) this.#changed(pod);
    }
    this.#known = new Map(pods);
  }

  /** Whether the pod's process has started. */
  isRunning(namespace: string, name: string): boolean {
    return this.#pods.get(`${namespace}/${name}`)?.process?.started ?? false;
  }

  #changed(pod: PodSpec): void {
    if (pod.nodeName === "") {
      if (!pod.deleting) this.#queue(pod, () => this.#bind(pod));
      return;
    }
    const host = this.#hosts.get(pod.nodeName);
    if (!host) return;
    this.#queue(pod, async () => {
      const running = this.#pods.get(keyOf(pod));
      if (running && (running.pod.uid !== pod.uid || pod.deleting)) await this.#stop(running);
      if (pod.deleting) await this.#api.finish(pod);
      else if (!this.#pods.has(keyOf(pod)) && !pod.ended) this.#start(pod, host);
    });
  }

  #gone(pod: PodSpec): void {
    this.#queue(pod, async () => {
      const running = this.#pods.get(keyOf(pod));
      if (running?.pod.uid === pod.uid) await this.#stop(running);
    });
  }

  /** One job after the other per pod; a job that fails is told and forgotten. */
  #queue(pod: PodSpec, job: () => Promise<void>): void {
    const key = keyOf(pod);
    const queue = this.#queues.get(key) ?? new SerialQueue();
    this.#queues.set(key, queue);
    queue.run(job).catch((err) => this.#log.error({ err, pod: key }, "pod"));
  }

  async #bind(pod: PodSpec): Promise<void> {
    const hosts = [...this.#hosts.keys()];
    const node = hosts[this.#nextNode++ % hosts.length];
    if (node !== undefined) await this.#api.bind(pod, node);
  }

  #start(pod: PodSpec, host: PodHost): void {
    const running: Running = {
      pod,
      host,
      sandbox: {
        containerId: pod.uid.replaceAll("-", ""),
        netns: podNetns(host.plan, pod.namespace, pod.name),
        podNamespace: pod.namespace,
        podName: pod.name,
      },
      addresses: [],
      process: undefined,
      stopping: new AbortController(),
    };
    this.#pods.set(keyOf(pod), running);
    // Not in the pod's queue: a start that waits for its agent must not keep a deletion waiting.
    this.#bringUp(running).catch((err) => {
      if (!running.stopping.signal.aborted) this.#log.error({ err, pod: keyOf(pod) }, "start");
    });
  }

  async #bringUp(running: Running): Promise<void> {
    const { pod, host, sandbox, stopping } = running;
    await host.ready;
    const queue = this.#starts[this.#nextStart++ % CONCURRENT_STARTS] as SerialQueue;
    await queue.run(async () => {
      stopping.signal.throwIfAborted();
      createNetns(sandbox.netns).close();
      for (let attempt = 0; ; attempt++) {
        try {
          running.addresses = await host.cni.add(sandbox);
          break;
        } catch (thrown) {
          stopping.signal.throwIfAborted();
          const { detail } = Fault.from(thrown);
          this.#log.warn({ pod: keyOf(pod) }, detail);
          await this.#api.writeStatus(pod, waitingStatus(pod, detail));
          await sleep(backoffMs(attempt, 200, 5_000), stopping.signal);
        }
      }
      stopping.signal.throwIfAborted();
      await this.#launch(running);
    });
  }

  async #launch(running: Running): Promise<void> {
    const { pod, host, sandbox } = running;
    const place = { netns: sandbox.netns, cgroup: podCgroup(host.plan, pod.namespace, pod.name) };
    const builtIn = pod.command.length === 0;
    const argv = builtIn ? this.#webCommand(pod, running.addresses) : pod.command;
    const child = new PodProcess(place, argv, {
      builtIn,
      env: pod.env,
      log: join(host.plan.runDir, "..", "pods", `${pod.namespace}.${pod.name}.log`),
      restart: pod.restartPolicy,
    });
    running.process = child;
    child.on("status", (status: { restarts: number; ended: number | undefined }) => {
      if (running.stopping.signal.aborted) return;
      const facts = { ...status, addresses: running.addresses, node: host.plan };
      this.#api
        .writeStatus(pod, runningStatus(pod, facts))
        .catch((err) => this.#log.error({ err, pod: keyOf(pod) }, "status"));
    });
    child.start();
    await once(child, "status");
  }

  async #stop(running: Running): Promise<void> {
    const { pod, host, sandbox } = running;
    running.stopping.abort();
    await running.process?.stop();
    await removeCgroup(join(findCgroup2(), podCgroup(host.plan, pod.namespace, pod.name)), { kill: true });
    if (listNetns().includes(sandbox.netns)) {
      await host.cni.del(sandbox).catch((err) => this.#log.warn({ err, pod: keyOf(pod) }, "CNI DEL"));
      removeNetns(sandbox.netns);
    }
    this.#pods.delete(keyOf(pod));
  }
}
