// SPDX-License-Identifier: Apache-2.0
// A program of ten instructions writes the packet's mark into a real ring buffer; nothing may be lost or come twice.
import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { after, test } from "node:test";
import { MapType, mapCreate, ProgType, progLoad, progTestRun } from "../kernel/bpf.ts";
import { PAGE_BYTES } from "../kernel/ffi.ts";
import { openRing } from "./ring.ts";

const SIZE = PAGE_BYTES;
/** Header and eight bytes. */
const RECORD = 16;

const fds: number[] = [];
after(() => {
  for (const fd of fds) closeSync(fd);
});

/** One struct bpf_insn; in `registers` the low half is the destination, the high half the source. */
function insn(code: number, registers: number, offset: number, immediate: number): number[] {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt8(code, 0);
  bytes.writeUInt8(registers, 1);
  bytes.writeInt16LE(offset, 2);
  bytes.writeInt32LE(immediate, 4);
  return [...bytes];
}

/** A ring, and a function that has `repeat` records with this mark written; it gives the helper's result. */
function producer(): { ring: number; write: (mark: number, repeat?: number) => number } {
  const ring = mapCreate({
    name: "hlt_ring",
    type: MapType.ringbuf,
    keySize: 0,
    valueSize: 0,
    maxEntries: SIZE,
  });
  const prog = progLoad({
    type: ProgType.schedCls,
    instructions: Uint8Array.from([
      ...insn(0x61, 0x12, 8, 0), // r2 = skb->mark
      ...insn(0x7b, 0x2a, -8, 0), // *(u64 *)(fp - 8) = r2
      ...insn(0x18, 0x11, 0, ring), // r1 = ring
      ...insn(0, 0, 0, 0),
      ...insn(0xbf, 0xa2, 0, 0), // r2 = fp
      ...insn(0x07, 0x02, 0, -8), // r2 -= 8
      ...insn(0xb7, 0x03, 0, 8), // r3 = 8 bytes
      ...insn(0xb7, 0x04, 0, 1), // r4 = BPF_RB_NO_WAKEUP
      ...insn(0x85, 0, 0, 130), // bpf_ringbuf_output
      ...insn(0x95, 0, 0, 0),
    ]),
  });
  fds.push(ring, prog);
  const data = new Uint8Array(64);
  const ctx = new Uint8Array(192);
  return {
    ring,
    write: (mark, repeat = 1) => {
      new DataView(ctx.buffer).setUint32(8, mark, true);
      return progTestRun({ fd: prog, data, ctx, repeat }).retval;
    },
  };
}

test("every record comes once and in order, many times around the ring", () => {
  const { ring: fd, write } = producer();
  using ring = openRing(fd);
  let sent = 0;
  let expected = 0;
  for (let round = 0; round < 400; round++) {
    for (let i = 0; i < (round * 7) % 100; i++) assert.equal(write(sent++), 0);
    const before = expected;
    const count = ring.drain((view, at, length) => {
      assert.equal(length, 8);
      assert.equal(view.getUint32(at, true), expected++);
    });
    assert.equal(count, expected - before);
    assert.equal(expected, sent);
    assert.equal(ring.waiting, 0);
  }
  assert.ok(sent * RECORD > 40 * SIZE);
});

test("a full ring refuses, and takes records again once it was read", () => {
  const { ring: fd, write } = producer();
  using ring = openRing(fd);
  let stored = 0;
  while (write(stored) === 0) stored++;
  assert.ok(stored >= SIZE / RECORD - 1 && stored <= SIZE / RECORD, `${stored} records`);
  assert.equal(ring.waiting, stored * RECORD);
  const marks: number[] = [];
  assert.equal(
    ring.drain((view, at) => marks.push(view.getUint32(at, true)), 10),
    10,
  );
  assert.equal(write(stored), 0);
  ring.drain((view, at) => marks.push(view.getUint32(at, true)));
  assert.deepEqual(
    marks,
    Array.from({ length: stored + 1 }, (_, i) => i),
  );
});

test("a reader that throws loses its record only, and the next reader goes on after it", () => {
  const { ring: fd, write } = producer();
  for (let i = 0; i < 5; i++) write(i);
  const first = openRing(fd);
  assert.throws(
    () =>
      first.drain((view, at) => {
        if (view.getUint32(at, true) === 2) throw new Error("bad record");
      }),
    /bad record/,
  );
  first.close();
  assert.equal(
    first.drain(() => assert.fail("closed")),
    0,
  );
  using second = openRing(fd);
  const rest: number[] = [];
  second.drain((view, at) => rest.push(view.getUint32(at, true)));
  assert.deepEqual(rest, [3, 4]);
});

test("a map of another type is refused", () => {
  const fd = mapCreate({ name: "hlt_hash", type: MapType.hash, keySize: 4, valueSize: 4, maxEntries: 1 });
  fds.push(fd);
  assert.throws(() => openRing(fd), { code: "KERNEL_REFUSED" });
});
