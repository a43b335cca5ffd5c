// SPDX-License-Identifier: Apache-2.0
// Datagram sockets share no port, on real sockets of the loopback.
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { closeSync } from "node:fs";
import { test } from "node:test";
import { datagramFd } from "./socket.ts";

for (const [type, host] of [
  ["udp4", "127.0.0.1"],
  ["udp6", "::1"],
] as const) {
  test(`the port of a datagram socket on ${host} is its own`, async () => {
    const socket = createSocket(type);
    const listening = once(socket, "listening");
    socket.bind({ fd: datagramFd({ host, port: 0 }) });
    await listening;
    const { port } = socket.address();
    try {
      assert.throws(
        () => closeSync(datagramFd({ host, port })),
        (thrown: Error) =>
          thrown.message.includes(`${host} port ${port}`) && thrown.message.includes("EADDRINUSE"),
      );
    } finally {
      socket.close();
    }
  });
}
