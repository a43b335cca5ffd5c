// SPDX-License-Identifier: Apache-2.0
// The lab's cables: a switch in a namespace of its own, every node and the outside on one of its ports, addresses and
// the routes that machines of a data centre would have. Nothing of it lies in this host's namespace.
import type { Address } from "../base/addr.ts";
import { familyOf } from "../base/addr.ts";
import { parsePrefix } from "../base/prefix.ts";
import { addAddress } from "../kernel/netlink/address.ts";
import type { Request } from "../kernel/netlink/codec.ts";
import { addBridge, addVeth, getLink, setLink } from "../kernel/netlink/link.ts";
import { addRoute, RouteProtocol } from "../kernel/netlink/route.ts";
import { openRtNetlink } from "../kernel/netlink/socket.ts";
import { createNetns, type Netns } from "../kernel/netns.ts";
import { type LabPlan, UNDERLAY_LENGTH } from "./plan.ts";

const BRIDGE = "br0";
const CARD = "eth0";

/** One machine on the switch. */
interface Machine {
  netns: string;
  /** Name of its port on the switch. */
  port: string;
  addresses: Address[];
  routes: { to: string; via: Address }[];
}

function machines(plan: LabPlan): Machine[] {
  const { outside } = plan;
  const [gateway4, gateway6] = outside.gateway;
  const nodes = plan.nodes.map((node) => ({
    netns: node.netns,
    port: node.name,
    addresses: [node.ipv4, node.ipv6],
    routes: [
      { to: "0.0.0.0/0", via: gateway4 },
      { to: "::/0", via: gateway6 },
    ],
  }));
  return [
    ...nodes,
    {
      netns: outside.netns,
      port: "outside",
      addresses: [...outside.gateway, ...outside.internet, ...outside.exempt],
      // The way back to pods whose address is kept.
      routes: plan.nodes.flatMap((node) => [
        { to: node.podCidrs[0], via: node.ipv4 },
        { to: node.podCidrs[1], via: node.ipv6 },
      ]),
    },
  ];
}

function configureMachine(netns: Netns, machine: Machine): void {
  using netlink = openRtNetlink(netns);
  const device = getLink(netlink, CARD).index;
  const addresses: Request[] = machine.addresses.map((address) =>
    addAddress({ device, address, prefixLength: UNDERLAY_LENGTH[familyOf(address)] }),
  );
  const routes = machine.routes.map(({ to, via }) =>
    addRoute({ destination: parsePrefix(to), via, device, protocol: RouteProtocol.static }),
  );
  netlink.apply(setLink("lo", { up: true }), setLink(device, { up: true }), ...addresses, ...routes);
}

/** Makes the switch and all machines on it. @throws the kernel's refusals, as faults */
export function buildUnderlay(plan: LabPlan): void {
  using fabric = createNetns(plan.switchNetns);
  using ports = openRtNetlink(fabric);
  ports.apply(addBridge({ name: BRIDGE, mtu: plan.mtu }), setLink(BRIDGE, { up: true }));
  const master = getLink(ports, BRIDGE).index;
  for (const machine of machines(plan)) {
    using netns = createNetns(machine.netns);
    ports.apply(
      addVeth({ name: machine.port, mtu: plan.mtu, up: true }, { name: CARD, mtu: plan.mtu, netns }),
      setLink(machine.port, { master }),
    );
    configureMachine(netns, machine);
  }
}
