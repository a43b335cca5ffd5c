// SPDX-License-Identifier: Apache-2.0
// One world per mode and round of the masquerade benchmark: a pod, its node and the outside, wired alike in every mode, as
// the agent wires a pod. What differs is who gives the pod's packets the node's address on the way out.
//
//   pod eth0 10.244.1.5 ---- hlpod node eth0 172.20.0.11 ---- eth0 172.20.0.254 outside, 198.51.100.10 to .17
import { writeFileSync } from "node:fs";
import { withNetns } from "../src/kernel/netns.ts";
import { ip, Topology } from "../test/support/netns.ts";
import { GATEWAY, INTERNET, MAC, NODE, POD, POD_CIDR } from "./masquerade-addresses.ts";
import { HooklineNode } from "./masquerade-node.ts";

export const MODES = ["routing", "iptables", "nftables", "hookline"] as const;
export type Mode = (typeof MODES)[number];
export const MODE_TITLES: Record<Mode, string> = {
  routing: "plain routing",
  iptables: "iptables MASQUERADE",
  nftables: "nftables masquerade",
  hookline: "Hookline",
};

/** Next hop of a pod: no device has it. */
const POD_GATEWAY = "169.254.1.1";

export interface World {
  readonly topology: Topology;
  readonly pod: string;
  readonly node: string;
  readonly outside: string;
  /** The processor on which clients and servers run. */
  readonly cpu: number;
  /** A process that lives in `outside`. */
  outsidePid(): number;
  [Symbol.asyncDispose](): Promise<void>;
}

function wire(topology: Topology): Pick<World, "pod" | "node" | "outside"> {
  const [pod, node, outside] = ["pod", "node", "out"].map((name) => topology.addNetns(name)) as [
    string,
    string,
    string,
  ];
  withNetns(node, () => {
    writeFileSync("/proc/sys/net/ipv4/ip_forward", "1");
    for (const scope of ["all", "default"]) writeFileSync(`/proc/sys/net/ipv4/conf/${scope}/rp_filter`, "0");
  });
  ip(node, [
    `link add hlpod address ${MAC.host} type veth peer name eth0 address ${MAC.pod} netns ${pod}`,
    `link add eth0 type veth peer name eth0 netns ${outside}`,
    "link set hlpod up",
    "link set eth0 up",
    `address add ${NODE}/24 dev eth0`,
    `route add ${POD}/32 dev hlpod`,
    `neigh replace ${POD} lladdr ${MAC.pod} dev hlpod nud permanent`,
    `route add default via ${GATEWAY}`,
  ]);
  ip(pod, [
    `address add ${POD}/32 dev eth0`,
    "link set eth0 up",
    `route add ${POD_GATEWAY} dev eth0 scope link`,
    `route add default via ${POD_GATEWAY}`,
    `neigh replace ${POD_GATEWAY} lladdr ${MAC.host} dev eth0 nud permanent`,
  ]);
  ip(outside, [
    `address add ${GATEWAY}/24 dev eth0`,
    ...INTERNET.map((address) => `address add ${address}/24 dev eth0`),
    "link set eth0 up",
    `route add ${POD_CIDR} via ${NODE}`,
  ]);
  return { pod, node, outside };
}

async function must(topology: Topology, netns: string, argv: readonly string[], input = ""): Promise<void> {
  const done = await topology.run(netns, argv, { input });
  if (done.status !== 0) throw new Error(`${argv.join(" ")}: ${done.stderr}`);
}

const NFT_RULES = `table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${POD_CIDR} ip daddr != 10.244.0.0/16 oifname "eth0" masquerade
  }
}
`;

/** Builds a world. Dispose of it before the next. */
export async function buildWorld(mode: Mode, cpu: number): Promise<World> {
  const topology = new Topology("hlb");
  let hookline: HooklineNode | undefined;
  try {
    const names = wire(topology);
    if (mode === "iptables") {
      const rule = `-s ${POD_CIDR} ! -d 10.244.0.0/16 -o eth0 -j MASQUERADE`.split(" ");
      await must(topology, names.node, ["iptables", "-w", "-t", "nat", "-A", "POSTROUTING", ...rule]);
    } else if (mode === "nftables") {
      await must(topology, names.node, ["nft", "-f", "-"], NFT_RULES);
    } else if (mode === "hookline") {
      hookline = new HooklineNode(names.node, topology.dir);
    }
    const sleeper = topology.spawn(names.outside, ["sleep", "infinity"], { stdio: "ignore" });
    return {
      topology,
      ...names,
      cpu,
      outsidePid: () => sleeper.pid ?? 0,
      [Symbol.asyncDispose]: async () => {
        hookline?.close();
        await topology[Symbol.asyncDispose]();
      },
    };
  } catch (thrown) {
    hookline?.close();
    await topology[Symbol.asyncDispose]();
    throw thrown;
  }
}
