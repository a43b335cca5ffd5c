// SPDX-License-Identifier: Apache-2.0
// The argument of bpf(2), for bpf.ts, bpf-map.ts and bpf-aside.ts: union bpf_attr in include/uapi/linux/bpf.h. One buffer per
// command, because the kernel refuses a command whose unused bytes are not zero.
import { addressOf, allocate, bpf, bpfAside, errno, refused } from "./ffi.ts";

/** enum bpf_cmd. */
export const BpfCommand = {
  mapCreate: 0,
  mapLookup: 1,
  mapUpdate: 2,
  mapDelete: 3,
  mapNextKey: 4,
  progLoad: 5,
  objectPin: 6,
  objectGet: 7,
  progTestRun: 10,
  progNextId: 11,
  progFdById: 13,
  mapFdById: 14,
  objectInfo: 15,
  progQuery: 16,
  btfFdById: 19,
  mapFreeze: 22,
  mapLookupBatch: 24,
  mapUpdateBatch: 26,
  mapDeleteBatch: 27,
  linkCreate: 28,
  linkUpdate: 29,
  linkFdById: 30,
  linkDetach: 34,
} as const;

/** The attr of one command: fields are set by offset, memory that it points to is kept alive with it. */
export class Attr {
  readonly bytes = allocate(128);
  readonly view = new DataView(this.bytes.buffer);
  readonly #kept: Uint8Array[] = [];

  u32(at: number, value: number): this {
    this.view.setUint32(at, value, true);
    return this;
  }

  u64(at: number, value: bigint): this {
    this.view.setBigUint64(at, value, true);
    return this;
  }

  /** Points to memory made by `allocate`. */
  pointer(at: number, memory: Uint8Array | undefined): this {
    if (!memory || memory.length === 0) return this;
    this.#kept.push(memory);
    return this.u64(at, addressOf(memory));
  }

  /** At most 15 characters, as the kernel keeps them. */
  name(at: number, text: string): this {
    this.bytes.set(Buffer.from(text, "latin1").subarray(0, 15), at);
    return this;
  }

  /** `size`: bytes of the union that the command has; older kernels refuse bytes that they do not know only if set. */
  run(command: number, op: string, object: string, size = 72): number {
    const result = bpf(command, size === 128 ? this.bytes : this.bytes.subarray(0, size));
    if (result < 0) throw refused(op, errno(), object);
    return result;
  }

  /** The same in a thread of its own. What fails there is tried again here, which tells why. */
  async runAside(command: number, op: string, object: string, size = 72): Promise<number> {
    const result = await bpfAside(command, this.bytes.subarray(0, size));
    return result < 0 ? this.run(command, op, object, size) : result;
  }
}

/** A copy of the bytes in memory that C may point to. */
export function inMemory(data: Uint8Array): Uint8Array {
  const copy = allocate(data.length);
  copy.set(data);
  return copy;
}
