// SPDX-License-Identifier: Apache-2.0
// What this kernel can do, found by trying and not by its version, because distributions backport. Each answer is one
// of three: supported, missing, or unknown when the attempt itself could not be made (no right, a locked-down kernel).
import { closeSync, existsSync, readFileSync } from "node:fs";
import { release } from "node:os";
import { Fault } from "../base/fault.ts";
import {
  AttachType,
  type MapSpec,
  MapType,
  mapCreate,
  ProgType,
  progLoad,
  progQuery,
  progTestRun,
} from "./bpf.ts";
import { BpfMap } from "./bpf-map.ts";
import { isErrno } from "./errno.ts";
import { allocate } from "./ffi.ts";

export type FeatureState = "supported" | "missing" | "unknown";

export interface Feature {
  readonly state: FeatureState;
  /** One line: what was tried and what came of it. */
  readonly why: string;
  /** Whether the data plane cannot do without it. */
  readonly required: boolean;
  /** First mainline release that has it. */
  readonly since: string;
}

/** What the data plane asks of the kernel, and what it can use. */
const FEATURES = {
  btf: { required: false, since: "5.4", probe: () => existsSync("/sys/kernel/btf/vmlinux") },
  bpffs: {
    required: true,
    since: "4.4",
    probe: () => /\tbpf$/m.test(readFileSync("/proc/filesystems", "latin1")),
  },
  jit: { required: false, since: "3.0", probe: hasJit },
  lpmTrie: {
    required: true,
    since: "4.11",
    probe: () => canMake({ type: MapType.lpmTrie, keySize: 20, valueSize: 8, maxEntries: 1, flags: 1 }),
  },
  ringbuf: {
    required: true,
    since: "5.8",
    probe: () => canMake({ type: MapType.ringbuf, keySize: 0, valueSize: 0, maxEntries: 65536 }),
  },
  innerSizes: { required: true, since: "5.10", probe: hasInnerSizes },
  forEachElement: { required: true, since: "5.13", probe: () => hasHelper(164, ProgType.schedCls) },
  syscallPrograms: { required: true, since: "5.14", probe: () => canLoad(ProgType.syscall) },
  redirectNeighbour: { required: true, since: "5.10", probe: () => hasHelper(152, ProgType.schedCls) },
  redirectPeer: { required: true, since: "5.10", probe: () => hasHelper(155, ProgType.schedCls) },
  jiffies: { required: true, since: "5.5", probe: () => hasHelper(118, ProgType.schedCls) },
  compareAndSwap: { required: true, since: "5.12", probe: hasCompareAndSwap },
  loop: { required: true, since: "5.17", probe: () => hasHelper(181, ProgType.schedCls) },
  fibLookup: { required: true, since: "4.18", probe: () => hasFibFlag(0) },
  fibSkipNeighbour: { required: false, since: "6.3", probe: () => hasFibFlag(1 << 2) },
  fibSource: { required: false, since: "6.7", probe: () => hasFibFlag(1 << 4) },
  tcx: { required: false, since: "6.6", probe: hasTcx },
} as const satisfies Record<string, { required: boolean; since: string; probe: () => boolean }>;

export type FeatureName = keyof typeof FEATURES;

export interface Features {
  /** `uname -r`. */
  readonly kernel: string;
  readonly features: Readonly<Record<FeatureName, Feature>>;
}

/** One struct bpf_insn. */
function insn(code: number, registers: number, offset: number, immediate: number): number[] {
  const bytes = new DataView(new ArrayBuffer(8));
  bytes.setUint8(0, code);
  bytes.setUint8(1, registers);
  bytes.setInt16(2, offset, true);
  bytes.setInt32(4, immediate, true);
  return [...new Uint8Array(bytes.buffer)];
}

const RETURN_0 = [...insn(0xb7, 0, 0, 0), ...insn(0x95, 0, 0, 0)];

/** Errors by which the kernel says that it does not know what is asked for. */
function unlessRefused(attempt: () => void): boolean {
  try {
    attempt();
    return true;
  } catch (thrown) {
    if (isErrno(thrown, "EINVAL", "EOPNOTSUPP", "ENOTSUPP")) return false;
    throw thrown;
  }
}

function canMake(spec: Omit<MapSpec, "name">): boolean {
  return unlessRefused(() => closeSync(mapCreate({ name: "probe", ...spec })));
}

function canLoad(type: number, code: number[] = RETURN_0): boolean {
  // Programs of the type syscall may sleep, and must say so (BPF_F_SLEEPABLE).
  const flags = type === ProgType.syscall ? 0x10 : 0;
  return unlessRefused(() => closeSync(progLoad({ type, flags, instructions: Uint8Array.from(code) })));
}

function hasCompareAndSwap(): boolean {
  return canLoad(ProgType.schedCls, [
    ...insn(0x7a, 0x0a, -8, 0), // a word of the stack, 0
    ...insn(0xb7, 0x00, 0, 0),
    ...insn(0xb7, 0x02, 0, 1),
    ...insn(0xdb, 0x2a, -8, 0xf1), // if it is r0, it becomes r2: BPF_ATOMIC | BPF_DW, BPF_CMPXCHG
    ...RETURN_0,
  ]);
}

/**
 * Whether programs of a type may call the helper of a number. A call without proper arguments is refused too, but in
 * other words than one of a helper that is not there.
 */
export function hasHelper(id: number, type: number): boolean {
  const log = allocate(4096);
  const instructions = Uint8Array.from([...insn(0x85, 0, 0, id), ...RETURN_0]);
  const flags = type === ProgType.syscall ? 0x10 : 0;
  try {
    closeSync(progLoad({ type, flags, instructions, log }));
    return true;
  } catch (thrown) {
    if (!isErrno(thrown, "EINVAL", "EACCES")) throw thrown;
    const text = Buffer.from(log).toString("latin1", 0, log.indexOf(0));
    if (text === "") throw thrown;
    return !/unknown func|invalid func|cannot use helper/.test(text);
  }
}

/** Tables of different sizes in one map of maps: what growth needs. */
function hasInnerSizes(): boolean {
  const table = (maxEntries: number): number =>
    mapCreate({ name: "probe", type: MapType.hash, keySize: 4, valueSize: 4, maxEntries });
  const [template, larger] = [table(1), table(2)];
  const spec = { name: "probe", type: MapType.arrayOfMaps, keySize: 4, valueSize: 4, maxEntries: 1 };
  using outer = new BpfMap(mapCreate({ ...spec, innerFd: template }));
  try {
    outer.valueView.setUint32(0, larger, true);
    return unlessRefused(() => outer.update());
  } finally {
    closeSync(template);
    closeSync(larger);
  }
}

/**
 * Whether bpf_fib_lookup knows a flag: those that it does not know it refuses with EINVAL, before it looks at the
 * address family, which is wrong here.
 */
export function hasFibFlag(flag: number): boolean {
  const zeroes = Array.from({ length: 8 }, (_, i) => insn(0x7a, 0x0a, -8 * (i + 1), 0)).flat();
  const fd = progLoad({
    type: ProgType.schedCls,
    instructions: Uint8Array.from([
      ...zeroes,
      ...insn(0xbf, 0xa2, 0, 0), // r2 = fp
      ...insn(0x07, 0x02, 0, -64), // r2 -= 64: struct bpf_fib_lookup, all zeroes
      ...insn(0xb7, 0x03, 0, 64),
      ...insn(0xb7, 0x04, 0, flag),
      ...insn(0x85, 0, 0, 69), // bpf_fib_lookup
      ...insn(0x95, 0, 0, 0),
    ]),
  });
  try {
    const EINVAL = -22;
    return (progTestRun({ fd, data: new Uint8Array(64) }).retval | 0) !== EINVAL;
  } finally {
    closeSync(fd);
  }
}

function hasJit(): boolean {
  return readFileSync("/proc/sys/net/core/bpf_jit_enable", "latin1").trim() !== "0";
}

/** Whether the kernel has TCX: before 6.6 it does not know the attach type (EINVAL). */
export function hasTcx(): boolean {
  try {
    progQuery(1, AttachType.tcxIngress);
    return true;
  } catch (thrown) {
    if (isErrno(thrown, "EINVAL")) return false;
    if (isErrno(thrown, "ENOENT", "ENODEV")) return true;
    throw thrown;
  }
}

function tryFeature(name: FeatureName): Feature {
  const { required, since, probe } = FEATURES[name];
  try {
    const state = probe() ? "supported" : "missing";
    return {
      state,
      required,
      since,
      why: state === "supported" ? "tried and found" : `came with Linux ${since}`,
    };
  } catch (thrown) {
    return { state: "unknown", required, since, why: Fault.from(thrown).detail };
  }
}

let routeSource: boolean | undefined;

/** Whether bpf_fib_lookup tells a route's preferred source; true if that cannot be tried. Tried once. */
export function hasRouteSource(): boolean {
  routeSource ??= tryFeature("fibSource").state !== "missing";
  return routeSource;
}

/** Tries every feature; a few ms. Needs the rights to load programs and make maps, else answers are `unknown`. */
export function probe(): Features {
  const names = Object.keys(FEATURES) as FeatureName[];
  const features = Object.fromEntries(names.map((name) => [name, tryFeature(name)]));
  return { kernel: release(), features: features as Record<FeatureName, Feature> };
}

/** One line for each required feature that is certainly missing; none if the data plane can run. */
export function missingFeatures({ kernel, features }: Features): string[] {
  return Object.entries(features)
    .filter(([, feature]) => feature.required && feature.state === "missing")
    .map(([name, feature]) => `kernel ${kernel} has no ${name}: it ${feature.why}`);
}
