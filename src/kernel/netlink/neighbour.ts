// SPDX-License-Identifier: Apache-2.0
// Neighbours: which link address an address has on a device (ARP, neighbour discovery). Layouts: struct ndmsg and
// NDA_* in include/uapi/linux/neighbour.h.
import { type Address, type Family, familyOf } from "../../base/addr.ts";
import { addressFamily, type Message, macBytes, NLM_F, Request } from "./codec.ts";
import type { RtNetlink } from "./socket.ts";

export const RTM_NEIGHBOUR = { new: 28, delete: 29, get: 30 } as const;

const NDA = { destination: 1, mac: 2 } as const;
const NDMSG_BYTES = 12;

/** include/uapi/linux/neighbour.h, NUD_*: a bit set. */
export const NeighbourState = {
  incomplete: 1,
  reachable: 2,
  stale: 4,
  delay: 8,
  probe: 16,
  failed: 32,
  noArp: 64,
  permanent: 128,
} as const;

export interface Neighbour {
  readonly device: number;
  readonly family: Family;
  readonly address: Address;
  /** Absent while it is being asked for. */
  readonly mac: string | undefined;
  readonly state: number;
}

export interface NeighbourSpec {
  device: number;
  address: Address;
  mac: string;
  /** Default: permanent, never asked for and never forgotten. */
  state?: number;
}

function aboutNeighbour(op: string, spec: Omit<NeighbourSpec, "mac">, type: number, flags: number): Request {
  return new Request({ op, object: `${spec.address} on device ${spec.device}` }, type, flags)
    .body(NDMSG_BYTES, [
      [0, 1, addressFamily(spec.address)],
      [4, 4, spec.device],
      [8, 2, spec.state ?? NeighbourState.permanent],
    ])
    .address(NDA.destination, spec.address);
}

/** Sets the link address of a neighbour, whether it is known or not. */
export function setNeighbour(spec: NeighbourSpec): Request {
  return aboutNeighbour("neighbour.set", spec, RTM_NEIGHBOUR.new, NLM_F.create | NLM_F.replace).bytes(
    NDA.mac,
    macBytes(spec.mac),
  );
}

export function deleteNeighbour(spec: { device: number; address: Address }): Request {
  return aboutNeighbour("neighbour.delete", spec, RTM_NEIGHBOUR.delete, 0);
}

/** A neighbour as a message of type RTM_NEWNEIGH tells it; undefined for other families. */
export function decodeNeighbour(message: Message): Neighbour | undefined {
  const attributes = message.attributes(NDMSG_BYTES);
  const address = attributes.address(NDA.destination);
  if (address === undefined) return undefined;
  return {
    device: message.view.getInt32(4, true),
    family: familyOf(address),
    address,
    mac: attributes.mac(NDA.mac),
    state: message.view.getUint16(8, true),
  };
}

/** All neighbours, or those of one device. */
export function listNeighbours(netlink: RtNetlink, device?: number): Neighbour[] {
  const request = new Request({ op: "neighbour.list", object: "" }, RTM_NEIGHBOUR.get, NLM_F.dump);
  request.body(NDMSG_BYTES, []);
  return netlink.list(request, (message) => {
    const neighbour = decodeNeighbour(message);
    return device === undefined || neighbour?.device === device ? neighbour : undefined;
  });
}
