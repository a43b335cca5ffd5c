// SPDX-License-Identifier: Apache-2.0
// Addresses of devices. Layouts: struct ifaddrmsg and IFA_* in include/uapi/linux/if_addr.h.
import { type Address, type Family, familyOf } from "../../base/addr.ts";
import { addressFamily, type Message, NLM_F, Request } from "./codec.ts";
import type { RtNetlink } from "./socket.ts";

export const RTM_ADDRESS = { new: 20, delete: 21, get: 22 } as const;

const IFA = { address: 1, local: 2, flags: 8 } as const;
const IFADDR_BYTES = 8;

const IFA_F = {
  secondary: 1,
  noDad: 2,
  deprecated: 0x20,
  tentative: 0x40,
  permanent: 0x80,
  noPrefixRoute: 0x200,
};

/** include/uapi/linux/rtnetlink.h, enum rt_scope_t. */
export const Scope = { global: 0, site: 200, link: 253, host: 254, nowhere: 255 } as const;

export interface DeviceAddress {
  readonly device: number;
  readonly address: Address;
  readonly prefixLength: number;
  /** Scope.*: global addresses are the ones to masquerade to. */
  readonly scope: number;
  /** A second address of the same IPv4 network, or a temporary IPv6 one (RFC 8981). */
  readonly secondary: boolean;
  readonly deprecated: boolean;
  /** Still being checked for duplicates: not usable. */
  readonly tentative: boolean;
}

export interface AddressSpec {
  device: number;
  address: Address;
  /** Default: a single address. */
  prefixLength?: number;
  scope?: number;
  /** No route for the address's network. Default false. */
  noPrefixRoute?: boolean;
}

function aboutAddress(op: string, spec: AddressSpec, type: number, flags: number): Request {
  const length = spec.prefixLength ?? (familyOf(spec.address) === 4 ? 32 : 128);
  // IPv6 addresses are usable at once: nobody else may hold them, so there is nothing to detect.
  const addressFlags =
    (familyOf(spec.address) === 6 ? IFA_F.noDad : 0) | (spec.noPrefixRoute ? IFA_F.noPrefixRoute : 0);
  return new Request({ op, object: `${spec.address}/${length} on device ${spec.device}` }, type, flags)
    .body(IFADDR_BYTES, [
      [0, 1, addressFamily(spec.address)],
      [1, 1, length],
      [3, 1, spec.scope ?? Scope.global],
      [4, 4, spec.device],
    ])
    .address(IFA.local, spec.address)
    .address(IFA.address, spec.address)
    .u32(IFA.flags, addressFlags);
}

/** Gives a device an address; the same again is no error. IPv6 without duplicate detection. */
export function addAddress(spec: AddressSpec): Request {
  return aboutAddress("address.add", spec, RTM_ADDRESS.new, NLM_F.create | NLM_F.replace);
}

export function deleteAddress(spec: AddressSpec): Request {
  return aboutAddress("address.delete", spec, RTM_ADDRESS.delete, 0);
}

/** An address as a message of type RTM_NEWADDR or RTM_DELADDR tells it; undefined for other families. */
export function decodeAddress(message: Message): DeviceAddress | undefined {
  const attributes = message.attributes(IFADDR_BYTES);
  // On point-to-point devices IFA_ADDRESS is the other end.
  const address = attributes.address(IFA.local) ?? attributes.address(IFA.address);
  if (address === undefined) return undefined;
  const flags = attributes.u32(IFA.flags) ?? message.view.getUint8(2);
  return {
    device: message.view.getUint32(4, true),
    address,
    prefixLength: message.view.getUint8(1),
    scope: message.view.getUint8(3),
    secondary: (flags & IFA_F.secondary) !== 0,
    deprecated: (flags & IFA_F.deprecated) !== 0,
    tentative: (flags & IFA_F.tentative) !== 0,
  };
}

/** All addresses, or those of one device or family. */
export function listAddresses(
  netlink: RtNetlink,
  only: { device?: number; family?: Family } = {},
): DeviceAddress[] {
  const request = new Request({ op: "address.list", object: "" }, RTM_ADDRESS.get, NLM_F.dump);
  request.body(IFADDR_BYTES, [
    [0, 1, only.family === undefined ? 0 : only.family === 4 ? 2 : 10],
    [4, 4, only.device ?? 0],
  ]);
  return netlink.list(request, decodeAddress);
}
