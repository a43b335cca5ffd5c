// SPDX-License-Identifier: Apache-2.0
// One world per mode and round of the traffic benchmark: a pod, its node and the outside, wired alike in every mode, as
// the agent wires a pod. What differs is who gives the pod's packets the node's address on the way out.
//
//   pod eth0 10.244.1.5 ---- hlpod node eth0 172.20.0.11 ---- eth0 172.20.0.254 outside, 198.51.100.10 to .17
//       fd00:10:244:1::5                fd00:20::11                fd00:20::fe       2001:db8:100::10 to ::17
import { writeFileSync } from "node:fs";
import { withNetns } from "../../src/kernel/netns.ts";
import { ip, Topology } from "../../test/support/netns.ts";
import { CLUSTER_CIDR, GATEWAY, INTERNET, MAC, NODE, POD, POD_CIDR } from "./addresses.ts";
import { HooklineNode } from "./node.ts";

export const MODES = ["routing", "iptables", "nftables", "hookline"] as const;
export type Mode = (typeof MODES)[number];
export const MODE_TITLES: Record<Mode, string> = {
  routing: "plain routing",
  iptables: "iptables MASQUERADE",
  nftables: "nftables masquerade",
  hookline: "Hookline",
};

/** Next hops of a pod: no device has them. */
const POD_GATEWAY = { 4: "169.254.1.1", 6: "fe80::1" } as const;

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
    writeFileSync("/proc/sys/net/ipv6/conf/all/forwarding", "1");
    for (const scope of ["all", "default"]) writeFileSync(`/proc/sys/net/ipv4/conf/${scope}/rp_filter`, "0");
  });
  ip(node, [
    `link add hlpod address ${MAC.host} type veth peer name eth0 address ${MAC.pod} netns ${pod}`,
    `link add eth0 type veth peer name eth0 netns ${outside}`,
    "link set hlpod up",
    "link set eth0 up",
    `address add ${NODE[4]}/24 dev eth0`,
    `address add ${NODE[6]}/64 dev eth0 nodad`,
    `route add ${POD[4]}/32 dev hlpod`,
    `route add ${POD[6]}/128 dev hlpod`,
    `neigh replace ${POD[4]} lladdr ${MAC.pod} dev hlpod nud permanent`,
    `neigh replace ${POD[6]} lladdr ${MAC.pod} dev hlpod nud permanent`,
    `route add default via ${GATEWAY[4]}`,
    `route add default via ${GATEWAY[6]} dev eth0`,
  ]);
  ip(pod, [
    `address add ${POD[4]}/32 dev eth0`,
    `address add ${POD[6]}/128 dev eth0 nodad`,
    "link set eth0 up",
    `route add ${POD_GATEWAY[4]} dev eth0 scope link`,
    `route add default via ${POD_GATEWAY[4]}`,
    `route add default via ${POD_GATEWAY[6]} dev eth0`,
    `neigh replace ${POD_GATEWAY[4]} lladdr ${MAC.host} dev eth0 nud permanent`,
    `neigh replace ${POD_GATEWAY[6]} lladdr ${MAC.host} dev eth0 nud permanent`,
  ]);
  ip(outside, [
    `address add ${GATEWAY[4]}/24 dev eth0`,
    `address add ${GATEWAY[6]}/64 dev eth0 nodad`,
    ...INTERNET[4].map((address) => `address add ${address}/24 dev eth0`),
    ...INTERNET[6].map((address) => `address add ${address}/64 dev eth0 nodad`),
    "link set eth0 up",
    `route add ${POD_CIDR[4]} via ${NODE[4]}`,
    `route add ${POD_CIDR[6]} via ${NODE[6]}`,
  ]);
  return { pod, node, outside };
}

async function must(topology: Topology, netns: string, argv: readonly string[], input = ""): Promise<void> {
  const done = await topology.run(netns, argv, { input });
  if (done.status !== 0) throw new Error(`${argv.join(" ")}: ${done.stderr}`);
}

const NFT_RULES = ([4, 6] as const)
  .map((family) => {
    const ip = family === 4 ? "ip" : "ip6";
    return `table ${ip} nat {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ${ip} saddr ${POD_CIDR[family]} ${ip} daddr != ${CLUSTER_CIDR[family]} oifname "eth0" masquerade
  }
}
`;
  })
  .join("");

/** Adds the rule of one family. */
async function addIptablesRule(topology: Topology, node: string, family: 4 | 6): Promise<void> {
  const command = family === 4 ? "iptables" : "ip6tables";
  const what = ["-s", POD_CIDR[family], "!", "-d", CLUSTER_CIDR[family], "-o", "eth0"];
  const argv = [command, "-w", "-t", "nat", "-A", "POSTROUTING", ...what, "-j", "MASQUERADE"];
  await must(topology, node, argv);
}

/** Builds a world. Dispose of it before the next. */
export async function buildWorld(mode: Mode, cpu: number): Promise<World> {
  const topology = new Topology("hlb");
  let hookline: HooklineNode | undefined;
  try {
    const names = wire(topology);
    if (mode === "iptables") {
      await addIptablesRule(topology, names.node, 4);
      await addIptablesRule(topology, names.node, 6);
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
