// SPDX-License-Identifier: Apache-2.0
// Connections that netfilter tracks, with their translations, as ctnetlink lists them. Layouts: struct nfgenmsg in
// include/uapi/linux/netfilter/nfnetlink.h, CTA_* in nfnetlink_conntrack.h of the same folder.
import { type Address, familyOf } from "../../base/addr.ts";
import { isErrno } from "../errno.ts";
import { type Attributes, NLM_F, Request } from "./codec.ts";
import type { RtNetlink } from "./socket.ts";

/** NFNL_SUBSYS_CTNETLINK and IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE. */
const CT_GET = (1 << 8) | 1;
const CT_DELETE = (1 << 8) | 2;
const NFGENMSG_BYTES = 4;

const CTA = { original: 1, reply: 2, status: 3, protoInfo: 4 } as const;
const CTA_TUPLE = { ip: 1, proto: 2 } as const;
const CTA_IP = { 4: { source: 1, destination: 2 }, 6: { source: 3, destination: 4 } } as const;
const CTA_PROTO = { number: 1, sourcePort: 2, destinationPort: 3, icmpId: 4, icmpv6Id: 7 } as const;
/** Protocol number, attributes of identifier, type and code, and the type of a request. */
const ECHO = [
  { proto: 1, id: 4, type: 5, code: 6, request: 8 },
  { proto: 58, id: 7, type: 8, code: 9, request: 128 },
] as const;
const CTA_PROTOINFO_TCP = 1;
const CTA_PROTOINFO_TCP_STATE = 1;

/** include/uapi/linux/netfilter/nf_conntrack_common.h, IPS_*. */
const IPS = { seenReply: 1 << 1, sourceNat: 1 << 4, destinationNat: 1 << 5 } as const;

/** One direction of a connection as its packets arrive. Ports are 0 where the protocol has none; of an echo `id` counts. */
export interface ConnectionTuple {
  readonly source: Address;
  readonly destination: Address;
  readonly proto: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Identifier of an ICMP echo, 0 for other protocols. */
  readonly id: number;
}

export interface Connection {
  /** As the opener sends. */
  readonly original: ConnectionTuple;
  /** As the answers arrive, before they are translated back. */
  readonly reply: ConnectionTuple;
  readonly answered: boolean;
  readonly sourceTranslated: boolean;
  readonly destinationTranslated: boolean;
  /** enum tcp_conntrack: 3 established, 7 TIME_WAIT, 8 closed; 0 for other protocols. */
  readonly tcpState: number;
}

function networkOrder(bytes: Uint8Array | undefined): number {
  return (bytes ?? new Uint8Array()).reduce((number, byte) => number * 256 + byte, 0);
}

function readTuple(tuple: Attributes, family: 4 | 6): ConnectionTuple {
  const ip = tuple.nested(CTA_TUPLE.ip);
  const proto = tuple.nested(CTA_TUPLE.proto);
  return {
    source: ip.address(CTA_IP[family].source) ?? "",
    destination: ip.address(CTA_IP[family].destination) ?? "",
    proto: proto.u8(CTA_PROTO.number) ?? 0,
    sourcePort: networkOrder(proto.bytes(CTA_PROTO.sourcePort)),
    destinationPort: networkOrder(proto.bytes(CTA_PROTO.destinationPort)),
    id: networkOrder(proto.bytes(family === 4 ? CTA_PROTO.icmpId : CTA_PROTO.icmpv6Id)),
  };
}

/** All connections of the socket's namespace; the socket is one of openNetfilterNetlink. */
export function listConnections(netlink: RtNetlink): Connection[] {
  return ([4, 6] as const).flatMap((family) => {
    const request = new Request({ op: "conntrack.list", object: `IPv${family}` }, CT_GET, NLM_F.dump);
    request.body(NFGENMSG_BYTES, [[0, 1, family === 4 ? 2 : 10]]);
    return netlink.list(request, (message) => {
      const attributes = message.attributes(NFGENMSG_BYTES);
      const status = networkOrder(attributes.bytes(CTA.status));
      const tcp = attributes.nested(CTA.protoInfo).nested(CTA_PROTOINFO_TCP);
      return {
        original: readTuple(attributes.nested(CTA.original), family),
        reply: readTuple(attributes.nested(CTA.reply), family),
        answered: (status & IPS.seenReply) !== 0,
        sourceTranslated: (status & IPS.sourceNat) !== 0,
        destinationTranslated: (status & IPS.destinationNat) !== 0,
        tcpState: tcp.u8(CTA_PROTOINFO_TCP_STATE) ?? 0,
      };
    });
  });
}

const port = (number: number): Uint8Array => Uint8Array.of(number >>> 8, number & 0xff);

function aboutConnection({ original }: Connection): Request {
  const { source, destination, proto, sourcePort, destinationPort, id } = original;
  const family = familyOf(source);
  const request = new Request(
    { op: "conntrack.delete", object: `${source} -> ${destination}` },
    CT_DELETE,
    0,
  );
  request.body(NFGENMSG_BYTES, [[0, 1, family === 4 ? 2 : 10]]);
  return request.nest(CTA.original, (tuple) => {
    tuple.nest(CTA_TUPLE.ip, (ip) => {
      ip.address(CTA_IP[family].source, source).address(CTA_IP[family].destination, destination);
    });
    tuple.nest(CTA_TUPLE.proto, (attributes) => {
      attributes.u8(CTA_PROTO.number, proto);
      const echo = ECHO.find((kind) => kind.proto === proto);
      if (echo !== undefined) {
        attributes.bytes(echo.id, port(id)).u8(echo.type, echo.request).u8(echo.code, 0);
        return;
      }
      attributes.bytes(CTA_PROTO.sourcePort, port(sourcePort));
      attributes.bytes(CTA_PROTO.destinationPort, port(destinationPort));
    });
  });
}

/** Forgets connections; that one is gone already is no error. @throws Fault KERNEL_REFUSED, KERNEL_BUSY */
export function deleteConnections(netlink: RtNetlink, connections: readonly Connection[]): void {
  for (const outcome of netlink.attempt(...connections.map(aboutConnection)))
    if (outcome !== undefined && !isErrno(outcome, "ENOENT")) throw outcome;
}
