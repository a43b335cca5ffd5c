// SPDX-License-Identifier: Apache-2.0
// Real frames for packet tests: what BPF_PROG_TEST_RUN refuses to build comes over a cable and meets the program where it is
// attached: packets that end inside their IP header, VLAN tags, checksums and segments left to the device, and packets whose
// headers are not in the linear part of the buffer.
import { closeSync } from "node:fs";
import { waitFor } from "../../src/base/async.ts";
import { allocate, checked, libc, viewOf } from "../../src/kernel/ffi.ts";
import { getLink } from "../../src/kernel/netlink/link.ts";
import { openRtNetlink } from "../../src/kernel/netlink/socket.ts";
import { addClsact, replaceFilter } from "../../src/kernel/netlink/tc.ts";
import { withNetns } from "../../src/kernel/netns.ts";
import { ip } from "./netns.ts";
import { type Devices, MAC, type PacketNode } from "./packet-node.ts";

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCKADDR_LL_BYTES = 20;
const NOTHING = 0;
/** ETH_P_ALL in network order. */
const EVERYTHING = 0x0300;
const SOL_PACKET = 263;
const PACKET_TX_RING = 13;
const PACKET_VNET_HDR = 15;
const PACKET_IGNORE_OUTGOING = 23;
const MSG_DONTWAIT = 0x40;
const OFFLOAD_BYTES = 10;
/** struct tpacket_hdr: status, length; the frame stands behind it. */
const RING = { slots: 64, slot: 2048, status: 0, length: 8, frame: 32, free: 0, send: 1 } as const;
const RING_BYTES = RING.slots * RING.slot;

/** Attaches a program to the ingress of one of the node's devices. It goes with the namespace. */
export function attachIngress(node: PacketNode, device: keyof Devices, programFd: number): void {
  using netlink = openRtNetlink(node.netns);
  const index = node.devices[device];
  netlink.apply(
    addClsact(index),
    replaceFilter({ device: index, direction: "ingress", priority: 1, handle: 1 }, programFd, "test"),
  );
}

/** Sets up a packet socket before it is bound; gives the protocols whose frames it is to receive. */
type SetUp = (fd: number) => number;

function openPacketSocket(netns: string, device: string, setUp: SetUp): number {
  return withNetns(netns, () => {
    using netlink = openRtNetlink();
    const fd = checked("socket.open", "packet", libc.socket(AF_PACKET, SOCK_RAW, 0));
    const receives = setUp(fd);
    const address = allocate(SOCKADDR_LL_BYTES);
    const view = new DataView(address.buffer);
    view.setUint16(0, AF_PACKET, true);
    view.setUint16(2, receives, true);
    view.setInt32(4, getLink(netlink, device).index, true);
    checked("socket.bind", device, libc.bind(fd, address, address.length));
    return fd;
  });
}

function setOption(fd: number, option: number, ...words: number[]): void {
  const value = new Uint8Array(Uint32Array.from(words).buffer);
  checked("socket.option", `${option}`, libc.setsockopt(fd, SOL_PACKET, option, value, value.length));
}

/** Sends frames from a device as they are given. */
export class FrameSocket implements Disposable {
  protected readonly fd: number;

  constructor(netns: string, device: string, setUp: SetUp = () => NOTHING) {
    this.fd = openPacketSocket(netns, device, setUp);
  }

  send(frame: Uint8Array): void {
    checked("socket.send", "frame", libc.send(this.fd, frame, frame.length, 0));
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}

/** The far end of one of the node's cables: frames put in arrive at the node. */
export class FarEnd extends FrameSocket {
  constructor(node: PacketNode, device: keyof Devices, setUp?: SetUp) {
    super(node.far, `far-${device}`, setUp);
  }
}

/** What is left to the device (struct virtio_net_hdr). */
export interface Offload {
  /** Where the sum begins, and where behind that it is to be stored; 0 and 0: nothing is left. */
  readonly sumFrom: number;
  readonly sumAt: number;
  /** 1 TCP over IPv4, 4 TCP over IPv6, 5 UDP; 0: one segment. */
  readonly gsoType: number;
  /** Payload bytes of a segment. */
  readonly gsoSize: number;
}

/** A far end that does as a device does which sums and cuts segments, and out of which comes what the node sends. */
export class OffloadEnd extends FarEnd {
  constructor(node: PacketNode, device: keyof Devices) {
    super(node, device, (fd) => {
      setOption(fd, PACKET_VNET_HDR, 1);
      setOption(fd, PACKET_IGNORE_OUTGOING, 1);
      return EVERYTHING;
    });
  }

  override send(frame: Uint8Array, offload: Partial<Offload> = {}): void {
    const { sumFrom = 0, sumAt = 0, gsoType = 0, gsoSize = 0 } = offload;
    const bytes = allocate(OFFLOAD_BYTES + frame.length);
    const view = new DataView(bytes.buffer);
    view.setUint8(0, sumFrom > 0 ? 1 : 0);
    view.setUint8(1, gsoType);
    view.setUint16(4, gsoSize, true);
    view.setUint16(6, sumFrom, true);
    view.setUint16(8, sumAt, true);
    bytes.set(frame, OFFLOAD_BYTES);
    super.send(bytes);
  }

  /** The next frame for which `wanted` holds, and what of it was left to the device. @throws Fault TIMEOUT */
  async receive(
    wanted: (frame: Uint8Array) => boolean,
    timeoutMs?: number,
  ): Promise<{ frame: Uint8Array; offload: Offload }> {
    const room = allocate(65_536);
    const view = new DataView(room.buffer);
    const size = await waitFor(
      "a frame of ours",
      () => {
        for (;;) {
          const got = libc.recv(this.fd, room, room.length, MSG_DONTWAIT);
          if (got < 0) return false;
          if (wanted(room.subarray(OFFLOAD_BYTES, got))) return got;
        }
      },
      { intervalMs: 2, ...(timeoutMs === undefined ? {} : { timeoutMs }) },
    );
    const sums = (view.getUint8(0) & 1) === 1;
    const offload = {
      sumFrom: sums ? view.getUint16(6, true) : 0,
      sumAt: sums ? view.getUint16(8, true) : 0,
      gsoType: view.getUint8(1),
      gsoSize: view.getUint16(4, true),
    };
    return { frame: room.slice(OFFLOAD_BYTES, size), offload };
  }
}

/** A far end that sends so that only the Ethernet header is in the linear part of the buffer: from a ring in shared pages. */
export class PagesEnd extends FarEnd {
  readonly #address: bigint;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #slot = 0;

  constructor(node: PacketNode, device: keyof Devices) {
    super(node, device, (fd) => {
      setOption(fd, PACKET_TX_RING, RING_BYTES, 1, RING.slot, RING.slots);
      return NOTHING;
    });
    const [READ, WRITE, SHARED] = [1, 2, 1];
    this.#address = libc.mmap(null, RING_BYTES, READ | WRITE, SHARED, this.fd, 0);
    const memory = viewOf(this.#address, RING_BYTES);
    this.#bytes = new Uint8Array(memory);
    this.#view = new DataView(memory);
  }

  /** Whether the oldest slot is free: what was sent from it has been freed by all who held it. */
  get ready(): boolean {
    return this.#view.getUint32(this.#slot + RING.status, true) === RING.free;
  }

  override send(frame: Uint8Array): void {
    if (frame.length > RING.slot - RING.frame || !this.ready) throw new Error("no room in the ring");
    this.#bytes.set(frame, this.#slot + RING.frame);
    this.#view.setUint32(this.#slot + RING.length, frame.length, true);
    this.#view.setUint32(this.#slot + RING.status, RING.send, true);
    this.#slot = (this.#slot + RING.slot) % RING_BYTES;
    checked("socket.send", "ring", libc.send(this.fd, null, 0, MSG_DONTWAIT));
  }

  override [Symbol.dispose](): void {
    libc.munmap(this.#address, RING_BYTES);
    super[Symbol.dispose]();
  }
}

/** The far ends of pod a's device and of eth0, whose ingress carries the programs. The gateway, which nobody plays, is known. */
export function cablesOf(
  node: PacketNode,
  program: (hook: "from_pod" | "from_net") => number,
): { readonly pod: OffloadEnd; readonly net: OffloadEnd } {
  ip(node.netns, [
    `neigh add 172.20.0.254 lladdr ${MAC.gateway} dev eth0 nud permanent`,
    `neigh add fd00:20::fe lladdr ${MAC.gateway} dev eth0 nud permanent`,
  ]);
  attachIngress(node, "hla", program("from_pod"));
  attachIngress(node, "eth0", program("from_net"));
  return { pod: new OffloadEnd(node, "hla"), net: new OffloadEnd(node, "eth0") };
}
