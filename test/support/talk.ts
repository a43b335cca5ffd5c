// SPDX-License-Identifier: Apache-2.0
// One conversation that goes on while something changes: a TCP connection or a UDP socket inside a pod's or node's namespace,
// with the echo servers of outside-server.ts, which say under which address they see us.
import { createSocket, type Socket as DatagramSocket } from "node:dgram";
import { Socket } from "node:net";
import { connectFd, datagramFd } from "../../src/kernel/socket.ts";
import { OUTSIDE_PORT } from "./netns.ts";

/** For an answer that must come; who asks again, or awaits silence, takes less. */
const PATIENCE_MS = 15_000;

/** Where we talk from, and to whom. */
export interface TalkPlace {
  readonly netns: string;
  readonly host: string;
  /** Default: the port of the echo servers. */
  readonly port?: number;
  /** UDP: our own port. Default: any. */
  readonly localPort?: number;
}

/** Datagrams from one socket. */
export class UdpTalk implements Disposable {
  readonly #place: TalkPlace;
  readonly #socket: DatagramSocket;
  readonly #bound: Promise<void>;
  #onMessage: ((text: string) => void) | undefined;
  /** Everything that ever came in, in order. */
  readonly heard: string[] = [];

  constructor(place: TalkPlace) {
    const v6 = place.host.includes(":");
    this.#place = place;
    this.#socket = createSocket(v6 ? "udp6" : "udp4");
    this.#socket.on("error", () => undefined);
    this.#socket.on("message", (message) => {
      this.heard.push(message.toString());
      this.#onMessage?.(message.toString());
    });
    const { netns, localPort = 0 } = place;
    const fd = datagramFd({ netns, host: v6 ? "::" : "0.0.0.0", port: localPort });
    this.#bound = new Promise((resolve) => this.#socket.bind({ fd }, resolve));
  }

  get port(): number {
    return this.#socket.address().port;
  }

  /** Sends one datagram; gives "address port" under which the server saw it, or undefined if nothing came back. */
  async seenAs(patienceMs = PATIENCE_MS): Promise<string | undefined> {
    await this.#bound;
    return new Promise((resolve) => {
      const end = (answer: string | undefined): void => {
        clearTimeout(timer);
        this.#onMessage = undefined;
        resolve(answer);
      };
      const timer = setTimeout(() => end(undefined), patienceMs);
      this.#onMessage = (text) => {
        const { peer, peerPort } = JSON.parse(text.split("\n")[0] ?? "{}");
        end(`${peer} ${peerPort}`);
      };
      this.#socket.send("?", this.#place.port ?? OUTSIDE_PORT.udp, this.#place.host);
    });
  }

  /** The address under which the server sees us. */
  async peer(patienceMs = PATIENCE_MS): Promise<string | undefined> {
    return (await this.seenAs(patienceMs))?.split(" ")[0];
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}

/** One TCP connection. */
export class TcpTalk implements Disposable {
  readonly #socket: Socket;
  #text = "";
  #wake: (() => void) | undefined;
  /** Under which address and port the server saw us at the beginning. */
  peer = "";
  peerPort = 0;
  /** Why it ended, undefined while it lives. */
  ended: string | undefined;

  private constructor({ netns, host, port = OUTSIDE_PORT.tcp }: TalkPlace) {
    const fd = connectFd({ netns, host, port });
    this.#socket = new Socket({ fd, readable: true, writable: true });
    this.#socket.on("error", (error) => {
      this.ended = error.message;
    });
    this.#socket.on("close", () => {
      this.ended ??= "closed";
      this.#wake?.();
    });
    this.#socket.setEncoding("utf8").on("data", (text: string) => {
      this.#text += text;
      this.#wake?.();
    });
    this.#socket.resume();
  }

  /** Connects; gives the connection once the server has greeted. */
  static async open(place: TalkPlace): Promise<TcpTalk> {
    const talk = new TcpTalk(place);
    const greeting = await talk.#line();
    if (greeting === undefined) {
      const why = talk.ended ?? "silence";
      talk[Symbol.dispose]();
      throw new Error(`no greeting from ${place.host}: ${why}`);
    }
    ({ peer: talk.peer, peerPort: talk.peerPort } = JSON.parse(greeting));
    return talk;
  }

  async #line(): Promise<string | undefined> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end >= 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        return line;
      }
      const left = deadline - performance.now();
      if (left <= 0 || this.ended !== undefined) return undefined;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** Whether a line came back. */
  async echoes(line: string): Promise<boolean> {
    this.#socket.write(`${line}\n`);
    return (await this.#line()) === line;
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}
