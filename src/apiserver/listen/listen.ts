// SPDX-License-Identifier: Apache-2.0
// Where the server listens: a unix socket that only its owner may use, or TCP with TLS and a bearer token, on loopback
// unless told otherwise.
import { chmodSync, lstatSync, mkdirSync, unlinkSync } from "node:fs";
import { createServer, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { BlockList, connect, isIP, type Socket } from "node:net";
import { dirname } from "node:path";
import { faults } from "../faults.ts";
import type { Handler } from "../http/handler.ts";
import type { Limits } from "../limits.ts";
import { failure } from "../status.ts";
import type { Certificates } from "./certificates.ts";

const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 60_000;
const KEEP_ALIVE_MS = 75_000;
const SOCKET_MODE = 0o600;

function settings(limits: Limits) {
  return {
    maxHeaderSize: limits.headerBytes,
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
  };
}

function prepare(server: Server, limits: Limits): void {
  server.maxConnections = limits.connections;
  server.on("clientError", (error: NodeJS.ErrnoException, socket) => refuse(error, socket as Socket, limits));
}

/** What is no HTTP request, or has too many headers, gets a Status too. */
function refuse(error: NodeJS.ErrnoException, socket: Socket, limits: Limits): void {
  const { _httpMessage: current } = socket as Socket & { _httpMessage?: ServerResponse };
  if (error.code === "ECONNRESET" || !socket.writable || current?.headersSent) {
    socket.destroy();
    return;
  }
  const tooLong = error.code === "HPE_HEADER_OVERFLOW";
  const fault = tooLong
    ? faults.API_URL_TOO_LONG({ what: "request line and headers", limit: limits.headerBytes })
    : faults.API_BAD_REQUEST({ why: "this is no HTTP request" });
  const status = failure(fault);
  const body = JSON.stringify(status);
  const line = tooLong ? "431 Request Header Fields Too Large" : "400 Bad Request";
  socket.end(
    `HTTP/1.1 ${line}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}

function started(server: Server, where: string, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause: Error) => reject(faults.LISTEN({ where, why: cause.message }, cause)));
    server.once("listening", resolve);
    listen();
  });
}

/** A socket that nobody answers on is left over from a process that was killed. */
function inUse(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

/**
 * Listens on a unix socket, mode 0600, in a folder that is made with mode 0700 if it is missing.
 * @throws Fault LISTEN when another server answers there, or the path is something else than a socket
 */
export async function listenUnix(path: string, handler: Handler, limits: Limits): Promise<Server> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there && !there.isSocket())
    throw faults.LISTEN({ where: path, why: "something else than a socket is there" });
  if (there && (await inUse(path))) throw faults.LISTEN({ where: path, why: "another server answers there" });
  if (there) unlinkSync(path);
  const server = createServer(settings(limits), (request, response) => {
    void handler.handle(request, response, undefined);
  });
  prepare(server, limits);
  // The mask makes the socket private from its first moment; bind(2) happens inside listen().
  const mask = process.umask(0o777 & ~SOCKET_MODE);
  try {
    await started(server, path, () => {
      server.listen(path);
      process.umask(mask);
    });
  } finally {
    process.umask(mask);
  }
  chmodSync(path, SOCKET_MODE);
  return server;
}

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

export function isLoopback(host: string): boolean {
  if (host === "localhost") return true;
  const version = isIP(host);
  return version !== 0 && loopback.check(host, version === 6 ? "ipv6" : "ipv4");
}

/** @throws Fault LISTEN, LISTEN_UNSAFE */
export async function listenTls(
  address: { host: string; port: number; allowRemote: boolean },
  secrets: { certificates: Certificates; token: string },
  handler: Handler,
  limits: Limits,
): Promise<Server> {
  const { host, port, allowRemote } = address;
  if (!isLoopback(host) && !allowRemote) {
    throw faults.LISTEN_UNSAFE({ host, why: "it is no loopback address and allowRemote is not set" });
  }
  if (secrets.token.length < 16)
    throw faults.LISTEN_UNSAFE({ host, why: "the token is shorter than 16 characters" });
  const { cert, key } = secrets.certificates;
  const server = createTlsServer(
    { ...settings(limits), cert, key, minVersion: "TLSv1.2" },
    (request, response) => {
      void handler.handle(request, response, secrets.token);
    },
  );
  prepare(server, limits);
  await started(server, `${host}:${port}`, () => server.listen(port, host));
  return server;
}
