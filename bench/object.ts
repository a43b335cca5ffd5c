// SPDX-License-Identifier: Apache-2.0
// A BPF object of the benchmarks, loaded by libbpf with the table sizes of the run, and the thread kept on one
// processor while its programs run: per-CPU maps and cursors are found by processor.
import { progTestRun } from "../src/kernel/bpf.ts";
import { BpfMap } from "../src/kernel/bpf-map.ts";
import { openLibrary } from "../src/kernel/ffi.ts";

type Find = (object: unknown, name: string) => unknown;

const libc = openLibrary("libc.so.6");
const duplicate = libc("int dup(int fd)") as (fd: number) => number;
const setAffinity = libc("int sched_setaffinity(int thread, size_t size, void *mask)") as (
  thread: number,
  size: number,
  mask: Uint8Array,
) => number;

const libbpf = openLibrary("libbpf.so.1");
const open = libbpf("void *bpf_object__open_file(str path, void *options)") as (
  path: string,
  o: null,
) => unknown;
const load = libbpf("int bpf_object__load(void *object)") as (object: unknown) => number;
const close = libbpf("void bpf_object__close(void *object)") as (object: unknown) => void;
const findMap = libbpf("void *bpf_object__find_map_by_name(void *object, str name)") as Find;
const findProgram = libbpf("void *bpf_object__find_program_by_name(void *object, str name)") as Find;
const mapFd = libbpf("int bpf_map__fd(void *map)") as (map: unknown) => number;
const programFd = libbpf("int bpf_program__fd(void *program)") as (program: unknown) => number;
const resize = libbpf("int bpf_map__set_max_entries(void *map, uint entries)") as (
  m: unknown,
  n: number,
) => number;

/** An Ethernet and IPv4 header: the programs do not read the packet. */
const PACKET = new Uint8Array(64);
PACKET[12] = 8;
PACKET[14] = 0x45;

/** Runs a program `repeat` times on the processor of this thread; gives the mean in ns. */
export function timeProgram(fd: number, repeat: number): number {
  return progTestRun({ fd, data: PACKET, repeat }).durationNs;
}

/** Keeps the calling thread on one processor. */
export function pinThread(cpu: number): void {
  const mask = new Uint8Array(128);
  mask[cpu >> 3] = 1 << (cpu & 7);
  if (setAffinity(0, mask.length, mask) < 0) throw new Error(`cannot run on processor ${cpu}`);
}

export class BenchObject implements Disposable {
  readonly #object: unknown;
  readonly #maps = new Map<string, BpfMap>();
  readonly #programs = new Map<string, number>();

  /** `sizes`: max_entries by map name, for maps whose size is not the one in the source. */
  constructor(path: string, sizes: Record<string, number> = {}) {
    this.#object = open(path, null);
    if (!this.#object) throw new Error(`${path}: libbpf cannot open it`);
    for (const [name, entries] of Object.entries(sizes)) resize(findMap(this.#object, name), entries);
    const result = load(this.#object);
    if (result < 0) throw new Error(`${path}: the kernel refused it (${result})`);
  }

  map(name: string): BpfMap {
    let map = this.#maps.get(name);
    if (!map) {
      // The object closes its own fd, the BpfMap this one.
      map = new BpfMap(duplicate(mapFd(findMap(this.#object, name))), name);
      this.#maps.set(name, map);
    }
    return map;
  }

  /** The fd stays the object's. */
  program(name: string): number {
    let fd = this.#programs.get(name);
    if (fd === undefined) {
      const program = findProgram(this.#object, name);
      if (!program) throw new Error(`no program ${name} in the object`);
      fd = programFd(program);
      this.#programs.set(name, fd);
    }
    return fd;
  }

  [Symbol.dispose](): void {
    for (const map of this.#maps.values()) map.close();
    close(this.#object);
  }
}
