// SPDX-License-Identifier: Apache-2.0
// Network devices: requests that make, change and delete them, and what the kernel says of them. Layouts:
// struct ifinfomsg and IFLA_* in include/uapi/linux/if_link.h, veth in drivers/net/veth.c.
import type { Netns } from "../netns.ts";
import { type Message, macBytes, NLM_F, Request } from "./codec.ts";
import { expectFound, type RtNetlink } from "./socket.ts";

export const RTM_LINK = { new: 16, delete: 17, get: 18 } as const;

const IFLA = {
  address: 1,
  ifname: 3,
  mtu: 4,
  link: 5,
  master: 10,
  operstate: 16,
  linkinfo: 18,
  netNsFd: 28,
  extMask: 29,
  group: 27,
  linkNetnsid: 37,
} as const;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;
const VXLAN = { id: 1, learning: 7, port: 15, collectMetadata: 25 } as const;
const IFLA_BR_FORWARD_DELAY = 1;

const IFF_UP = 1;
const IFF_LOOPBACK = 8;
const IFF_RUNNING = 0x40;
const IFF_NOARP = 0x80;

const IFINFO_BYTES = 16;
const RTEXT_FILTER_SKIP_STATS = 8;

/** enum in include/uapi/linux/if.h (RFC 2863). */
const OPER_STATES = [
  "unknown",
  "not-present",
  "down",
  "lower-layer-down",
  "testing",
  "dormant",
  "up",
] as const;

export interface Link {
  readonly index: number;
  readonly name: string;
  /** `veth`, `bridge`, `vxlan` ...; empty for hardware and loopback. */
  readonly kind: string;
  readonly mtu: number;
  /** Absent for devices without a link header. */
  readonly mac: string | undefined;
  /** Set up by the administrator. */
  readonly up: boolean;
  /** Up and with carrier. */
  readonly running: boolean;
  readonly operState: (typeof OPER_STATES)[number];
  readonly loopback: boolean;
  /** Index of the bridge or bond that it belongs to, 0 none. */
  readonly master: number;
  /** Index of the other end of a veth, or of the device below; 0 none. In another namespace if peerNetnsId is set. */
  readonly peer: number;
  readonly peerNetnsId: number | undefined;
  readonly group: number;
}

/** A device by name or by index. */
export type LinkName = string | number;

/** Starts a message about one device. */
function about(op: string, link: LinkName, type: number, flags: number): Request {
  const request = new Request(
    { op, object: typeof link === "number" ? `device ${link}` : link },
    type,
    flags,
  );
  return request;
}

function named(request: Request, link: LinkName, upMask = 0, up = 0): Request {
  request.body(IFINFO_BYTES, [
    [4, 4, typeof link === "number" ? link : 0],
    [8, 4, up],
    [12, 4, upMask],
  ]);
  return typeof link === "string" ? request.text(IFLA.ifname, link) : request;
}

export interface VethEnd {
  name: string;
  mac?: string;
  /** Bytes of the largest packet, without link header. */
  mtu?: number;
  /** Where the end is put; absent: the namespace of the socket. */
  netns?: Netns;
}

function putVethEnd(request: Request, end: VethEnd): void {
  request.text(IFLA.ifname, end.name);
  if (end.mac) request.bytes(IFLA.address, macBytes(end.mac));
  if (end.mtu) request.u32(IFLA.mtu, end.mtu);
  if (end.netns) request.u32(IFLA.netNsFd, end.netns.fd);
}

/**
 * Makes a veth pair. `up` sets the near end up; the far end is set up in its own namespace afterwards (asking for it
 * here is refused with ENOTCONN).
 */
export function addVeth(near: VethEnd & { up?: boolean }, peer: VethEnd): Request {
  const request = new Request(
    { op: "link.add", object: `${near.name} peer ${peer.name}` },
    RTM_LINK.new,
    NLM_F.create | NLM_F.exclusive,
  );
  request.body(IFINFO_BYTES, [
    [8, 4, near.up ? IFF_UP : 0],
    [12, 4, near.up ? IFF_UP : 0],
  ]);
  putVethEnd(request, near);
  return request.nest(IFLA.linkinfo, () => {
    request.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, () => {
      request.nest(VETH_INFO_PEER, () => putVethEnd(request.body(IFINFO_BYTES, []), peer));
    });
  });
}

function addKind(
  kind: string,
  link: { name: string; mac?: string; mtu?: number },
  data: (r: Request) => void,
): Request {
  const request = new Request(
    { op: "link.add", object: `${link.name} ${kind}` },
    RTM_LINK.new,
    NLM_F.create | NLM_F.exclusive,
  );
  putVethEnd(request.body(IFINFO_BYTES, []), link);
  return request.nest(IFLA.linkinfo, () => {
    request.text(IFLA_INFO_KIND, kind).nest(IFLA_INFO_DATA, () => data(request));
  });
}

/** Makes a bridge without spanning tree; its ports forward at once. */
export function addBridge(link: { name: string; mac?: string; mtu?: number }): Request {
  return addKind("bridge", link, (request) => request.u32(IFLA_BR_FORWARD_DELAY, 0));
}

/** Makes a VXLAN device whose tunnel key and remote address come with each packet from BPF (collect_md). */
export function addVxlan(link: { name: string; mac?: string; mtu?: number; port: number }): Request {
  return addKind("vxlan", link, (request) =>
    request
      .u8(VXLAN.collectMetadata, 1)
      .u8(VXLAN.learning, 0)
      .bytes(VXLAN.port, Uint8Array.of(link.port >> 8, link.port & 0xff)),
  );
}

export interface LinkChange {
  up?: boolean;
  /** New name; the device must be down on kernels before 6.2. */
  name?: string;
  mtu?: number;
  mac?: string;
  /** Index of the bridge to join, 0 to leave. */
  master?: number;
  /** Namespace to move to; the device arrives down and without addresses. */
  netns?: Netns;
  arp?: boolean;
}

/** Changes a device; what is absent stays. */
export function setLink(link: LinkName, change: LinkChange): Request {
  const request = about("link.set", link, RTM_LINK.new, 0);
  const mask = (change.up === undefined ? 0 : IFF_UP) | (change.arp === undefined ? 0 : IFF_NOARP);
  const flags = (change.up ? IFF_UP : 0) | (change.arp === false ? IFF_NOARP : 0);
  named(request, link, mask, flags);
  if (change.name !== undefined) request.text(IFLA.ifname, change.name);
  if (change.mtu !== undefined) request.u32(IFLA.mtu, change.mtu);
  if (change.mac !== undefined) request.bytes(IFLA.address, macBytes(change.mac));
  if (change.master !== undefined) request.u32(IFLA.master, change.master);
  if (change.netns !== undefined) request.u32(IFLA.netNsFd, change.netns.fd);
  return request;
}

/** Deletes a device, and with a veth its other end. */
export function deleteLink(link: LinkName): Request {
  return named(about("link.delete", link, RTM_LINK.delete, 0), link);
}

/** A device as a message of type RTM_NEWLINK or RTM_DELLINK tells it. */
export function decodeLink(message: Message): Link {
  const flags = message.view.getUint32(8, true);
  const attributes = message.attributes(IFINFO_BYTES);
  return {
    index: message.view.getInt32(4, true),
    name: attributes.text(IFLA.ifname) ?? "",
    kind: attributes.nested(IFLA.linkinfo).text(IFLA_INFO_KIND) ?? "",
    mtu: attributes.u32(IFLA.mtu) ?? 0,
    mac: attributes.mac(IFLA.address),
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_RUNNING) !== 0,
    operState: OPER_STATES[attributes.u8(IFLA.operstate) ?? 0] ?? "unknown",
    loopback: (flags & IFF_LOOPBACK) !== 0,
    master: attributes.u32(IFLA.master) ?? 0,
    peer: attributes.u32(IFLA.link) ?? 0,
    peerNetnsId: attributes.s32(IFLA.linkNetnsid),
    group: attributes.u32(IFLA.group) ?? 0,
  };
}

/** All devices of the namespace. */
export function listLinks(netlink: RtNetlink): Link[] {
  const request = new Request({ op: "link.list", object: "" }, RTM_LINK.get, NLM_F.dump);
  request.body(IFINFO_BYTES, []).u32(IFLA.extMask, RTEXT_FILTER_SKIP_STATS);
  return netlink.list(request, decodeLink);
}

/** A device, or undefined if there is none of that name or index. */
export function findLink(netlink: RtNetlink, link: LinkName): Link | undefined {
  return netlink.find(named(about("link.get", link, RTM_LINK.get, 0), link), decodeLink);
}

/** A device that must be there. @throws Fault NETLINK_REPLY if there is none */
export function getLink(netlink: RtNetlink, link: LinkName): Link {
  return expectFound(findLink(netlink, link), "link.get", `${link}`);
}
