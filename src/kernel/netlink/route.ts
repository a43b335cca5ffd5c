// SPDX-License-Identifier: Apache-2.0
// Routes, both families. Layouts: struct rtmsg, struct rtnexthop and RTA_* in include/uapi/linux/rtnetlink.h.
import { type Address, type Family, familyOf } from "../../base/addr.ts";
import { formatPrefix, type Prefix, prefixOf } from "../../base/prefix.ts";
import { isErrno } from "../errno.ts";
import { Scope } from "./address.ts";
import {
  Attributes,
  addressFamily,
  bareAddress,
  type Message,
  NLM_F,
  Request,
  readAddress,
} from "./codec.ts";
import type { RtNetlink } from "./socket.ts";

export const RTM_ROUTE = { new: 24, delete: 25, get: 26 } as const;

const RTA = {
  destination: 1,
  source: 2,
  outDevice: 4,
  gateway: 5,
  priority: 6,
  preferredSource: 7,
  metrics: 8,
  multipath: 9,
  table: 15,
  mark: 16,
  via: 18,
} as const;
const RTAX_MTU = 2;
const RTMSG_BYTES = 12;
const RTNH_F_ONLINK = 4;
const RTM_F_CLONED = 0x200;

export const RouteTable = { main: 254, local: 255 } as const;

/** include/uapi/linux/rtnetlink.h, RTN_*. */
export const RouteType = {
  unicast: 1,
  local: 2,
  broadcast: 3,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
} as const;

/** include/uapi/linux/rtnetlink.h, RTPROT_*. Ours is a free number, so that our routes can be told from others. */
export const RouteProtocol = { kernel: 2, boot: 3, static: 4, hookline: 119 } as const;

export interface NextHop {
  readonly device: number;
  /** Absent: the destination is a neighbour. */
  readonly via: Address | undefined;
  readonly weight: number;
}

export interface Route {
  readonly family: Family;
  /** `0.0.0.0/0` and `::/0` for default routes. */
  readonly destination: Prefix;
  readonly table: number;
  readonly type: number;
  readonly protocol: number;
  readonly scope: number;
  /** Of routes to the same destination the lowest counts. */
  readonly priority: number;
  /** Preferred source address. */
  readonly source: Address | undefined;
  /** One, or several for a multipath route; none for blackholes. */
  readonly nextHops: readonly NextHop[];
  /** Bytes of the largest packet, if the route limits it. */
  readonly mtu: number | undefined;
}

export interface RouteSpec {
  destination: Prefix;
  device?: number;
  via?: Address;
  source?: Address;
  table?: number;
  type?: number;
  /** Default: link if there is a device and no gateway (IPv4), else global. */
  scope?: number;
  priority?: number;
  protocol?: number;
  /** The gateway is a neighbour, whatever the addresses of the device. */
  onLink?: boolean;
  mtu?: number;
}

function scopeOf(spec: RouteSpec): number {
  if (spec.scope !== undefined) return spec.scope;
  if (spec.type === RouteType.local) return Scope.host;
  const neighbour = spec.via === undefined && spec.device !== undefined;
  return neighbour && familyOf(spec.destination.address) === 4 ? Scope.link : Scope.global;
}

function aboutRoute(op: string, spec: RouteSpec, type: number, flags: number): Request {
  const via = spec.via === undefined ? "" : ` via ${spec.via}`;
  const device = spec.device === undefined ? "" : ` device ${spec.device}`;
  const request = new Request(
    { op, object: `${formatPrefix(spec.destination)}${via}${device}` },
    type,
    flags,
  );
  request.body(RTMSG_BYTES, [
    [0, 1, addressFamily(spec.destination.address)],
    [1, 1, spec.destination.length],
    [5, 1, spec.protocol ?? RouteProtocol.hookline],
    [6, 1, type === RTM_ROUTE.delete && spec.scope === undefined ? Scope.nowhere : scopeOf(spec)],
    [7, 1, spec.type ?? (type === RTM_ROUTE.delete ? 0 : RouteType.unicast)],
    [8, 4, spec.onLink ? RTNH_F_ONLINK : 0],
  ]);
  request.u32(RTA.table, spec.table ?? RouteTable.main);
  if (spec.destination.length > 0) request.address(RTA.destination, spec.destination.address);
  if (spec.device !== undefined) request.u32(RTA.outDevice, spec.device);
  if (spec.via !== undefined) putGateway(request, spec.destination.address, spec.via);
  if (spec.source !== undefined) request.address(RTA.preferredSource, spec.source);
  if (spec.priority !== undefined) request.u32(RTA.priority, spec.priority);
  if (spec.mtu !== undefined) request.nest(RTA.metrics, (metrics) => metrics.u32(RTAX_MTU, spec.mtu ?? 0));
  return request;
}

/** IPv4 through an IPv6 gateway needs RTA_VIA (RFC 5549). */
function putGateway(request: Request, destination: Address, via: Address): void {
  if (familyOf(destination) === familyOf(via)) {
    request.address(RTA.gateway, via);
    return;
  }
  request.bytes(RTA.via, Uint8Array.of(addressFamily(via), 0, ...bareAddress(via)));
}

/** Adds a route. Refused with EEXIST if there is one to the same destination with the same priority. */
export function addRoute(spec: RouteSpec): Request {
  return aboutRoute("route.add", spec, RTM_ROUTE.new, NLM_F.create | NLM_F.exclusive);
}

/** Adds a route, or puts it in the place of the one to the same destination with the same priority and table. */
export function replaceRoute(spec: RouteSpec): Request {
  return aboutRoute("route.replace", spec, RTM_ROUTE.new, NLM_F.create | NLM_F.replace);
}

/** Deletes the first route that matches all that the spec says, with the protocol `hookline` unless it names one. */
export function deleteRoute(spec: RouteSpec): Request {
  return aboutRoute("route.delete", spec, RTM_ROUTE.delete, 0);
}

function gatewayOf(attributes: Attributes): Address | undefined {
  const via = attributes.bytes(RTA.via);
  return via ? readAddress(via.subarray(2)) : attributes.address(RTA.gateway);
}

/** struct rtnexthop: length, flags, hops (weight - 1), device; then attributes. */
function nextHopsOf(bytes: Uint8Array): NextHop[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const hops: NextHop[] = [];
  for (let at = 0; at + 8 <= bytes.length; ) {
    const length = view.getUint16(at, true);
    if (length < 8 || at + length > bytes.length) break;
    const attributes = new Attributes(bytes.subarray(at + 8, at + length));
    hops.push({
      device: view.getInt32(at + 4, true),
      via: gatewayOf(attributes),
      weight: view.getUint8(at + 3) + 1,
    });
    at += (length + 3) & ~3;
  }
  return hops;
}

/** A route as a message of type RTM_NEWROUTE or RTM_DELROUTE tells it; undefined for cache entries and multicast. */
export function decodeRoute(message: Message): Route | undefined {
  const family = message.view.getUint8(0);
  if ((family !== 2 && family !== 10) || message.view.getUint32(8, true) & RTM_F_CLONED) return undefined;
  return readRoute(message, family === 2 ? 4 : 6);
}

function readRoute(message: Message, family: Family): Route {
  const attributes = message.attributes(RTMSG_BYTES);
  const multipath = attributes.bytes(RTA.multipath);
  const device = attributes.u32(RTA.outDevice);
  const via = gatewayOf(attributes);
  const single = device === undefined ? [] : [{ device, via, weight: 1 }];
  const destination = attributes.address(RTA.destination) ?? (family === 4 ? "0.0.0.0" : "::");
  return {
    family,
    destination: prefixOf(destination, message.view.getUint8(1)),
    table: attributes.u32(RTA.table) ?? message.view.getUint8(4),
    type: message.view.getUint8(7),
    protocol: message.view.getUint8(5),
    scope: message.view.getUint8(6),
    priority: attributes.u32(RTA.priority) ?? 0,
    source: attributes.address(RTA.preferredSource),
    nextHops: multipath ? nextHopsOf(multipath) : single,
    mtu: attributes.nested(RTA.metrics).u32(RTAX_MTU),
  };
}

/** The routes of one table (default main), of one family or both. */
export function listRoutes(netlink: RtNetlink, only: { family?: Family; table?: number } = {}): Route[] {
  const table = only.table ?? RouteTable.main;
  const families: Family[] = only.family === undefined ? [4, 6] : [only.family];
  return families.flatMap((family) => {
    const request = new Request({ op: "route.list", object: `table ${table}` }, RTM_ROUTE.get, NLM_F.dump);
    request.body(RTMSG_BYTES, [[0, 1, family === 4 ? 2 : 10]]);
    // No filter in the request: a strict dump of a table that does not exist is refused.
    return netlink.list(request, (message) => {
      const route = decodeRoute(message);
      return route?.table === table ? route : undefined;
    });
  });
}

export interface RouteQuery {
  source?: Address;
  outDevice?: number;
  mark?: number;
}

/** The way that the kernel would send a packet to `destination`, or undefined if there is none. */
export function lookUpRoute(
  netlink: RtNetlink,
  destination: Address,
  query: RouteQuery = {},
): Route | undefined {
  const family = familyOf(destination);
  const bits = family === 4 ? 32 : 128;
  const request = new Request({ op: "route.get", object: destination }, RTM_ROUTE.get, 0);
  request.body(RTMSG_BYTES, [
    [0, 1, family === 4 ? 2 : 10],
    [1, 1, bits],
    [2, 1, query.source === undefined ? 0 : bits],
  ]);
  request.address(RTA.destination, destination);
  if (query.source !== undefined) request.address(RTA.source, query.source);
  if (query.outDevice !== undefined) request.u32(RTA.outDevice, query.outDevice);
  if (query.mark !== undefined) request.u32(RTA.mark, query.mark);
  try {
    return netlink.find(request, (message) => readRoute(message, family));
  } catch (thrown) {
    if (isErrno(thrown, "ENETUNREACH", "EHOSTUNREACH")) return undefined;
    throw thrown;
  }
}
