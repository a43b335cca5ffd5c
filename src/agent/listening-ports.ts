// SPDX-License-Identifier: Apache-2.0
// Ports that sockets of the node listen on, from /proc/net, so that masquerading keeps off them. Read by the agent's own
// thread, whose network namespace is the node's.
import { readFileSync } from "node:fs";

/** TCP_LISTEN of include/net/tcp_states.h; unconnected UDP sockets are in TCP_CLOSE. */
const TCP_LISTEN = 0x0a;
const TCP_CLOSE = 0x07;

/** Ports of the lines of one /proc/net file that are in `state`. */
export function portsInState(text: string, state: number): Set<number> {
  const ports = new Set<number>();
  for (const line of text.split("\n").slice(1)) {
    // sl local_address rem_address st ...; addresses are hex:hexport.
    const [, local, , st] = line.trim().split(/\s+/);
    if (local === undefined || st === undefined || Number.parseInt(st, 16) !== state) continue;
    const port = Number.parseInt(local.slice(local.lastIndexOf(":") + 1), 16);
    if (port > 0 && port <= 65535) ports.add(port);
  }
  return ports;
}

function read(name: string, state: number): Set<number> {
  try {
    return portsInState(readFileSync(`/proc/thread-self/net/${name}`, "latin1"), state);
  } catch {
    // No IPv6 in this kernel.
    return new Set();
  }
}

export function listeningPorts(): { tcp: Set<number>; udp: Set<number> } {
  return {
    tcp: new Set([...read("tcp", TCP_LISTEN), ...read("tcp6", TCP_LISTEN)]),
    udp: new Set([...read("udp", TCP_CLOSE), ...read("udp6", TCP_CLOSE)]),
  };
}
