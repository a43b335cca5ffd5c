// SPDX-License-Identifier: Apache-2.0
// Ports that masquerading must keep off because of the node's own sockets, of those that the data plane cannot see. It asks the
// kernel for the socket behind each port that it tries, so a listener counts from the moment on in which it listens; but it asks
// from the pod's device, where sockets that are bound to another device (SO_BINDTODEVICE) are not found. Those are listed here.
import { Fault } from "../base/fault.ts";
import { listWaiting } from "../kernel/netlink/sock-diag.ts";
import type { RtNetlink } from "../kernel/netlink/socket.ts";

export interface ListeningPorts {
  readonly tcp: ReadonlySet<number>;
  readonly udp: ReadonlySet<number>;
  /** Why they could not be listed. */
  readonly fault: Fault | undefined;
}

/** Ports of sockets that listen on one device only, in the namespace that the sock_diag socket was opened in. */
export function listeningPorts(sockDiag: RtNetlink): ListeningPorts {
  const ports = (protocol: "tcp" | "udp"): Set<number> =>
    new Set(
      listWaiting(sockDiag, protocol)
        .filter(({ device }) => device !== 0)
        .map(({ port }) => port),
    );
  try {
    return { tcp: ports("tcp"), udp: ports("udp"), fault: undefined };
  } catch (thrown) {
    return { tcp: new Set(), udp: new Set(), fault: Fault.from(thrown) };
  }
}
