// SPDX-License-Identifier: Apache-2.0
// The node that packet tests pretend to be: devices, addresses, routes and neighbours in a namespace of their own, so that
// bpf_fib_lookup and the socket look-ups answer as on a real one. The far ends of all cables lie in another namespace; what is
// sent there arrives at the node.
//
//   pod a 10.244.1.5 fd00:10:244:1::5 ---- hla          eth0 172.20.0.11 fd00:20::11, default gateway .254 ::fe
//   pod b 10.244.1.6 fd00:10:244:1::6 ---- hlb          eth1 172.21.0.11 fd00:21::11, routes 198.18.0.0/24, 2001:db8:18::/64
//                                                       un0  172.22.0.11 fd00:22::11, not managed
import { writeFileSync } from "node:fs";
import { NO_ADDRESS } from "../../src/base/addr.ts";
import { parsePrefix } from "../../src/base/prefix.ts";
import { getLink } from "../../src/kernel/netlink/link.ts";
import { openRtNetlink } from "../../src/kernel/netlink/socket.ts";
import { withNetns } from "../../src/kernel/netns.ts";
import { MAPS } from "../../src/maps/gen/maps.ts";
import type { Endpoint } from "../../src/maps/gen/types.ts";
import { DeviceFlag, MasqueradeRule, RemoteFlag } from "../../src/maps/gen/verdict.ts";
import type { TestDatapath } from "./datapath.ts";
import { ip, Topology } from "./netns.ts";

/** Both families of one place. */
export interface Both {
  readonly 4: string;
  readonly 6: string;
}

export const POD_A: Both = { 4: "10.244.1.5", 6: "fd00:10:244:1::5" };
export const POD_B: Both = { 4: "10.244.1.6", 6: "fd00:10:244:1::6" };
/** A pod of another node. */
export const POD_FAR: Both = { 4: "10.244.2.5", 6: "fd00:10:244:2::5" };
export const NODE: Both = { 4: "172.20.0.11", 6: "fd00:20::11" };
export const NODE_ETH1: Both = { 4: "172.21.0.11", 6: "fd00:21::11" };
export const NODE_FAR: Both = { 4: "172.20.0.12", 6: "fd00:20::12" };
/** Reached by the default route. */
export const INTERNET: Both = { 4: "198.51.100.10", 6: "2001:db8:100::10" };
/** Reached by eth1. */
export const BY_ETH1: Both = { 4: "198.18.0.10", 6: "2001:db8:18::10" };
/** Reached by a device without our programs. */
export const BY_UNMANAGED: Both = { 4: "172.22.0.99", 6: "fd00:22::99" };
/** Reached by a route with a locked MTU of 1300: the only one that bpf_fib_lookup honours. */
export const BY_NARROW: Both = { 4: "198.51.101.10", 6: "2001:db8:101::10" };
/** Reached by a route with another preferred source. */
export const BY_SOURCE: Both = { 4: "198.51.103.10", 6: "2001:db8:103::10" };
export const ROUTE_SOURCE: Both = { 4: "172.20.0.77", 6: "fd00:20::77" };
/** In nonMasqueradeCIDRs, line 3 of the agent's table. */
export const EXCLUDED: Both = { 4: "203.0.113.10", 6: "2001:db8:113::10" };
export const EXCLUDED_SOURCE = 3;
/** A prohibited route. */
export const PROHIBITED: Both = { 4: "198.51.102.10", 6: "2001:db8:102::10" };

export const MAC = {
  podA: "02:00:0a:f4:01:05",
  hostA: "02:00:0a:f4:ff:05",
  podB: "02:00:0a:f4:01:06",
  hostB: "02:00:0a:f4:ff:06",
  eth0: "02:00:ac:14:00:0b",
  gateway: "02:00:ac:14:00:fe",
} as const;

export const ENDPOINT_A = 101;
export const ENDPOINT_B = 102;
const IDENTITY_A = 4242;

/** Devices by name to index. */
export type Devices = Record<"hla" | "hlb" | "eth0" | "eth1" | "un0", number>;

function veth(name: string, mac: string, far: string): string[] {
  return [
    `link add ${name} address ${mac} type veth peer name far-${name} netns ${far}`,
    `link set ${name} up`,
  ];
}

const NODE_SETUP = [
  `addr add ${NODE[4]}/24 dev eth0`,
  `addr add ${ROUTE_SOURCE[4]}/24 dev eth0`,
  `addr add ${NODE[6]}/64 dev eth0 nodad`,
  `addr add ${ROUTE_SOURCE[6]}/64 dev eth0 nodad`,
  `addr add ${NODE_ETH1[4]}/24 dev eth1`,
  `addr add ${NODE_ETH1[6]}/64 dev eth1 nodad`,
  "addr add 172.22.0.11/24 dev un0",
  "addr add fd00:22::11/64 dev un0 nodad",
  "route add default via 172.20.0.254 dev eth0",
  "route add default via fd00:20::fe dev eth0",
  "route add 10.244.2.0/24 via 172.20.0.12",
  "route add fd00:10:244:2::/64 via fd00:20::12",
  "route add 198.18.0.0/24 via 172.21.0.254",
  "route add 2001:db8:18::/64 via fd00:21::fe",
  "route add 198.51.101.0/24 via 172.20.0.254 mtu lock 1300",
  "route add 2001:db8:101::/64 via fd00:20::fe mtu lock 1300",
  "route add prohibit 198.51.102.0/24",
  "route add prohibit 2001:db8:102::/64",
  `route add 198.51.103.0/24 via 172.20.0.254 src ${ROUTE_SOURCE[4]}`,
  `route add 2001:db8:103::/64 via fd00:20::fe src ${ROUTE_SOURCE[6]}`,
  `route add ${POD_A[4]} dev hla`,
  `route add ${POD_A[6]} dev hla`,
  `route add ${POD_B[4]} dev hlb`,
  `route add ${POD_B[6]} dev hlb`,
];

/** Makes these pods, both of word 1, the ones that there are. */
export function setLive(datapath: TestDatapath, ids: readonly number[]): void {
  const bits = ids.reduce((sum, id) => sum | (1n << BigInt(id % 64)), 0n);
  datapath.table(MAPS.endpoint_ids).set(Math.floor(ENDPOINT_A / 64), bits);
}

/** The namespace of the node, and what was found in it. Dispose of it at the end. */
export class PacketNode implements AsyncDisposable {
  readonly #topology = new Topology();
  readonly netns: string;
  /** Holds the far ends: `far-hla` and so on. */
  readonly far: string;
  readonly devices: Devices;

  constructor() {
    this.netns = this.#topology.addNetns("node");
    const far = this.#topology.addNetns("far");
    this.far = far;
    const links = [
      ...veth("hla", MAC.hostA, far),
      ...veth("hlb", MAC.hostB, far),
      ...veth("eth0", MAC.eth0, far),
      ...veth("eth1", "02:00:ac:15:00:0b", far),
      ...veth("un0", "02:00:ac:16:00:0b", far),
    ];
    ip(this.netns, links);
    ip(
      far,
      ["hla", "hlb", "eth0", "eth1", "un0"].map((name) => `link set far-${name} up`),
    );
    ip(this.netns, NODE_SETUP);
    this.devices = withNetns(this.netns, () => {
      writeFileSync("/proc/sys/net/ipv4/ip_forward", "1");
      writeFileSync("/proc/sys/net/ipv6/conf/all/forwarding", "1");
      using netlink = openRtNetlink();
      const index = (name: string): number => getLink(netlink, name).index;
      return {
        hla: index("hla"),
        hlb: index("hlb"),
        eth0: index("eth0"),
        eth1: index("eth1"),
        un0: index("un0"),
      };
    });
  }

  /** Makes the maps that the agent writes say what the picture above shows, and nothing else. */
  describe(datapath: TestDatapath): void {
    const { endpoints, endpoint_addrs, devices, nonmasq_cidrs, ipcache, node_addrs, reserved_ports } = MAPS;
    for (const row of [endpoints, endpoint_addrs, devices, nonmasq_cidrs, ipcache, node_addrs])
      datapath.table(row as never).clear();
    for (const [word, bits] of datapath.table(reserved_ports).entries()) {
      if (bits !== 0n) datapath.table(reserved_ports).set(word, 0n);
    }
    const { hla, hlb, eth0, eth1 } = this.devices;
    const shared = { identity: IDENTITY_A, flags: 0 };
    const a: Endpoint = {
      ...shared,
      addr4: POD_A[4],
      addr6: POD_A[6],
      ifindex: hla,
      id: ENDPOINT_A,
      mac: MAC.podA,
      hostMac: MAC.hostA,
    };
    const b: Endpoint = {
      ...shared,
      addr4: POD_B[4],
      addr6: POD_B[6],
      ifindex: hlb,
      id: ENDPOINT_B,
      mac: MAC.podB,
      hostMac: MAC.hostB,
    };
    setLive(datapath, [ENDPOINT_A, ENDPOINT_B]);
    for (const pod of [a, b]) {
      datapath.table(MAPS.endpoints).set(pod.ifindex, pod);
      datapath.table(MAPS.endpoint_addrs).set(pod.addr4, pod);
      datapath.table(MAPS.endpoint_addrs).set(pod.addr6, pod);
    }
    const native = { mtu: 1500, flags: DeviceFlag.DEVICE_ONE_WAY };
    datapath.table(MAPS.devices).set(eth0, { addr4: NODE[4], addr6: NODE[6], ...native });
    datapath.table(MAPS.devices).set(eth1, { addr4: NODE_ETH1[4], addr6: NODE_ETH1[6], ...native });
    for (const address of [NODE, ROUTE_SOURCE].flatMap((both) => [both[4], both[6]]))
      datapath.table(node_addrs).set(address, eth0);
    for (const address of [NODE_ETH1[4], NODE_ETH1[6]]) datapath.table(node_addrs).set(address, eth1);
    const excluded = datapath.table(MAPS.nonmasq_cidrs);
    const cluster = { rule: MasqueradeRule.MASQ_NATIVE_CIDR, source: 0 };
    excluded.set(parsePrefix("10.244.0.0/16"), cluster);
    excluded.set(parsePrefix("fd00:10:244::/48"), cluster);
    const listed = { rule: MasqueradeRule.MASQ_NONMASQ_CIDR, source: EXCLUDED_SOURCE };
    excluded.set(parsePrefix("203.0.113.0/24"), listed);
    excluded.set(parsePrefix("2001:db8:113::/64"), listed);
    for (const address of [NODE_FAR[4], NODE_FAR[6]]) {
      const remote = { identity: 6, flags: RemoteFlag.REMOTE_NODE, node: NO_ADDRESS };
      datapath.table(MAPS.ipcache).set(parsePrefix(address), remote);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#topology[Symbol.asyncDispose]();
  }
}
