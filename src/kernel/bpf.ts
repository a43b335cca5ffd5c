// SPDX-License-Identifier: Apache-2.0
// bpf(2): maps, programs, links and pins as numbers and bytes. Layouts: union bpf_attr, struct bpf_map_info and struct bpf_prog_info in
// include/uapi/linux/bpf.h. All functions throw Fault KERNEL_REFUSED or KERNEL_BUSY with the errno name.
import { Attr, BpfCommand, inMemory } from "./bpf-attr.ts";
import { addressOf, allocate, cString } from "./ffi.ts";

/** enum bpf_map_type, the types that we use. */
export const MapType = {
  hash: 1,
  array: 2,
  progArray: 3,
  percpuHash: 5,
  percpuArray: 6,
  lruHash: 9,
  lpmTrie: 11,
  arrayOfMaps: 12,
  ringbuf: 27,
} as const;

/** enum bpf_attach_type, the types that we use. */
export const AttachType = { tcxIngress: 46, tcxEgress: 47 } as const;

/** enum bpf_prog_type, the types that we use. */
export const ProgType = { schedCls: 3, syscall: 31 } as const;

export interface MapSpec {
  name: string;
  type: number;
  keySize: number;
  valueSize: number;
  maxEntries: number;
  flags?: number;
  /** For arrays and hashes of maps: a map with the shape that all inner maps have. */
  innerFd?: number;
  /** Types of key and value, for those who print the map. */
  btf?: { fd: number; key: number; value: number };
}

/** What BPF_MAP_CREATE takes. */
export function mapCreateAttr(spec: MapSpec): Attr {
  return new Attr()
    .u32(0, spec.type)
    .u32(4, spec.keySize)
    .u32(8, spec.valueSize)
    .u32(12, spec.maxEntries)
    .u32(16, spec.flags ?? 0)
    .u32(20, spec.innerFd ?? 0)
    .name(28, spec.name)
    .u32(48, spec.btf?.fd ?? 0)
    .u32(52, spec.btf?.key ?? 0)
    .u32(56, spec.btf?.value ?? 0);
}

/** Makes a map; gives its fd. BPF_MAP_CREATE. */
export function mapCreate(spec: MapSpec): number {
  return mapCreateAttr(spec).run(BpfCommand.mapCreate, "map.create", spec.name);
}

/** Makes a map read-only for user space. BPF_MAP_FREEZE. */
export function mapFreeze(fd: number, name: string): void {
  new Attr().u32(0, fd).run(BpfCommand.mapFreeze, "map.freeze", name);
}

/** fd of the object pinned at `path`. `readOnly` asks for a map fd that cannot write. BPF_OBJ_GET. */
export function objGet(path: string, readOnly = false): number {
  return new Attr()
    .pointer(0, cString(path))
    .u32(12, readOnly ? 8 : 0)
    .run(BpfCommand.objectGet, "object.get", path, 16);
}

/** Pins a map, program or link at `path` in a bpffs. BPF_OBJ_PIN. */
export function objPin(fd: number, path: string): void {
  new Attr().pointer(0, cString(path)).u32(8, fd).run(BpfCommand.objectPin, "object.pin", path, 16);
}

export interface MapInfo {
  readonly type: number;
  readonly id: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly name: string;
  /** Types of key and value; all 0 if the map has none. */
  readonly btf: { readonly id: number; readonly key: number; readonly value: number };
}

export interface ProgInfo {
  readonly type: number;
  readonly id: number;
  /** Hex digest of the instructions. */
  readonly tag: string;
  readonly name: string;
  /** Nanoseconds since boot. */
  readonly loadTime: bigint;
  readonly mapIds: number[];
  /** Instructions as they run: after the verifier's rewriting, without the dead ones. */
  readonly instructions: number;
  /** Instructions that the verifier walked; 0 before kernel 5.16. */
  readonly verifiedInstructions: number;
}

export interface LinkInfo {
  readonly type: number;
  readonly id: number;
  readonly progId: number;
  /** Device of a TCX or XDP link, 0 once the device is gone. */
  readonly ifindex: number;
  readonly attachType: number;
}

function objectInfo(fd: number, info: Uint8Array, object: string): DataView {
  new Attr()
    .u32(0, fd)
    .u32(4, info.length)
    .pointer(8, info)
    .run(BpfCommand.objectInfo, "object.info", object, 16);
  return new DataView(info.buffer);
}

function nameAt(view: DataView, at: number): string {
  const bytes = Buffer.from(view.buffer, at, 16);
  return bytes.toString("latin1", 0, Math.max(0, bytes.indexOf(0)));
}

/** struct bpf_map_info. */
export function mapInfo(fd: number, object = `fd ${fd}`): MapInfo {
  const view = objectInfo(fd, allocate(88), object);
  return {
    type: view.getUint32(0, true),
    id: view.getUint32(4, true),
    keySize: view.getUint32(8, true),
    valueSize: view.getUint32(12, true),
    maxEntries: view.getUint32(16, true),
    flags: view.getUint32(20, true),
    name: nameAt(view, 24),
    btf: {
      id: view.getUint32(64, true),
      key: view.getUint32(68, true),
      value: view.getUint32(72, true),
    },
  };
}

/** fd of loaded types. BPF_BTF_GET_FD_BY_ID. */
export function btfById(id: number): number {
  return new Attr().u32(0, id).run(BpfCommand.btfFdById, "btf.by_id", `${id}`, 12);
}

/** struct bpf_prog_info. At most 64 map ids are read. */
export function progInfo(fd: number, object = `fd ${fd}`): ProgInfo {
  const info = allocate(224);
  const ids = new Uint32Array(new ArrayBuffer(256));
  const input = new DataView(info.buffer);
  input.setUint32(52, ids.length, true);
  input.setBigUint64(56, addressOf(new Uint8Array(ids.buffer)), true);
  const view = objectInfo(fd, info, object);
  return {
    type: view.getUint32(0, true),
    id: view.getUint32(4, true),
    tag: Buffer.from(info.buffer, 8, 8).toString("hex"),
    name: nameAt(view, 64),
    loadTime: view.getBigUint64(40, true),
    mapIds: [...ids.subarray(0, Math.min(ids.length, view.getUint32(52, true)))],
    instructions: view.getUint32(20, true) / 8,
    verifiedInstructions: view.getUint32(216, true),
  };
}

/** struct bpf_link_info, with the part that TCX and XDP links share. */
export function linkInfo(fd: number, object = `fd ${fd}`): LinkInfo {
  const view = objectInfo(fd, allocate(64), object);
  return {
    type: view.getUint32(0, true),
    id: view.getUint32(4, true),
    progId: view.getUint32(8, true),
    ifindex: view.getUint32(16, true),
    attachType: view.getUint32(20, true),
  };
}

export interface TestRun {
  fd: number;
  /** The packet, from its Ethernet header; absent for programs without one (syscall). */
  data?: Uint8Array;
  /** struct __sk_buff, or whatever context the program takes. */
  ctx?: Uint8Array;
  repeat?: number;
  /** Extra room, in bytes, for a packet that grows. Default 256. */
  growth?: number;
}

export interface TestRunResult {
  readonly retval: number;
  readonly data: Uint8Array;
  readonly ctx: Uint8Array;
  /** Mean of one run, in ns. */
  readonly durationNs: number;
}

/** What BPF_PROG_TEST_RUN takes, and how to read what it leaves there. */
export function testRunAttr(run: TestRun): { attr: Attr; result: () => TestRunResult } {
  const attr = new Attr().u32(0, run.fd).u32(32, run.repeat ?? 0);
  let out: Uint8Array | undefined;
  if (run.data) {
    out = allocate(run.data.length + (run.growth ?? 256));
    attr.u32(8, run.data.length).pointer(16, inMemory(run.data)).u32(12, out.length).pointer(24, out);
  }
  const ctx = run.ctx ? inMemory(run.ctx) : undefined;
  if (ctx) {
    attr.u32(40, ctx.length).pointer(48, ctx);
    // A program without a packet writes into the context itself (bpf_prog_test_run_syscall).
    if (run.data) attr.u32(44, ctx.length).pointer(56, ctx);
  }
  const result = (): TestRunResult => ({
    retval: attr.view.getUint32(4, true),
    data: out ? out.subarray(0, attr.view.getUint32(12, true)) : new Uint8Array(0),
    ctx: ctx ?? new Uint8Array(0),
    durationNs: attr.view.getUint32(36, true),
  });
  return { attr, result };
}

/** Runs a program once or `repeat` times over a packet. BPF_PROG_TEST_RUN. */
export function progTestRun(run: TestRun): TestRunResult {
  const { attr, result } = testRunAttr(run);
  attr.run(BpfCommand.progTestRun, "prog.test_run", `fd ${run.fd}`, 80);
  return result();
}

/** Attaches a program to a device through a link (TCX); gives the link's fd. BPF_LINK_CREATE. */
export function linkCreate(progFd: number, ifindex: number, attachType: number): number {
  return new Attr()
    .u32(0, progFd)
    .u32(4, ifindex)
    .u32(8, attachType)
    .run(BpfCommand.linkCreate, "link.create", `device ${ifindex} attach type ${attachType}`, 48);
}

/** Swaps the program of a link; no packet passes without one. BPF_LINK_UPDATE. */
export function linkUpdate(linkFd: number, progFd: number, object = `fd ${linkFd}`): void {
  new Attr().u32(0, linkFd).u32(4, progFd).run(BpfCommand.linkUpdate, "link.update", object, 16);
}

/** Detaches the program of a link, also if others hold the link. BPF_LINK_DETACH. */
export function linkDetach(linkFd: number, object = `fd ${linkFd}`): void {
  new Attr().u32(0, linkFd).run(BpfCommand.linkDetach, "link.detach", object, 4);
}

/** Ids of the programs attached to a device at a TCX hook, in the order in which they run. BPF_PROG_QUERY. */
export function progQuery(ifindex: number, attachType: number): number[] {
  const ids = new Uint32Array(new ArrayBuffer(256));
  const attr = new Attr()
    .u32(0, ifindex)
    .u32(4, attachType)
    .pointer(16, new Uint8Array(ids.buffer))
    .u32(24, ids.length);
  attr.run(BpfCommand.progQuery, "prog.query", `device ${ifindex} attach type ${attachType}`, 64);
  return [...ids.subarray(0, attr.view.getUint32(24, true))];
}

/** fd of a loaded program. BPF_PROG_GET_FD_BY_ID. */
export function progById(id: number): number {
  return new Attr().u32(0, id).run(BpfCommand.progFdById, "prog.by_id", `${id}`, 12);
}

/** fd of a map. BPF_MAP_GET_FD_BY_ID. */
export function mapById(id: number): number {
  return new Attr().u32(0, id).run(BpfCommand.mapFdById, "map.by_id", `${id}`, 12);
}

/** What a program load needs; enough for the few instructions of a probe. */
export interface ProgSpec {
  type: number;
  /** Encoded struct bpf_insn, 8 bytes each. */
  instructions: Uint8Array;
  /** BPF_F_*. */
  flags?: number;
  name?: string;
  /** Memory for what the verifier says. */
  log?: Uint8Array;
}

/** Loads a program under the licence "GPL"; gives its fd. BPF_PROG_LOAD. */
export function progLoad(spec: ProgSpec): number {
  return new Attr()
    .u32(0, spec.type)
    .u32(4, spec.instructions.length / 8)
    .pointer(8, inMemory(spec.instructions))
    .pointer(16, cString("GPL"))
    .u32(24, spec.log ? 1 : 0)
    .u32(28, spec.log?.length ?? 0)
    .pointer(32, spec.log)
    .u32(44, spec.flags ?? 0)
    .name(48, spec.name ?? "probe")
    .run(BpfCommand.progLoad, "prog.load", spec.name ?? "probe", 120);
}
