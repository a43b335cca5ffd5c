// SPDX-License-Identifier: Apache-2.0
// How soon a running agent follows: from a change of an address, a device, the ip-masq-agent's file or an option to the first
// moment at which new flows of a pod are seen, in both families, as they must be after it.
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sleep, waitFor } from "../../src/base/async.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import { INTERNET_ADDRESS, ip, NODE_ADDRESS, POD_CIDR, type Topology } from "../../test/support/netns.ts";
import { UdpTalk } from "../../test/support/talk.ts";
import { type Spread, spread } from "../statistics.ts";
import { FAMILIES, type Family } from "../traffic/load.ts";
import { BenchNode } from "./node.ts";

type Both = Readonly<Record<Family, string>>;

/** A second card, as node eth1, and who is behind it. */
const FIRST: Both = { 4: "172.21.0.11", 6: "fd00:21::11" };
const SECOND: Both = { 4: "172.21.0.12", 6: "fd00:21::12" };
const GATEWAY: Both = { 4: "172.21.0.254", 6: "fd00:21::fe" };
const BEHIND: Both = { 4: "198.18.0.10", 6: "2001:db8:18::10" };
const BEHIND_CIDR: Both = { 4: "198.18.0.0/24", 6: "2001:db8:18::/64" };
/** Of the ip-masq-agent's file, besides one of each family that matters. */
const OTHERS = ["10.96.0.0/12", "192.0.2.0/24", "2001:db8:5::/48"];
/** For the answer to one question, and until the next. */
const ANSWER_MS = 50;
const PAUSE_MS = 2;
/** Flows keep the translation that they began with: each question is a flow of its own. */
const FIRST_PORT = 10_000;
/** Known to both sides: what is measured is not how a lost question for a neighbour is repeated after a second. */
const MAC = { node: "02:00:00:00:21:01", second: "02:00:00:00:21:02" } as const;
const LONGEST_MS = 30_000;
/** For the agent to see an address that it does not use. */
const SETTLE_MS = 500;

export interface Followed {
  readonly what: string;
  /** ms. */
  readonly times: Spread;
}

export interface ChangeCosts {
  readonly samples: number;
  readonly changes: readonly Followed[];
}

/** `change` and how flows to `host` are seen after it. */
interface Step {
  readonly change: () => void;
  readonly host: Both;
  readonly seenAs: Both;
}

/** For ip(8): on node eth1. */
function addressLines(verb: "add" | "del", address: Both): string[] {
  const nodad = verb === "add" ? " nodad" : "";
  return [`address ${verb} ${address[4]}/24 dev eth1`, `address ${verb} ${address[6]}/64 dev eth1${nodad}`];
}

function otherOf(family: Family, address: string): string {
  return (FIRST[family] === address ? SECOND : FIRST)[family];
}

class ChangingNode {
  readonly #node: BenchNode;
  readonly #second: string;
  readonly #file: string;
  #pod = "";
  #port = FIRST_PORT;
  #podAddress: Both = { 4: "", 6: "" };

  constructor(node: BenchNode) {
    this.#node = node;
    this.#second = node.world.addNetns("second");
    this.#file = join(node.world.dir, "ip-masq-agent");
  }

  get #world(): Topology {
    return this.#node.world;
  }

  async start(): Promise<void> {
    // As distributions have it: the next address of a network takes the place of the first.
    writeSysctl("net.ipv4.conf.all.promote_secondaries", 1, this.#world.node);
    ip(
      this.#second,
      FAMILIES.map((f) => `address add ${BEHIND[f]}/${f === 4 ? 32 : 128} dev lo`),
    );
    await this.#world.serve(this.#second, "second", Object.values(BEHIND));
    await this.#world.serve(this.#world.outside, "outside", Object.values(INTERNET_ADDRESS));
    this.#plug();
    this.#node.node.setConfig(this.#config({}));
    await this.#node.start();
    const { netns, address } = await this.#node.node.addPod("pod");
    [this.#pod, this.#podAddress] = [netns, address];
    await this.#follows({ change: () => undefined, host: BEHIND, seenAs: FIRST });
  }

  #config(values: Record<string, string>): Record<string, string> {
    return { devices: "eth+", "ip-masq-agent-config-path": this.#file, ...values };
  }

  #plug(): void {
    const peer = `name eth0 address ${MAC.second} netns ${this.#second}`;
    ip(this.#world.node, [`link add eth1 address ${MAC.node} type veth peer ${peer}`]);
    const known = (address: Both, mac: string, device: string): string[] =>
      FAMILIES.map((f) => `neigh replace ${address[f]} lladdr ${mac} nud permanent dev ${device}`);
    ip(this.#second, [
      `address add ${GATEWAY[4]}/24 dev eth0`,
      `address add ${GATEWAY[6]}/64 dev eth0 nodad`,
      "link set eth0 up",
      ...[FIRST, SECOND].flatMap((address) => known(address, MAC.node, "eth0")),
      ...FAMILIES.map((f) => `route add ${POD_CIDR[f]} via ${FIRST[f]}`),
    ]);
    this.#address(["link set eth1 up", ...known(GATEWAY, MAC.second, "eth1"), ...addressLines("add", FIRST)]);
  }

  #address(lines: readonly string[]): void {
    const routes = FAMILIES.map((f) => `route replace ${BEHIND_CIDR[f]} via ${GATEWAY[f]} dev eth1`);
    ip(this.#world.node, [...lines, ...routes]);
  }

  async #seen(host: Both): Promise<Both> {
    await sleep(PAUSE_MS);
    const localPort = this.#port++;
    const asked = FAMILIES.map(async (f) => {
      using talk = new UdpTalk({ netns: this.#pod, host: host[f], localPort });
      return await talk.peer(ANSWER_MS);
    });
    const [four = "", six = ""] = await Promise.all(asked);
    return { 4: four, 6: six };
  }

  /** Under which addresses flows over the second card are seen. */
  #inUse(): Promise<Both> {
    return waitFor("an answer in both families", async () => {
      const seen = await this.#seen(BEHIND);
      return seen[4] !== "" && seen[6] !== "" && seen;
    });
  }

  /** ms from before the change. */
  async #follows({ change, host, seenAs }: Step): Promise<number> {
    const started = performance.now();
    change();
    for (;;) {
      const seen = await this.#seen(host);
      const took = performance.now() - started;
      if (FAMILIES.every((f) => seen[f] === seenAs[f])) return took;
      if (took > LONGEST_MS)
        throw new Error(`seen as ${JSON.stringify(seen)}, not ${JSON.stringify(seenAs)}`);
    }
  }

  /** Another address comes, the one so far goes. */
  async addressReplaced(): Promise<number[]> {
    const from = await this.#inUse();
    const seenAs = { 4: otherOf(4, from[4]), 6: otherOf(6, from[6]) };
    const lines = [...addressLines("add", seenAs), ...addressLines("del", from)];
    return [await this.#follows({ change: () => this.#address(lines), host: BEHIND, seenAs })];
  }

  /** The card has both addresses and loses the one in use of each family. */
  async addressRemoved(): Promise<number[]> {
    const other = (address: Both): Both => ({ 4: otherOf(4, address[4]), 6: otherOf(6, address[6]) });
    const line = (verb: "add" | "del", address: Both): void => this.#address(addressLines(verb, address));
    line("add", other(await this.#inUse()));
    await sleep(SETTLE_MS);
    const goes = await this.#inUse();
    const change = (): void => line("del", goes);
    return [await this.#follows({ change, host: BEHIND, seenAs: other(goes) })];
  }

  /** The card goes, and another one comes. */
  async deviceAdded(): Promise<number[]> {
    ip(this.#world.node, ["link del eth1"]);
    return [await this.#follows({ change: () => this.#plug(), host: BEHIND, seenAs: FIRST })];
  }

  /** Five ranges, among them the servers' networks or not. */
  async fileReplaced(): Promise<number[]> {
    const step = (ranges: readonly string[], seenAs: Both): Step => ({
      change: () => {
        writeFileSync(`${this.#file}.draft`, JSON.stringify({ nonMasqueradeCIDRs: [...OTHERS, ...ranges] }));
        renameSync(`${this.#file}.draft`, this.#file);
      },
      host: INTERNET_ADDRESS,
      seenAs,
    });
    return [
      await this.#follows(step(["198.51.100.0/24", "2001:db8:100::/64"], this.#podAddress)),
      await this.#follows(step(["203.0.113.0/24", "2001:db8:113::/64"], NODE_ADDRESS)),
    ];
  }

  /** An option of the programs: they are loaded anew. */
  async optionChanged(): Promise<number[]> {
    const step = (value: string, seenAs: Both): Step => {
      const values = { "enable-ipv4-masquerade": value, "enable-ipv6-masquerade": value };
      return {
        change: () => this.#node.node.setConfig(this.#config(values)),
        host: INTERNET_ADDRESS,
        seenAs,
      };
    };
    return [
      await this.#follows(step("false", this.#podAddress)),
      await this.#follows(step("true", NODE_ADDRESS)),
    ];
  }
}

/** Measures on an unpinned thread. */
export async function costOfChanges(quick: boolean): Promise<ChangeCosts> {
  await using bench = await BenchNode.make({ pods: 0, cluster: false });
  const node = new ChangingNode(bench);
  await node.start();
  const kinds: readonly [what: string, once: () => Promise<number[]>][] = [
    ["an address of a device replaced by another", () => node.addressReplaced()],
    ["the address in use removed, another one there", () => node.addressRemoved()],
    ["a device added", () => node.deviceAdded()],
    ["ip-masq-agent's file of 5 ranges replaced", () => node.fileReplaced()],
    ["an option of the ConfigMap changed, programs replaced", () => node.optionChanged()],
  ];
  const samples = quick ? 1 : 6;
  const changes: Followed[] = [];
  for (const [what, once] of kinds) {
    const times: number[] = [];
    while (times.length < samples) times.push(...(await once()));
    changes.push({ what, times: spread(times) });
  }
  return { samples, changes };
}
