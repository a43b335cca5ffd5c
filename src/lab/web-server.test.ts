// SPDX-License-Identifier: Apache-2.0
// The lab's servers on loopback: they tell the caller's address and port, mapped IPv4 as IPv4, and give back what was sent.
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, connect } from "node:net";
import { test } from "node:test";
import { type Running, serveHttp, serveTcpEcho, serveUdpEcho } from "./web-server.ts";

const portOf = (server: Running): number => (server.address() as AddressInfo).port;

test("HTTP, TCP and UDP tell the caller's address and port", async (t) => {
  const running = [
    await serveHttp("w", 0),
    await serveTcpEcho("w", 0),
    ...(await serveUdpEcho("w", ["127.0.0.1"], 0)),
  ];
  const [port = 0, tcpPort = 0, udpPort = 0] = running.map(portOf);
  t.after(() => {
    for (const server of running) server.close();
  });

  await t.test("HTTP", async () => {
    const answer = (
      await (await fetch(`http://127.0.0.1:${port}/?bytes=3`, { headers: { connection: "close" } })).text()
    ).split("\n");
    const { peer, server, local } = JSON.parse(answer[0] ?? "");
    assert.deepEqual([server, peer, local, answer[1]], ["w", "127.0.0.1", "127.0.0.1", "..."]);
  });

  await t.test("TCP", async () => {
    const socket = connect(tcpPort, "127.0.0.1");
    let text = "";
    socket.on("data", (chunk) => {
      text += chunk;
    });
    await once(socket, "connect");
    const { localPort } = socket;
    socket.end("hello");
    await once(socket, "close");
    const [head = "", echo] = text.split("\n");
    assert.deepEqual(
      [JSON.parse(head).peerPort, JSON.parse(head).protocol, echo],
      [localPort, "TCP", "hello"],
    );
  });

  await t.test("UDP", async () => {
    const socket = createSocket("udp4");
    socket.send("hello", udpPort, "127.0.0.1");
    const [message] = await once(socket, "message");
    const [head = "", echo] = String(message).split("\n");
    assert.deepEqual([JSON.parse(head).peerPort, echo], [socket.address().port, "hello"]);
    socket.close();
  });
});
