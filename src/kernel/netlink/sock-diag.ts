// SPDX-License-Identifier: Apache-2.0
// Sockets that wait for packets, from sock_diag(7): the kernel walks the listeners only, whatever number of connections there
// is, which /proc/net/tcp does not. Layouts: struct inet_diag_req_v2 and inet_diag_msg in include/uapi/linux/inet_diag.h.
import type { Family } from "../../base/addr.ts";
import { type Message, NLM_F, Request } from "./codec.ts";
import type { RtNetlink } from "./socket.ts";

const SOCK_DIAG_BY_FAMILY = 20;
const REQUEST_BYTES = 56;
const AF = { 4: 2, 6: 10 } as const;
const PROTOCOL = { tcp: 6, udp: 17 } as const;
/** Bits of enum tcp_state (include/net/tcp_states.h): TCP_LISTEN; an unconnected UDP socket is in TCP_CLOSE. */
const STATES = { tcp: 1 << 10, udp: 1 << 7 } as const;

export interface WaitingSocket {
  readonly family: Family;
  readonly port: number;
  /** Index of the device that it is bound to (SO_BINDTODEVICE), 0 none. */
  readonly device: number;
}

function decode(message: Message, family: Family): WaitingSocket {
  return { family, port: message.view.getUint16(4), device: message.view.getUint32(40, true) };
}

/** Listening TCP sockets or unconnected UDP sockets of both families, of the namespace that the socket was opened in. */
export function listWaiting(netlink: RtNetlink, protocol: "tcp" | "udp"): WaitingSocket[] {
  return ([4, 6] as const).flatMap((family) => {
    const request = new Request({ op: "sockets.list", object: protocol }, SOCK_DIAG_BY_FAMILY, NLM_F.dump);
    request.body(REQUEST_BYTES, [
      [0, 1, AF[family]],
      [1, 1, PROTOCOL[protocol]],
      [4, 4, STATES[protocol]],
    ]);
    return netlink.list(request, (message) => decode(message, family));
  });
}
