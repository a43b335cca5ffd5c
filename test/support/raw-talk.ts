// SPDX-License-Identifier: Apache-2.0
// One end of a conversation in a protocol that the kernel knows nothing of: a raw socket between two addresses, which hears
// nobody but the other one. So what it hears tells under which address it was sent.
import { closeSync } from "node:fs";
import { waitFor } from "../../src/base/async.ts";
import { allocate, checked, errno, libc } from "../../src/kernel/ffi.ts";
import { withNetns } from "../../src/kernel/netns.ts";
import { socketAddress } from "../../src/kernel/socket.ts";

const [AF_INET, AF_INET6, SOCK_RAW, MSG_DONTWAIT] = [2, 10, 3, 0x40];
const ROOM = 65_536;

export interface RawPlace {
  readonly netns: string;
  readonly protocol: number;
  /** Our address. */
  readonly local: string;
  readonly peer: string;
}

export class RawTalk implements Disposable {
  readonly #fd: number;
  readonly #v6: boolean;
  readonly #room = allocate(ROOM);

  constructor({ netns, protocol, local, peer }: RawPlace) {
    this.#v6 = local.includes(":");
    this.#fd = withNetns(netns, () => {
      const fd = checked(
        "socket.open",
        "raw",
        libc.socket(this.#v6 ? AF_INET6 : AF_INET, SOCK_RAW, protocol),
      );
      const [from, to] = [socketAddress(local, 0), socketAddress(peer, 0)];
      checked("socket.bind", local, libc.bind(fd, from, from.length));
      checked("socket.connect", peer, libc.connect(fd, to, to.length));
      return fd;
    });
  }

  say(text: string): void {
    const bytes = Buffer.from(text);
    checked("socket.send", "raw", libc.send(this.#fd, bytes, bytes.length, 0));
  }

  /** What has come next: a payload, or the name of an error; undefined if nothing has. */
  heard(): string | undefined {
    const got = libc.recv(this.#fd, this.#room, ROOM, MSG_DONTWAIT);
    if (got < 0) return errno() === "EAGAIN" ? undefined : errno();
    // Of IPv4 a raw socket gets the IP header too.
    const header = this.#v6 ? 0 : ((this.#room[0] ?? 0) & 15) * 4;
    return Buffer.from(this.#room.subarray(header, got)).toString();
  }

  /** Waits until this text, or the error of this name, has come. @throws Fault TIMEOUT */
  async hears(text: string): Promise<void> {
    await waitFor(`"${text.slice(0, 30)}"`, () => this.heard() === text, { intervalMs: 2 });
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
