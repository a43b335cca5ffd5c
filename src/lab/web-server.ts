// SPDX-License-Identifier: Apache-2.0
// What runs in the lab's pods and in its "outside": servers that tell each caller who they think the caller is. Only the
// standard library, so that a pod costs one small process.
import { createSocket } from "node:dgram";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";

/** What a server of the lab answers, as one line of JSON. */
export interface Sighting {
  /** Who answers: a pod's name or "outside". */
  server: string;
  /** Source address of the request, as the server saw it. */
  peer: string;
  peerPort: number;
  /** Address that the request was sent to. */
  local: string;
  protocol: "HTTP" | "TCP" | "UDP";
}

/** IPv4 addresses of a dual-stack socket come mapped. */
function unmapped(address: string | undefined): string {
  return (address ?? "").replace(/^::ffff:(?=\d+\.)/, "");
}

function line(sighting: Sighting): string {
  return `${JSON.stringify(sighting)}\n`;
}

/** A server that listens. */
export interface Running {
  close(): void;
  address(): AddressInfo | string | null;
}

/** Listens for both families, or for IPv4 alone where the namespace has no IPv6. */
async function listen(server: Server, port: number): Promise<void> {
  const attempt = (host: string): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host, port }, () => {
        server.off("error", reject);
        resolve();
      });
    });
  try {
    await attempt("::");
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    if (code !== "EAFNOSUPPORT" && code !== "EADDRNOTAVAIL") throw thrown;
    await attempt("0.0.0.0");
  }
}

/** A web server whose every page is the Sighting; `?bytes=n` adds n bytes to it. */
export async function serveHttp(name: string, port: number): Promise<Running> {
  const server = createHttpServer((request, response) => {
    const { socket } = request;
    const body = line({
      server: name,
      peer: unmapped(socket.remoteAddress),
      peerPort: socket.remotePort ?? 0,
      local: unmapped(socket.localAddress),
      protocol: "HTTP",
    });
    const wanted = Number(new URL(request.url ?? "/", "http://lab").searchParams.get("bytes"));
    const filler = wanted > 0 ? Buffer.alloc(Math.min(wanted, 64 * 2 ** 20), ".") : "";
    response.writeHead(200, { "content-type": "application/json" }).write(body);
    response.end(filler);
  });
  server.keepAliveTimeout = 60_000;
  await listen(server, port);
  return server;
}

/** Sends the Sighting first and then everything back. */
export async function serveTcpEcho(name: string, port: number): Promise<Running> {
  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.write(
      line({
        server: name,
        peer: unmapped(socket.remoteAddress),
        peerPort: socket.remotePort ?? 0,
        local: unmapped(socket.localAddress),
        protocol: "TCP",
      }),
    );
    socket.pipe(socket);
  });
  await listen(server, port);
  return server;
}

/**
 * Answers each datagram with the Sighting, then the datagram. One socket per address: a wildcard socket would answer
 * from whatever address the route to the caller prefers.
 */
export async function serveUdpEcho(name: string, addresses: string[], port: number): Promise<Running[]> {
  const sockets: Running[] = [];
  for (const address of addresses) {
    const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
    socket.on("message", (message, peer) => {
      const head = line({
        server: name,
        peer: unmapped(peer.address),
        peerPort: peer.port,
        local: address,
        protocol: "UDP",
      });
      socket.send(Buffer.concat([Buffer.from(head), message]), peer.port, peer.address);
    });
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      socket.bind({ address, port }, resolve);
    });
    socket.removeAllListeners("error").on("error", () => undefined);
    sockets.push(socket);
  }
  return sockets;
}

/** Tells the supervisor, if it waits, that everything listens; it need not live on for the servers to work. */
export function announceReady(): void {
  if (!process.connected) return;
  process.send?.("ready");
  process.disconnect?.();
}
