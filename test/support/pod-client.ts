// SPDX-License-Identifier: Apache-2.0
// What a pod does in a test: asks servers who they see, over the protocols and addresses in its arguments
// (`http:198.51.100.10 tcp:... udp:...`, `...@10.244.1.9` to ask from that address), and prints a JSON list of the
// answers or errors, in that order.
import { createSocket } from "node:dgram";
import { connect } from "node:net";
import { OUTSIDE_PORT } from "./netns.ts";

/** What one question gave. `peer` is the address under which the server saw us. */
export interface Seen {
  readonly target: string;
  readonly peer?: string;
  readonly peerPort?: number;
  readonly server?: string;
  readonly error?: string;
}

interface Place {
  readonly address: string;
  /** Local address, or "". */
  readonly source: string;
}

const TIMEOUT_MS = 5000;

/** First line of a TCP server's words, with what we say to get it. */
function overTcp({ address, source }: Place, port: number, say: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address, port, ...(source ? { localAddress: source } : {}) });
    let text = "";
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error("no answer")));
    socket.on("error", reject);
    socket.on("connect", () => socket.write(say));
    socket.on("data", (chunk) => {
      text += chunk;
      const line = text.split("\n").find((l) => l.startsWith("{"));
      if (line === undefined) return;
      resolve(line);
      socket.destroy();
    });
    socket.on("end", () => reject(new Error("closed without an answer")));
  });
}

function overUdp({ address, source }: Place, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
    const timer = setTimeout(() => {
      socket.close();
      reject(new Error("no answer"));
    }, TIMEOUT_MS);
    socket.on("error", reject);
    socket.on("message", (message) => {
      clearTimeout(timer);
      socket.close();
      resolve(message.toString().split("\n")[0] ?? "");
    });
    socket.bind({ port: 0, ...(source ? { address: source } : {}) }, () => socket.send("?", port, address));
  });
}

async function ask(target: string): Promise<Seen> {
  const [, protocol = "", address = "", source = ""] = /^(http|tcp|udp):([^@]+)@?(.*)$/.exec(target) ?? [];
  const place = { address, source };
  try {
    let answer: string;
    if (protocol === "udp") answer = await overUdp(place, OUTSIDE_PORT.udp);
    else if (protocol === "tcp") answer = await overTcp(place, OUTSIDE_PORT.tcp, "?");
    else answer = await overTcp(place, OUTSIDE_PORT.http, "GET / HTTP/1.0\r\n\r\n");
    return { target, ...JSON.parse(answer) };
  } catch (thrown) {
    return { target, error: (thrown as Error).message };
  }
}

if (import.meta.main) {
  process.stdout.write(JSON.stringify(await Promise.all(process.argv.slice(2).map(ask))));
}
