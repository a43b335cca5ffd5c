// SPDX-License-Identifier: Apache-2.0
// A node for the benchmark of the agent: the bundle that users install, in a namespace, with its pods' namespaces made
// beforehand, asked over its socket and by its plugin. With `cluster` the Kubernetes API is served by this process, as
// in a cluster by another machine; without, by the agent itself from the manifests.
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { type ApiServer, startApiServer } from "../../src/apiserver/server.ts";
import { sleep } from "../../src/base/async.ts";
import { silentLog } from "../../src/base/log.ts";
import { postToAgent } from "../../src/cni/agent-client.ts";
import { readCall } from "../../src/cni/call.ts";
import { netnsPath } from "../../src/kernel/netns.ts";
import { AgentNode, NODE_NAME } from "../../test/support/cni-node.ts";
import { buildTopology, type Topology } from "../../test/support/netns.ts";
import { ROOT } from "../../tools/build-bpf.ts";

const HOOKLINE = join(ROOT, "dist/hookline.mjs");
const CALL_MS = 20_000;
const READY_MS = 60_000;

export interface Pod {
  readonly name: string;
  readonly netns: string;
}

/** What the kernel counts for a process, in bytes. */
export interface Memory {
  /** VmRSS: all that is in memory, the program's file included. */
  readonly resident: number;
  /** Of it what no file stands behind: heaps and stacks. */
  readonly anonymous: number;
}

export class BenchNode implements AsyncDisposable {
  readonly world: Topology;
  readonly node: AgentNode;
  readonly pods: readonly Pod[];
  readonly #cluster: boolean;
  #api: ApiServer | undefined;
  #agent: ChildProcess | undefined;

  private constructor(world: Topology, count: number, cluster: boolean) {
    this.world = world;
    this.node = new AgentNode(world);
    this.node.hookline = [process.execPath, HOOKLINE];
    this.#cluster = cluster;
    this.pods = Array.from({ length: count }, (_, i) => ({
      name: `pod${i}`,
      netns: world.addNetns(`p${i}`),
    }));
    const objects = this.pods.map(({ name }) => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: "default", labels: { app: "web", "pod-template-hash": "5f4d8c7b9" } },
      spec: { nodeName: NODE_NAME, containers: [{ name: "web", image: "registry.k8s.io/pause:3.10" }] },
    }));
    const text = objects.map((object) => stringify(object)).join("---\n");
    if (count > 0) writeFileSync(join(this.node.manifestsDir, "pods.yaml"), text);
  }

  static async make(options: { pods: number; cluster: boolean }): Promise<BenchNode> {
    const world = await buildTopology({ servers: false });
    try {
      return new BenchNode(world, options.pods, options.cluster);
    } catch (thrown) {
      await world[Symbol.asyncDispose]();
      throw thrown;
    }
  }

  /** Starts the agent; ms from the start of its process until it answers that pods can be added. */
  async start(...flags: readonly string[]): Promise<number> {
    const address = join(this.world.dir, "api.sock");
    if (this.#cluster && this.#api === undefined) {
      const manifestsDir = this.node.manifestsDir;
      this.#api = await startApiServer({ unixSocket: address, manifestsDir, log: silentLog() });
    }
    const api = this.#cluster ? ["--api", `unix://${address}`] : [];
    const started = performance.now();
    const agent = this.node.launch(...api, ...flags);
    this.#agent = agent;
    while (!(await this.#ready())) {
      if (agent.exitCode !== null || performance.now() - started > READY_MS)
        throw new Error(`the agent did not get ready:\n${this.node.logTail()}`);
      await sleep(2);
    }
    return performance.now() - started;
  }

  #ready(): Promise<boolean> {
    return this.node.get("/v1/health").then(
      () => true,
      () => false,
    );
  }

  stop(): Promise<void> {
    return this.node.stop();
  }

  /** Runs a command of the CLI to its end; ms, and the length of what it printed. */
  async run(...args: readonly string[]): Promise<{ ms: number; lines: number }> {
    const started = performance.now();
    const child = this.world.spawn(
      this.world.node,
      [...this.node.hookline, "--run-dir", this.node.runDir, ...args],
      {
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    const ended = once(child, "close");
    let lines = 0;
    for await (const chunk of child.stdout as AsyncIterable<Buffer>)
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) lines++;
    const [status] = await ended;
    if (status !== 0) throw new Error(`hookline ${args.join(" ")}: status ${status}`);
    return { ms: performance.now() - started, lines };
  }

  /** A call of the plugin's process, as a container runtime makes it, in ms. */
  async byPlugin(command: "ADD" | "DEL", pod: Pod): Promise<number> {
    const args = `K8S_POD_NAMESPACE=default;K8S_POD_NAME=${pod.name}`;
    const done = await this.node.call(command, { containerId: pod.name, netns: pod.netns, args });
    if (done.status !== 0) throw new Error(`${command} ${pod.name}: ${JSON.stringify(done.json)}`);
    return done.ms;
  }

  /** The same request without the plugin's process, in ms. */
  async byAgent(command: "ADD" | "DEL", pod: Pod): Promise<number> {
    const { agentSocket, request } = readCall(
      {
        CNI_COMMAND: command,
        CNI_CONTAINERID: pod.name,
        CNI_NETNS: netnsPath(pod.netns),
        CNI_IFNAME: "eth0",
        CNI_ARGS: `K8S_POD_NAMESPACE=default;K8S_POD_NAME=${pod.name}`,
      },
      JSON.stringify(this.node.config()),
    );
    const started = performance.now();
    const { status, body } = await postToAgent(
      agentSocket,
      `/v1/cni/${command.toLowerCase()}`,
      request,
      CALL_MS,
    );
    if (status !== 200) throw new Error(`${command} ${pod.name}: ${JSON.stringify(body)}`);
    return performance.now() - started;
  }

  memory(): Memory {
    const text = readFileSync(`/proc/${this.#agent?.pid}/status`, "latin1");
    const bytes = (field: string): number =>
      1024 * Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(text)?.[1]);
    return { resident: bytes("VmRSS"), anonymous: bytes("RssAnon") };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#api?.close();
    await this.world[Symbol.asyncDispose]();
  }
}
