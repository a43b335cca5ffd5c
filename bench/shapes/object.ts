// SPDX-License-Identifier: Apache-2.0
// The shapes object (bpf/bench) as the benchmark drives it: its programs run over a walk of generated flows, its tables
// weighed and read back.
import { BenchObject, timeProgram } from "../object.ts";

/** Operations of one program run: OPS in bpf/bench/keys.h. */
export const OPS = 8;

/** Tick at which all flows of the benchmark live. */
const NOW = 1000;

/** Maps that hold one entry per flow, and those that hold two. */
const SINGLE = "a_flow a_reply p_flow p_reply d_flow d_reply c_slots c_free".split(" ");
const DOUBLE = ["b_pairs", "c_sides"];

/** Maps that make up each shape. The arrays of maps of a and d weigh nothing beside them. */
export const SHAPE_MAPS = {
  a: ["a_flow", "a_reply"],
  p: ["p_flow", "p_reply"],
  b: ["b_pairs"],
  c: ["c_sides", "c_slots", "c_free"],
  d: ["d_flow", "d_reply"],
} as const;

/** A walk over flows base .. base + count - 1, `stride` apart; 1 is the order of their creation. */
export interface Walk {
  base?: number;
  count: number;
  stride?: number;
  cpu?: number;
}

/** What a run of a program gave: `ns` per operation; operations that found or made nothing. */
export interface Ran {
  readonly ns: number;
  readonly failed: number;
}

export class Shapes extends BenchObject {
  /** `entries`: flows that each shape has room for. The thread must be on processor 0. */
  constructor(path: string, entries: number) {
    const sizes = [...SINGLE.map((name) => [name, entries]), ...DOUBLE.map((name) => [name, 2 * entries])];
    super(path, Object.fromEntries(sizes) as Record<string, number>);
    this.run("c_fill", { count: entries }, entries);
  }

  /** Sets the cursor of one processor. */
  aim({ base = 0, count, stride = 1, cpu = 0 }: Walk): void {
    const cursors = this.map("cursors");
    cursors.keyView.setUint32(0, cpu, true);
    cursors.value.fill(0);
    [0, base, count, stride, 0, NOW].forEach((word, at) => {
      cursors.valueView.setUint32(at * 4, word, true);
    });
    cursors.update();
  }

  /** Operations that failed since `aim`. */
  failed(cpu = 0): number {
    const cursors = this.map("cursors");
    cursors.keyView.setUint32(0, cpu, true);
    cursors.lookup();
    return cursors.valueView.getUint32(16, true);
  }

  /** Runs `operations` (a multiple of OPS) of a program on the processor of this thread, which must be `walk.cpu`. */
  run(name: string, walk: Walk, operations: number): Ran {
    this.aim(walk);
    const ns = timeProgram(this.program(name), operations / OPS);
    return { ns: ns / OPS, failed: this.failed(walk.cpu) };
  }

  /** Bytes that the kernel charges for a shape's tables. */
  bytes(shape: keyof typeof SHAPE_MAPS): number {
    return SHAPE_MAPS[shape].reduce((sum, name) => sum + this.map(name).memory(), 0);
  }

  /** Flow numbers that have an entry by the opener's tuple, and by the reply's. 128-bit keys only. */
  held(names: readonly string[]): { out: Set<number>; back: Set<number> } {
    const out = new Set<number>();
    const back = new Set<number>();
    for (const name of names) {
      for (const { keys, count } of this.map(name).batches()) {
        const view = new DataView(keys.buffer, keys.byteOffset);
        for (let at = 0; at < count * 40; at += 40) {
          // 10.0.0.0/8 is the pods': the flow's number is in the pod's last byte and the port (keys.h).
          if (view.getUint8(at + 12) === 10) out.add(flowOf(view.getUint8(at + 15), view.getUint16(at + 32)));
          else back.add(flowOf(view.getUint8(at + 15), view.getUint16(at + 34)));
        }
      }
    }
    return { out, back };
  }
}

function flowOf(lastByte: number, port: number): number {
  return (port - 32768) * 256 + lastByte;
}
