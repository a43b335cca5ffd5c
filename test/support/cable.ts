// SPDX-License-Identifier: Apache-2.0
// Real frames for packet tests: what BPF_PROG_TEST_RUN refuses to build, such as a packet that ends inside its IP header,
// comes over a cable and meets the program where it is attached.
import { closeSync } from "node:fs";
import { allocate, checked, libc } from "../../src/kernel/ffi.ts";
import { getLink } from "../../src/kernel/netlink/link.ts";
import { openRtNetlink } from "../../src/kernel/netlink/socket.ts";
import { addClsact, replaceFilter } from "../../src/kernel/netlink/tc.ts";
import { withNetns } from "../../src/kernel/netns.ts";
import type { Devices, PacketNode } from "./packet-node.ts";

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCKADDR_LL_BYTES = 20;

/** Attaches a program to the ingress of one of the node's devices. It goes with the namespace. */
export function attachIngress(node: PacketNode, device: keyof Devices, programFd: number): void {
  using netlink = openRtNetlink(node.netns);
  const index = node.devices[device];
  netlink.apply(
    addClsact(index),
    replaceFilter({ device: index, direction: "ingress", priority: 1, handle: 1 }, programFd, "test"),
  );
}

/** Sends frames from a device as they are given. */
export class FrameSocket implements Disposable {
  readonly #fd: number;

  constructor(netns: string, device: string) {
    this.#fd = withNetns(netns, () => {
      using netlink = openRtNetlink();
      const fd = checked("socket.open", "packet", libc.socket(AF_PACKET, SOCK_RAW, 0));
      const address = allocate(SOCKADDR_LL_BYTES);
      const view = new DataView(address.buffer);
      view.setUint16(0, AF_PACKET, true);
      view.setInt32(4, getLink(netlink, device).index, true);
      checked("socket.bind", device, libc.bind(fd, address, address.length));
      return fd;
    });
  }

  send(frame: Uint8Array): void {
    checked("socket.send", "frame", libc.send(this.#fd, frame, frame.length, 0));
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

/** The far end of one of the node's cables: frames put in arrive at the node. */
export class FarEnd extends FrameSocket {
  constructor(node: PacketNode, device: keyof Devices) {
    super(node.far, `far-${device}`);
  }
}
