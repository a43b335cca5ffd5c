// SPDX-License-Identifier: Apache-2.0
// BPF programs on a device through traffic control (tc-bpf(8)): the clsact qdisc and cls_bpf filters in direct-action
// mode. Layouts: struct tcmsg in rtnetlink.h, TCA_BPF_* in pkt_cls.h.
import { type Message, NLM_F, Request } from "./codec.ts";
import type { RtNetlink } from "./socket.ts";

const RTM_QDISC = { new: 36, delete: 37, get: 38 } as const;
const RTM_FILTER = { new: 44, delete: 45, get: 46 } as const;
const RTM_CHAIN_DELETE = 101;

const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_BPF = { fd: 6, name: 7, flags: 8, flagsGen: 9, tag: 10, id: 11 } as const;
const TCA_BPF_FLAG_ACT_DIRECT = 1;
const TCMSG_BYTES = 20;

/** TC_H_CLSACT: the handle of the qdisc; its minor numbers are the two directions. */
const CLSACT = 0xffff_fff1;
const CLSACT_HANDLE = 0xffff_0000;
const PARENT = { ingress: 0xffff_fff2, egress: 0xffff_fff3 } as const;
const ETH_P_ALL = 3;

/** As the device sees it: `ingress` is what it receives, `egress` what it sends. */
export type TcDirection = "ingress" | "egress";

/** The place of a filter: of those on one device and direction the lowest `priority` runs first. */
export interface FilterPlace {
  device: number;
  direction: TcDirection;
  /** 1-65535. */
  priority: number;
  /** 1-; tells filters of one priority apart. */
  handle: number;
}

export interface BpfFilter extends FilterPlace {
  readonly name: string;
  readonly progId: number;
  /** Hex digest of the program's instructions. */
  readonly tag: string;
}

function aboutQdisc(op: string, device: number, type: number, flags: number): Request {
  return new Request({ op, object: `clsact on device ${device}` }, type, flags)
    .body(TCMSG_BYTES, [
      [4, 4, device],
      [8, 4, CLSACT_HANDLE],
      [12, 4, CLSACT],
    ])
    .text(TCA_KIND, "clsact");
}

/** Gives a device the clsact qdisc. Refused with EEXIST if it has one. */
export function addClsact(device: number): Request {
  return aboutQdisc("qdisc.add", device, RTM_QDISC.new, NLM_F.create | NLM_F.exclusive);
}

/** Takes the clsact qdisc away, and all filters with it. */
export function deleteClsact(device: number): Request {
  return aboutQdisc("qdisc.delete", device, RTM_QDISC.delete, 0);
}

function aboutFilter(op: string, place: FilterPlace, type: number, flags: number): Request {
  const object = `${place.direction} of device ${place.device} priority ${place.priority}`;
  return new Request({ op, object }, type, flags)
    .body(TCMSG_BYTES, [
      [4, 4, place.device],
      [8, 4, place.handle],
      [12, 4, PARENT[place.direction]],
      // Upper half the priority, lower half the protocol in network order.
      [16, 4, (place.priority << 16) | (ETH_P_ALL << 8)],
    ])
    .text(TCA_KIND, "bpf");
}

/**
 * Puts a program at a place, or in the place of the program there: packets meet the one or the other, never none
 * (cls_bpf_change swaps under RCU). `name` is what tc(8) prints.
 */
export function replaceFilter(place: FilterPlace, progFd: number, name: string): Request {
  const request = aboutFilter("filter.replace", place, RTM_FILTER.new, NLM_F.create);
  return request.nest(TCA_OPTIONS, () =>
    request.u32(TCA_BPF.fd, progFd).text(TCA_BPF.name, name).u32(TCA_BPF.flags, TCA_BPF_FLAG_ACT_DIRECT),
  );
}

export function deleteFilter(place: FilterPlace): Request {
  return aboutFilter("filter.delete", place, RTM_FILTER.delete, 0);
}

function decodeFilter(message: Message, device: number, direction: TcDirection): BpfFilter | undefined {
  const attributes = message.attributes(TCMSG_BYTES);
  const handle = message.view.getUint32(8, true);
  // The kernel tells of each priority once without a handle before it tells of the filters there.
  if (attributes.text(TCA_KIND) !== "bpf" || handle === 0) return undefined;
  const options = attributes.nested(TCA_OPTIONS);
  return {
    device,
    direction,
    priority: message.view.getUint32(16, true) >>> 16,
    handle,
    name: options.text(TCA_BPF.name) ?? "",
    progId: options.u32(TCA_BPF.id) ?? 0,
    tag: Buffer.from(options.bytes(TCA_BPF.tag) ?? []).toString("hex"),
  };
}

/** The device from which somebody took a filter, all filters or a qdisc, if the message tells of that. */
export function decodeStripped(message: Message): number | undefined {
  const { type } = message;
  const tells = type === RTM_FILTER.delete || type === RTM_QDISC.delete || type === RTM_CHAIN_DELETE;
  return tells ? message.view.getInt32(4, true) : undefined;
}

/** The BPF filters of a device in one direction, in the order in which they run; none without a clsact qdisc. */
export function listFilters(netlink: RtNetlink, device: number, direction: TcDirection): BpfFilter[] {
  const object = `${direction} of device ${device}`;
  const request = new Request({ op: "filter.list", object }, RTM_FILTER.get, NLM_F.dump);
  request.body(TCMSG_BYTES, [
    [4, 4, device],
    [12, 4, PARENT[direction]],
  ]);
  return netlink.list(request, (message) => decodeFilter(message, device, direction));
}

/** Whether the device has a clsact qdisc. */
export function hasClsact(netlink: RtNetlink, device: number): boolean {
  const request = new Request({ op: "qdisc.list", object: `device ${device}` }, RTM_QDISC.get, NLM_F.dump);
  request.body(TCMSG_BYTES, [[4, 4, device]]);
  return netlink
    .list(request, (m) =>
      m.view.getInt32(4, true) === device ? m.attributes(TCMSG_BYTES).text(TCA_KIND) : undefined,
    )
    .includes("clsact");
}
