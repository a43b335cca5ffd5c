// SPDX-License-Identifier: Apache-2.0
// A node for tests of the CNI plugin: a real agent in a topology's node namespace, configured by a folder of manifests,
// with the plugin installed beside it; and a container runtime's side of the CNI contract.
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { dirname, join } from "node:path";
import { stringify } from "yaml";
import { installCni } from "../../src/api/cni-install.ts";
import { waitFor } from "../../src/base/async.ts";
import { mountBpffs } from "../../src/kernel/mount.ts";
import { netnsPath } from "../../src/kernel/netns.ts";
import { CLUSTER_CIDR, NODE_ADDRESS, NON_MASQUERADE_CIDR, POD_CIDR, type Topology } from "./netns.ts";

const ROOT = join(import.meta.dirname, "../..");
/** What users install; from the sources where nothing was built, which only starts slower. */
const BUNDLE = join(ROOT, "dist/hookline-cni.cjs");
const PLUGIN = existsSync(BUNDLE) ? BUNDLE : join(ROOT, "src/bin/cni.ts");

export const NODE_NAME = "node1";

/** How a call of the plugin ended. */
export interface PluginResult {
  readonly status: number | null;
  /** The result of ADD, an error object, the versions; undefined if nothing was printed. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into it field by field
  readonly json: any;
  readonly stderr: string;
  readonly ms: number;
}

/** What a runtime passes. `netns` is a name in /run/netns or a path. */
export interface PluginCall {
  readonly containerId?: string;
  readonly netns?: string;
  readonly ifName?: string;
  readonly args?: string;
  /** Replaces or adds fields of the network configuration. */
  readonly config?: Record<string, unknown>;
  /** Replaces the whole of standard input. */
  readonly stdin?: string;
  readonly env?: Record<string, string>;
}

/** A pod of namespace default; its container has the same name. */
export interface AddedPod {
  readonly name: string;
  readonly netns: string;
  readonly address: Readonly<Record<4 | 6, string>>;
}

type Manifest = Record<string, unknown>;

/** The agent's node. Everything lies in the topology's folder and goes with it. */
export class AgentNode {
  readonly world: Topology;
  readonly runDir: string;
  readonly manifestsDir: string;
  readonly bpfRoot: string;
  readonly logFile: string;
  readonly cni: { readonly binDir: string; readonly confDir: string; readonly plugin: string };
  /** Command that stands before `agent`; the sources, unless it is set. */
  hookline: readonly string[] = [process.execPath, join(ROOT, "src/bin/hookline.ts")];
  /** Over the environment of the test's process, for agents started from now on. */
  environment: Readonly<Record<string, string>> = {};
  /** Address of an API server; absent: the agent's own, with the folder of manifests. */
  api: string | undefined;
  #agent: ChildProcess | undefined;

  constructor(world: Topology, podCidrs: readonly string[] = Object.values(POD_CIDR)) {
    this.world = world;
    this.runDir = join(world.dir, "run");
    this.manifestsDir = join(world.dir, "manifests");
    this.bpfRoot = join(world.dir, "bpf");
    this.logFile = join(world.dir, "agent.log");
    mkdirSync(this.runDir, { mode: 0o700 });
    mkdirSync(this.manifestsDir);
    mountBpffs(this.bpfRoot);
    const binDir = join(world.dir, "cni/bin");
    const confDir = join(world.dir, "cni/net.d");
    const { runDir } = this;
    const { plugin } = installCni({
      binDir,
      confDir,
      runDir,
      nodePath: process.execPath,
      bundlePath: PLUGIN,
    });
    this.cni = { binDir, confDir, plugin };
    this.setPodCidrs(podCidrs);
    this.setConfig({});
    this.write("ip-masq-agent.yaml", {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "ip-masq-agent", namespace: "kube-system" },
      data: { config: stringify({ nonMasqueradeCIDRs: Object.values(NON_MASQUERADE_CIDR) }) },
    });
  }

  /** Writes the ConfigMap with these values over those of every test; a running agent follows. */
  setConfig(values: Readonly<Record<string, string>>): void {
    this.write("config.yaml", {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "cilium-config", namespace: "kube-system" },
      data: {
        "enable-bpf-masquerade": "true",
        "ipv4-native-routing-cidr": CLUSTER_CIDR[4],
        "ipv6-native-routing-cidr": CLUSTER_CIDR[6],
        "enable-ip-masq-agent": "true",
        "enable-ipv6": "true",
        ...values,
      },
    });
  }

  /** Writes the Node object; a running agent follows. */
  setPodCidrs(podCidrs: readonly string[]): void {
    this.write("node.yaml", {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: NODE_NAME, labels: { "kubernetes.io/hostname": NODE_NAME } },
      spec: { podCIDR: podCidrs[0], podCIDRs: [...podCidrs] },
      status: { addresses: Object.values(NODE_ADDRESS).map((address) => ({ type: "InternalIP", address })) },
    });
  }

  /** Starts the agent, with further flags, and does not wait. */
  launch(...flags: readonly string[]): ChildProcess {
    const log = openSync(this.logFile, "a", 0o600);
    this.#agent = this.world.spawn(
      this.world.node,
      [
        ...this.hookline,
        "agent",
        ...["--node-name", NODE_NAME],
        ...(this.api === undefined ? ["--manifests", this.manifestsDir] : ["--api", this.api]),
        ...["--run-dir", this.runDir],
        ...["--bpf-root", this.bpfRoot],
        ...flags,
      ],
      { stdio: ["ignore", log, log], env: { ...process.env, ...this.environment } },
    );
    closeSync(log);
    return this.#agent;
  }

  /** Starts the agent, with further flags, and waits until the plugin's STATUS is content. */
  async start(...flags: readonly string[]): Promise<void> {
    const agent = this.launch(...flags);
    await waitFor(
      "agent to be ready",
      async () => {
        if (agent.exitCode !== null) throw new Error(`agent ended with ${agent.exitCode}`);
        // Costs no process, unlike a call of the plugin.
        await this.get("/v1/status");
        return (await this.call("STATUS")).status === 0;
      },
      { timeoutMs: 60_000, intervalMs: 50 },
    ).catch((thrown) => {
      throw new Error(`the agent did not get ready; its log ends with\n${this.logTail()}`, { cause: thrown });
    });
  }

  /** The agent that was started last. */
  get running(): ChildProcess | undefined {
    return this.#agent;
  }

  /** Ends the agent and waits for its end. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const agent = this.#agent;
    if (!agent || agent.exitCode !== null || agent.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => agent.once("exit", () => resolve()));
    agent.kill(signal);
    await ended;
  }

  /** The last lines of the agent's log, for messages of failed tests. */
  logTail(lines = 20): string {
    return readFileSync(this.logFile, "utf8").split("\n").slice(-lines).join("\n");
  }

  /** GETs JSON from the agent's socket. */
  get<T>(path: string): Promise<T> {
    return new Promise((resolve, reject) => {
      const socketPath = join(this.runDir, "agent.sock");
      request({ socketPath, path }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("end", () => {
          if (response.statusCode === 200) resolve(JSON.parse(text));
          else reject(new Error(`${path}: ${response.statusCode} ${text}`));
        });
      })
        .on("error", reject)
        .end();
    });
  }

  /** The plugin's configuration as a runtime that knows all versions takes it from the installed list. */
  config(): Record<string, unknown> {
    const list = JSON.parse(readFileSync(join(this.cni.confDir, "05-hookline.conflist"), "utf8"));
    return { cniVersion: list.cniVersions.at(-1), name: list.name, ...list.plugins[0] };
  }

  /** Calls the installed plugin as a runtime does, in the node's namespace. */
  async call(command: string, call: PluginCall = {}): Promise<PluginResult> {
    const { containerId = "", netns = "", ifName = "eth0", args = "", config, stdin, env } = call;
    const started = performance.now();
    const { status, stdout, stderr } = await this.world.run(this.world.node, [this.cni.plugin], {
      input: stdin ?? JSON.stringify({ ...this.config(), ...config }),
      env: {
        PATH: process.env.PATH,
        CNI_COMMAND: command,
        CNI_CONTAINERID: containerId,
        CNI_NETNS: netns === "" ? "" : netnsPath(netns),
        CNI_IFNAME: ifName,
        CNI_ARGS: args,
        CNI_PATH: dirname(this.cni.plugin),
        ...env,
      },
    });
    const ms = performance.now() - started;
    return { status, json: stdout.trim() === "" ? undefined : JSON.parse(stdout), stderr, ms };
  }

  /** A new network namespace, added as a pod. */
  async addPod(name: string): Promise<AddedPod> {
    const netns = this.world.addNetns(name);
    const args = `K8S_POD_NAMESPACE=default;K8S_POD_NAME=${name}`;
    const added = await this.call("ADD", { containerId: name, netns, args });
    assert.equal(added.status, 0, JSON.stringify(added.json));
    const [four, six] = added.json.ips.map((entry: { address: string }) => entry.address.split("/")[0]);
    return { name, netns, address: { 4: four, 6: six } };
  }

  /** Takes the pod away, then its namespace. */
  async removePod({ name, netns }: Pick<AddedPod, "name" | "netns">): Promise<void> {
    const { status, json } = await this.call("DEL", { containerId: name, netns });
    assert.equal(status, 0, JSON.stringify(json));
    this.world.removeNetns(netns);
  }

  /** Writes a manifest whole or not at all; a running agent follows. */
  write(name: string, object: Manifest): void {
    const path = join(this.manifestsDir, name);
    // A draft without the suffix of manifests: the agent must never read half a file.
    writeFileSync(`${path}.draft`, stringify(object));
    renameSync(`${path}.draft`, path);
  }
}
