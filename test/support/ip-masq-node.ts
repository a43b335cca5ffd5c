// SPDX-License-Identifier: Apache-2.0
// A node for tests of the ip-masq-agent: a real agent and a pod, servers outside in and out of the sets, the document as
// file or as ConfigMap; and what map, CLI, status and packets say of the set in force.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parse, stringify } from "yaml";
import type { StatusReport } from "../../src/agent/status.ts";
import { waitFor } from "../../src/base/async.ts";
import { comparePrefixes, formatPrefix, parsePrefix, prefixContains } from "../../src/base/prefix.ts";
import { MasqueradeRule } from "../../src/maps/gen/verdict.ts";
import { openPinned } from "../../src/maps/table.ts";
import { DEFAULT_RANGES } from "../../src/source/ip-masq-agent.ts";
import { peersSeen } from "./ask.ts";
import { AgentNode } from "./cni-node.ts";
import { buildTopology, GATEWAY_ADDRESS, ip, NODE_ADDRESS, type Topology } from "./netns.ts";

const HOOKLINE = join(import.meta.dirname, "../../src/bin/hookline.ts");
/** In the defaults, in no set, link-local; IPv6 has no defaults. */
const SERVERS = ["203.0.113.10", "9.9.9.10", "169.254.77.10", "2001:db8:113::10", "2001:db8:100::10"];
export const LINK_LOCAL = ["169.254.0.0/16", "fe80::/10"];
export const DEFAULTS = [...DEFAULT_RANGES, ...LINK_LOCAL];
/** A document and its set, which holds one server of each family that the defaults do not. */
export const ONE_TEXT = "nonMasqueradeCIDRs:\n- 9.9.9.0/24\n- 2001:db8:100::/48\n";
export const ONE = ["9.9.9.0/24", "2001:db8:100::/48", ...LINK_LOCAL];

const familyOf = (address: string): 4 | 6 => (address.includes(":") ? 6 : 4);

/** Ranges in the order of lists. */
export function sorted(ranges: readonly string[]): string[] {
  return ranges.map(parsePrefix).sort(comparePrefixes).map(formatPrefix);
}

/** Replaces a file as editors do: whole or not at all. */
export function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.draft`, text);
  renameSync(`${path}.draft`, path);
}

/** One of the two places of a document. */
export interface Place {
  readonly name: "file" | "ConfigMap";
  /** As `status` calls it. */
  readonly origin: string;
  readonly write: (text: string) => void;
  readonly clear: () => void;
}

/** A running node whose ip-masq-agent is on and has no document. */
export class IpMasqNode {
  readonly world: Topology;
  readonly agent: AgentNode;
  readonly file: string;
  readonly #mapFile: string;
  readonly #configFile: string;
  readonly #initial: Readonly<Record<string, string>>;
  /** Namespace and addresses of the pod. */
  pod = "";
  podAddress: Record<4 | 6, string> = { 4: "", 6: "" };

  private constructor(world: Topology) {
    this.world = world;
    this.agent = new AgentNode(world);
    this.file = join(world.dir, "ip-masq/deep/ip-masq-agent");
    this.#mapFile = join(this.agent.manifestsDir, "ip-masq-agent.yaml");
    this.#configFile = join(this.agent.manifestsDir, "config.yaml");
    rmSync(this.#mapFile);
    this.#initial = {
      ...parse(readFileSync(this.#configFile, "utf8")).data,
      "ip-masq-agent-config-path": this.file,
    };
    this.setConfig({});
  }

  /** To be disposed of by its `world`. */
  static async start(): Promise<IpMasqNode> {
    const world = await buildTopology({ servers: false });
    try {
      const far = ["9.9.9.10", "169.254.77.10"].map((address) => `address add ${address}/32 dev lo`);
      ip(world.outside, far);
      // Not link-local for the node: what it routes to is what pods send.
      ip(world.node, [`route add 169.254.77.0/24 via ${GATEWAY_ADDRESS[4]}`]);
      await world.serve(world.outside, "outside", SERVERS);
      const node = new IpMasqNode(world);
      await node.agent.start();
      node.pod = world.addNetns("pod");
      const { json } = await node.agent.call("ADD", { containerId: "pod", netns: node.pod });
      const [v4, v6] = json.ips.map(({ address }: { address: string }) => address.replace(/\/.*/, ""));
      node.podAddress = { 4: v4, 6: v6 };
      return node;
    } catch (thrown) {
      await world[Symbol.asyncDispose]();
      throw thrown;
    }
  }

  #writeMap(path: string, name: string, data: Record<string, string>): void {
    const metadata = { name, namespace: "kube-system" };
    replaceFile(path, stringify({ apiVersion: "v1", kind: "ConfigMap", metadata, data }));
  }

  /** ConfigMap cilium-config with these values over those of the beginning. */
  setConfig(values: Record<string, string>): void {
    this.#writeMap(this.#configFile, "cilium-config", { ...this.#initial, ...values });
  }

  /** ConfigMap ip-masq-agent; undefined: none. */
  setMap(data: Record<string, string> | undefined): void {
    if (data === undefined) rmSync(this.#mapFile, { force: true });
    else this.#writeMap(this.#mapFile, "ip-masq-agent", data);
  }

  /** The file, renamed into place. */
  writeFile(text: string): void {
    mkdirSync(dirname(this.file), { recursive: true });
    replaceFile(this.file, text);
  }

  get places(): readonly [file: Place, configMap: Place] {
    return [
      {
        name: "file",
        origin: this.file,
        write: (text) => this.writeFile(text),
        clear: () => rmSync(this.file, { force: true }),
      },
      {
        name: "ConfigMap",
        origin: "ConfigMap kube-system/ip-masq-agent",
        write: (text) => this.setMap({ config: text }),
        clear: () => this.setMap(undefined),
      },
    ];
  }

  status(): Promise<StatusReport> {
    return this.agent.get<StatusReport>("/v1/status");
  }

  async ipMasqAgent(): Promise<StatusReport["masquerading"]["ipMasqAgent"]> {
    return (await this.status()).masquerading.ipMasqAgent;
  }

  /** Until `status` has a fault of this text, or with undefined has none. */
  async tells(fault: string | undefined): Promise<void> {
    const told = async (): Promise<boolean> => {
      const { faults } = await this.status();
      return fault === undefined ? faults.length === 0 : faults.includes(fault);
    };
    await waitFor(fault ?? "no fault", told);
  }

  /** The agent's ranges in the kernel. */
  ranges(): string[] {
    using table = openPinned(this.agent.bpfRoot, "nonmasq_cidrs");
    const entries = [...table.entries()].filter(([, { rule }]) => rule === MasqueradeRule.MASQ_NONMASQ_CIDR);
    return sorted(entries.map(([prefix]) => formatPrefix(prefix)));
  }

  /** Until the kernel holds exactly this set. */
  async inForce(expected: readonly string[]): Promise<void> {
    const wanted = sorted(expected).join();
    const same = (): boolean => this.ranges().join() === wanted;
    await waitFor("the set", same, { intervalMs: 5 }).catch((thrown) =>
      assert.equal(this.ranges().join("\n"), sorted(expected).join("\n"), String(thrown)),
    );
  }

  /** What a command prints; it must end with 0. */
  async cli(...args: string[]): Promise<string> {
    const argv = [process.execPath, HOOKLINE, "--run-dir", this.agent.runDir, ...args];
    const { status: exit, stdout, stderr } = await this.world.run(this.world.node, argv);
    assert.equal(exit, 0, stderr);
    return stdout;
  }

  /** Who each server sees when the pod calls it now, over TCP. */
  async seen(): Promise<Record<string, string>> {
    const targets = SERVERS.map((server) => `tcp:${server}`);
    const answers = Object.entries(await peersSeen(this.pod, targets));
    return Object.fromEntries(answers.map(([target, peer]) => [target.slice("tcp:".length), peer]));
  }

  /** Map, CLI, status and packets agree on a set. */
  async holds(expected: readonly string[], origin: string): Promise<void> {
    await this.inForce(expected);
    const said = async (): Promise<boolean> => (await this.ipMasqAgent()).origin === origin;
    await waitFor(`${origin} to be in force`, said);
    const lines = ["IP PREFIX/ADDRESS", ...sorted(expected), ""];
    assert.equal(await this.cli("bpf", "ipmasq", "list"), lines.join("\n"));
    assert.equal((await this.ipMasqAgent()).ranges, expected.length);
    const own = (server: string): boolean =>
      expected.some((range) => prefixContains(parsePrefix(range), server));
    const peers = SERVERS.map((server) => {
      const family = familyOf(server);
      return [server, own(server) ? this.podAddress[family] : NODE_ADDRESS[family]];
    });
    assert.deepEqual(await this.seen(), Object.fromEntries(peers));
  }
}
