// SPDX-License-Identifier: Apache-2.0
// BPF_PROG_TEST_RUN for many packets: one attr, one buffer in and one out, so that a run costs little more than the system
// call (3 us). The caller is in the packets' network namespace. Where the kernel can, each packet comes as one that the device
// has summed (CHECKSUM_COMPLETE), and the kernel itself judges that sum after the run.
import { addressOf, allocate, bpf, errno } from "../../src/kernel/ffi.ts";

const PROG_TEST_RUN = 10;
/** Longer than what a test run takes: a page less the kernel's own room. */
const ROOM = 4096;
const SKB_BYTES = 192;
const ATTR = {
  fd: 0,
  retval: 4,
  sizeIn: 8,
  sizeOut: 12,
  in: 16,
  out: 24,
  repeat: 32,
  ctxIn: 40,
  ctx: 48,
  flags: 64,
};
const SKB = { ifindex: 40, gsoSegs: 164, gsoSize: 176 };
/** BPF_F_TEST_SKB_CHECKSUM_COMPLETE, since 6.17. */
const SUMMED = 4;

export class TestRun {
  /** Its bytes and no more are the packet that came out of the last run. */
  out: Uint8Array = new Uint8Array(0);
  /** Whether the kernel judges the device's sum. */
  summed = false;
  readonly #attr = allocate(80);
  readonly #view = new DataView(this.#attr.buffer);
  readonly #in = allocate(ROOM);
  readonly #out = allocate(ROOM);
  readonly #ctx = allocate(SKB_BYTES);
  readonly #ctxView = new DataView(this.#ctx.buffer);

  constructor() {
    const view = this.#view;
    view.setBigUint64(ATTR.in, addressOf(this.#in), true);
    view.setBigUint64(ATTR.out, addressOf(this.#out), true);
    view.setUint32(ATTR.repeat, 1, true);
    view.setUint32(ATTR.ctxIn, SKB_BYTES, true);
    view.setBigUint64(ATTR.ctx, addressOf(this.#ctx), true);
  }

  /** Finds out whether the kernel can judge the device's sum, by a packet that some program takes. */
  probe(program: number, packet: Uint8Array): void {
    this.summed = true;
    this.summed = this.run(program, packet, { ifindex: 1 }) !== "EINVAL";
  }

  /** What the program answered, or why the kernel refused: EBADMSG if the device's sum is wrong afterwards. */
  run(
    program: number,
    packet: Uint8Array,
    skb: { ifindex: number; gso?: { size: number; segments: number } },
  ): number | string {
    const view = this.#view;
    this.#in.set(packet);
    this.#ctxView.setUint32(SKB.ifindex, skb.ifindex, true);
    this.#ctxView.setUint32(SKB.gsoSize, skb.gso?.size ?? 0, true);
    this.#ctxView.setUint32(SKB.gsoSegs, skb.gso?.segments ?? 0, true);
    view.setUint32(ATTR.fd, program, true);
    view.setUint32(ATTR.sizeIn, packet.length, true);
    view.setUint32(ATTR.sizeOut, ROOM, true);
    view.setUint32(ATTR.flags, this.summed ? SUMMED : 0, true);
    if (bpf(PROG_TEST_RUN, this.#attr) < 0) return errno();
    this.out = this.#out.subarray(0, view.getUint32(ATTR.sizeOut, true));
    return view.getUint32(ATTR.retval, true);
  }
}
