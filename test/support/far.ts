// SPDX-License-Identifier: Apache-2.0
// A host one router beyond the topology's outside, behind a link that is too narrow for what a node sends: what traceroute
// and path MTU discovery need.
//
//   node ---- outside (router) far0 192.0.2.1/24 2001:db8:2::1/64 ---- MTU 1300 ---- far eth0 192.0.2.10 2001:db8:2::10
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import { ip, type Topology } from "./netns.ts";

export const FAR_ADDRESS = { 4: "192.0.2.10", 6: "2001:db8:2::10" } as const;
export const FAR_MTU = 1300;

/** ICMP errors without a limit to their rate: tests ask faster than people. */
export function answerAlways(netns: string): void {
  writeSysctl("net.ipv4.icmp_ratelimit", 0, netns);
  writeSysctl("net.ipv6.icmp.ratelimit", 0, netns);
}

/** Adds the host, with the servers of outside-server.ts; gives the name of its namespace. */
export async function addFarHost(world: Topology): Promise<string> {
  const far = world.addNetns("far");
  ip(world.outside, [
    `link add far0 mtu ${FAR_MTU} type veth peer name eth0 mtu ${FAR_MTU} netns ${far}`,
    "address add 192.0.2.1/24 dev far0",
    "address add 2001:db8:2::1/64 dev far0 nodad",
    "link set far0 up",
  ]);
  ip(far, [
    `address add ${FAR_ADDRESS[4]}/24 dev eth0`,
    `address add ${FAR_ADDRESS[6]}/64 dev eth0 nodad`,
    "link set eth0 up",
    // It claims to take what does not fit through its link, as a host behind a narrower link further on does: senders must
    // find out.
    "route add default via 192.0.2.1 advmss 1460",
    "route add default via 2001:db8:2::1 advmss 1440",
  ]);
  for (const name of ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"])
    writeSysctl(name, 1, world.outside);
  for (const netns of [world.node, world.outside, far]) answerAlways(netns);
  await world.serve(far, "far", Object.values(FAR_ADDRESS));
  return far;
}
