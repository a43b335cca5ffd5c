// SPDX-License-Identifier: Apache-2.0
// A node with two pods for tests of the modes of masquerading: a real agent whose mode is changed by its ConfigMap, a far
// side that also plays another node and a pod of it, and a view of the node's netfilter.
import assert from "node:assert/strict";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import type { StatusReport } from "../../src/agent/status.ts";
import { waitFor } from "../../src/base/async.ts";
import { AgentNode } from "./cni-node.ts";
import {
  buildTopology,
  GATEWAY_ADDRESS,
  INTERNET_ADDRESS,
  ip,
  NODE_ADDRESS,
  NON_MASQUERADE_ADDRESS,
  type Topology,
} from "./netns.ts";

export type Family = 4 | 6;
export const FAMILIES: readonly Family[] = [4, 6];
export type Both = Readonly<Record<Family, string>>;

/** Addresses of the outside that stand for a pod of another node, and for that node. */
export const FAR_POD: Both = { 4: "10.244.9.9", 6: "fd00:10:244:9::9" };
export const FAR_NODE: Both = { 4: "172.20.0.12", 6: "fd00:20::12" };

/** What `status` calls the mode in force. */
export type Mode = StatusReport["masquerading"]["mode"];

/** Keys of the ConfigMap that make a mode. */
export const MODES = {
  BPF: {},
  IPTables: { "enable-bpf-masquerade": "false" },
  Disabled: { "enable-ipv4-masquerade": "false", "enable-ipv6-masquerade": "false" },
} as const satisfies Record<Mode, Record<string, string>>;

export interface TestPod {
  readonly netns: string;
  readonly address: Both;
}

const PROGRAM: Both = { 4: "iptables", 6: "ip6tables" };

/** Made by `build`; everything goes with the topology. */
export class ModesNode implements AsyncDisposable {
  readonly world: Topology;
  readonly agent: AgentNode;
  readonly #initial: Record<string, string>;
  #set = "{}";
  #pods: TestPod[] = [];

  private constructor(world: Topology) {
    this.world = world;
    this.agent = new AgentNode(world);
    this.#initial = parse(readFileSync(join(this.agent.manifestsDir, "config.yaml"), "utf8")).data;
  }

  static async build(): Promise<ModesNode> {
    const world = await buildTopology({ servers: false });
    try {
      for (const address of [FAR_POD, FAR_NODE]) {
        // Answered, but no source of what the outside opens.
        ip(world.outside, [
          `address add ${address[4]}/32 dev eth0`,
          `address add ${address[6]}/128 dev eth0 nodad preferred_lft 0`,
        ]);
      }
      const outside = [INTERNET_ADDRESS, NON_MASQUERADE_ADDRESS, FAR_POD, FAR_NODE, GATEWAY_ADDRESS];
      const addresses = outside.flatMap((address) => [address[4], address[6]]);
      await world.serve(world.outside, "outside", addresses);
      await world.serve(world.node, "node", [NODE_ADDRESS[4], NODE_ADDRESS[6]]);
      const node = new ModesNode(world);
      node.#write("node2.yaml", {
        apiVersion: "v1",
        kind: "Node",
        metadata: { name: "node2" },
        spec: { podCIDR: "10.244.9.0/24", podCIDRs: ["10.244.9.0/24", "fd00:10:244:9::/64"] },
        status: { addresses: Object.values(FAR_NODE).map((address) => ({ type: "InternalIP", address })) },
      });
      await node.agent.start();
      for (const name of ["a", "b"]) await node.#addPod(name);
      return node;
    } catch (thrown) {
      await world[Symbol.asyncDispose]();
      throw thrown;
    }
  }

  async #addPod(name: string): Promise<void> {
    const netns = this.world.addNetns(name);
    const args = `K8S_POD_NAMESPACE=default;K8S_POD_NAME=${name}`;
    const { status, json } = await this.agent.call("ADD", { containerId: name, netns, args });
    assert.equal(status, 0, JSON.stringify(json));
    const [v4 = "", v6 = ""] = json.ips.map((entry: { address: string }) => entry.address.split("/")[0]);
    await this.world.serve(netns, name, [v4, v6]);
    this.#pods.push({ netns, address: { 4: v4, 6: v6 } });
  }

  /** Pod 0 or 1. */
  pod(index: number): TestPod {
    const pod = this.#pods[index];
    assert.ok(pod);
    return pod;
  }

  #write(name: string, object: unknown): void {
    const path = join(this.agent.manifestsDir, name);
    writeFileSync(`${path}.draft`, stringify(object));
    renameSync(`${path}.draft`, path);
  }

  status(): Promise<StatusReport> {
    return this.agent.get<StatusReport>("/v1/status");
  }

  /** Writes these keys over those of the beginning; an agent that runs follows. */
  write(values: Record<string, string>): void {
    this.#set = JSON.stringify(values);
    this.#write("config.yaml", {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "cilium-config", namespace: "kube-system" },
      data: { ...this.#initial, ...values },
    });
  }

  /** Writes the keys of a mode, and more, and waits until they are in force. */
  async enter(mode: Mode, more: Record<string, string> = {}): Promise<void> {
    const values = { ...MODES[mode], ...more };
    if (JSON.stringify(values) !== this.#set) {
      const { config } = await this.status();
      this.write(values);
      const taken = async (): Promise<boolean> => (await this.status()).config.generation > config.generation;
      await waitFor("the configuration", taken);
    }
    const inForce = async (): Promise<boolean> => (await this.status()).masquerading.mode === mode;
    await waitFor(`mode ${mode}`, inForce).catch(async (thrown) => {
      throw new Error(`faults: ${JSON.stringify((await this.status()).faults)}`, { cause: thrown });
    });
  }

  /** Runs iptables or ip6tables on the node. */
  async iptables(family: Family, ...args: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.world.run(this.world.node, [PROGRAM[family], ...args]);
    assert.equal(status, 0, stderr);
    return stdout;
  }

  async ipset(...args: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.world.run(this.world.node, ["ipset", ...args]);
    assert.equal(status, 0, stderr);
    return stdout;
  }

  /** All chains and rules of the node, and the names of its sets. */
  async netfilter(): Promise<string[]> {
    const tables = FAMILIES.flatMap((family) =>
      ["nat", "filter"].map((table) => this.iptables(family, "-t", table, "-S")),
    );
    const texts = [...(await Promise.all(tables)), await this.ipset("list", "-name")];
    return texts.flatMap((text) => text.split("\n")).filter(Boolean);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.world[Symbol.asyncDispose]();
  }
}

/** Lines of `netfilter` that are this project's. */
export function ours(lines: readonly string[]): string[] {
  return lines.filter((line) => /hookline/i.test(line));
}
