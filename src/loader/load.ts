// SPDX-License-Identifier: Apache-2.0
// Loads the object: configuration into .rodata, sizes from the options, pinned maps taken over, new ones pinned. Gives
// fds of maps and programs. The last step puts the new program behind the hooks, for what is attached already as well.
import { closeSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { Fault } from "../base/fault.ts";
import { MapType, mapInfo } from "../kernel/bpf.ts";
import { BpfMap } from "../kernel/bpf-map.ts";
import { jiffyNs } from "../kernel/clock.ts";
import { errnoName, isTransient } from "../kernel/errno.ts";
import { missingFeatures, probe } from "../kernel/features.ts";
import { allocate, duplicate, refused } from "../kernel/ffi.ts";
import { BpfObject, type ObjectMap, takeMessages } from "../kernel/libbpf.ts";
import { type NodeConfig, nodeConfigCodec } from "../maps/gen/config.ts";
import { MAPS } from "../maps/gen/maps.ts";
import {
  makePinFolders,
  mapPin,
  openPin,
  pinMap,
  pinProgram,
  readLayout,
  unpin,
  writeLayout,
} from "../maps/pins.ts";
import { permitResets } from "../maps/resets.ts";
import { type MapName, Table } from "../maps/table.ts";
import { faults } from "./faults.ts";
import { fillFirstSlot, makeTemplate } from "./inner-tables.ts";
import { carryOver, judgePin, layoutOf, type Renewal } from "./renew.ts";
import { logText, readVerifierLog, saveVerifierLog } from "./verifier-log.ts";

/** Becomes the beginning of the names of data maps in `bpftool map`. */
const OBJECT_NAME = "hookline";
const CONFIG_SECTION = ".rodata.config";
/** struct machine, bpf/abi/config.h. */
const MACHINE_SECTION = ".rodata.machine";
/** Texts for user space, in BTF: nothing that runs needs them. */
const TEXTS_SECTION = ".rodata.texts";

/** The verifier writes here only if it refuses a program; untouched pages cost nothing. */
const LOG_BYTES = 16 << 20;

/** The hooks, the program behind them, and those that user space runs. */
export const PROGRAMS = [
  "from_pod",
  "to_pod",
  "from_net",
  "to_net",
  "datapath",
  "sweep",
  "adopt",
  "flush",
] as const;
export type ProgramName = (typeof PROGRAMS)[number];

/** What is run without an agent too. */
export const PINNED_PROGRAM = "flush" satisfies ProgramName;

/** Of map `programs`: PROGRAM_SLOT, bpf/abi/maps.h. */
const PROGRAM_SLOT = 0;

/** Entries of each map; bytes, a power of 2, for `events`; of `flows` and `replies` the size of a new table. */
export type MapSizes = Partial<Record<MapName, number>>;

export interface LoadOptions {
  /** The compiled object. */
  objectPath: string;
  /** Folder in a bpffs, made if need be. */
  bpfRoot: string;
  config: NodeConfig;
  /** Absent: the sizes of bpf/abi/maps.h. */
  sizes?: MapSizes;
  /** Folder for the log of a refused program. Default: the folder for temporary files. */
  logFolder?: string;
}

export interface LoadedMap {
  readonly name: MapName;
  readonly fd: number;
  /** It was pinned before, with its entries. */
  readonly adopted: boolean;
  /** As it is; an adopted map keeps its size, whatever the options say, unless it is a cache. Of maps of maps the number of slots. */
  readonly maxEntries: number;
}

/** What a load gives. The fds are the caller's. */
export interface Loaded {
  readonly maps: ReadonlyMap<MapName, LoadedMap>;
  readonly programs: Map<ProgramName, number>;
}

function readObject(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw faults.OBJECT_MISSING({ path, why: cause instanceof Error ? cause.message : cause }, cause);
  }
}

function configure(object: BpfObject, options: LoadOptions): void {
  const path = options.objectPath;
  const section = object.maps.find((map) => map.name === CONFIG_SECTION);
  if (!section) throw faults.OBJECT_LAYOUT({ path, why: `it has no ${CONFIG_SECTION}` });
  const bytes = allocate(nodeConfigCodec.size);
  if (section.initialSize !== bytes.length) {
    throw faults.OBJECT_LAYOUT({
      path,
      why: `its configuration has ${section.initialSize} bytes, not ${bytes.length}`,
    });
  }
  nodeConfigCodec.write(new DataView(bytes.buffer), 0, options.config);
  section.setInitialValue(bytes);
  const machine = allocate(4);
  new DataView(machine.buffer).setUint32(0, jiffyNs(), true);
  object.maps.find((map) => map.name === MACHINE_SECTION)?.setInitialValue(machine);
  object.maps.find((map) => map.name === TEXTS_SECTION)?.skip();
}

/** What is to become of a map; `borrowed` are the fds to close after the load. */
interface Prepared {
  readonly adopted: boolean;
  readonly borrowed: number[];
  readonly renewal?: Renewal;
}

/** Sets the size of a map that will be made, or takes over the pinned one. */
function prepareMap(map: ObjectMap, options: LoadOptions): Prepared {
  const path = mapPin(options.bpfRoot, map.name);
  const pinned = openPin(path);
  const size = options.sizes?.[map.name as MapName];
  if (pinned !== undefined) {
    const existing = mapInfo(pinned, map.name);
    const renewal = judgePin(options.bpfRoot, map, pinned);
    if (renewal !== undefined) {
      map.setMaxEntries(size ?? map.maxEntries);
      return { adopted: false, borrowed: [pinned], renewal };
    }
    if (existing.type !== MapType.lruHash || size === undefined || existing.maxEntries === size) {
      map.reuse(pinned);
      return { adopted: true, borrowed: [pinned] };
    }
    // What may forget its entries one by one may forget them all.
    closeSync(pinned);
    unpin(path);
  }
  if (map.inner) {
    const template = makeTemplate(map.inner);
    map.setInnerTemplate(template);
    return { adopted: false, borrowed: [template] };
  }
  if (size !== undefined) map.setMaxEntries(size);
  return { adopted: false, borrowed: [] };
}

/**
 * @throws Fault KERNEL_LACKS if the kernel is too old, KERNEL_BUSY if it may do it another time, VERIFIER if it refused a
 * program, else OBJECT_REFUSED with libbpf's words
 */
function loadOrExplain(object: BpfObject, options: LoadOptions): void {
  const buffer = allocate(LOG_BYTES);
  for (const program of object.programs) program.logTo(buffer);
  const failure = object.load();
  if (failure === 0) return;
  const lacks = missingFeatures(probe());
  if (lacks.length > 0) throw faults.KERNEL_LACKS({ why: lacks.join("; ") });
  // A signal ends the verifier's work with EAGAIN; what it had written by then is no reason.
  if (isTransient(errnoName(failure))) throw refused("object.load", errnoName(failure), options.objectPath);
  const messages = takeMessages();
  const log = logText(buffer);
  const program = messages
    .map((line) => /^prog '(\w+)': (BPF program load failed|failed to load)/.exec(line)?.[1])
    .find(Boolean);
  if (program === undefined || log === "") {
    const why = messages.at(0) ?? "libbpf gives no reason";
    throw faults.OBJECT_REFUSED({ path: options.objectPath, errno: errnoName(failure), why });
  }
  const file = saveVerifierLog(options.logFolder ?? tmpdir(), program, log);
  throw faults.VERIFIER({ program, file, ...readVerifierLog(log) });
}

/** A signal ends the verifier's work, be it only one that stops and continues the process. libbpf itself tries five times. */
const LOAD_TRIES = 8;

const isInterrupted = (thrown: unknown): boolean =>
  thrown instanceof Fault && thrown.code === "KERNEL_BUSY" && thrown.context.errno === "EAGAIN";

/**
 * Loads the object's maps and programs, again if a signal ended it.
 * @throws Fault OBJECT_*, KERNEL_LACKS, VERIFIER, NOT_BPFFS, PIN_MISMATCH, or of the kernel; then nothing that ran has changed
 */
export function load(options: LoadOptions): Loaded {
  for (let left = LOAD_TRIES; ; ) {
    try {
      return loadOnce(options);
    } catch (thrown) {
      if (--left === 0 || !isInterrupted(thrown)) throw thrown;
    }
  }
}

function loadOnce(options: LoadOptions): Loaded {
  makePinFolders(options.bpfRoot);
  using object = new BpfObject(readObject(options.objectPath), OBJECT_NAME);
  configure(object, options);
  const borrowed: number[] = [];
  const prepared = new Map<string, Prepared>();
  try {
    const declared = object.maps.filter((map) => !map.internal);
    for (const map of declared) {
      const one = prepareMap(map, options);
      borrowed.push(...one.borrowed);
      prepared.set(map.name, one);
    }
    loadOrExplain(object, options);
    return take(object, declared, prepared, options);
  } finally {
    for (const fd of borrowed) closeSync(fd);
  }
}

/** Takes the fds over from libbpf, completes new maps and pins them. */
function take(
  object: BpfObject,
  declared: ObjectMap[],
  prepared: ReadonlyMap<string, Prepared>,
  options: LoadOptions,
): Loaded {
  const maps = new Map<MapName, LoadedMap>();
  const programs = new Map<ProgramName, number>();
  try {
    for (const map of declared) {
      const name = map.name as MapName;
      const fd = map.takeFd();
      const { adopted = false, renewal } = prepared.get(name) ?? {};
      maps.set(name, { name, fd, adopted, maxEntries: mapInfo(fd, name).maxEntries });
      if (map.inner) {
        fillFirstSlot(fd, { name, shape: map.inner, entries: options.sizes?.[name], btfFd: object.btfFd });
      }
      if (renewal !== undefined) carryOver(name, renewal, fd);
      const pin = { name, fd, layout: layoutOf(name) };
      if (!adopted) pinMap(options.bpfRoot, pin);
      else if (readLayout(options.bpfRoot, name) === undefined) writeLayout(options.bpfRoot, pin);
    }
    for (const program of object.programs) programs.set(program.name as ProgramName, program.takeFd());
    const missing = PROGRAMS.find((name) => !programs.has(name));
    if (missing)
      throw faults.OBJECT_LAYOUT({ path: options.objectPath, why: `it has no program ${missing}` });
    pinProgram(options.bpfRoot, PINNED_PROGRAM, programs.get(PINNED_PROGRAM) ?? -1);
    withholdResets(maps);
    putBehindHooks(maps, programs);
    return { maps, programs };
  } catch (thrown) {
    closeLoaded({ maps, programs });
    throw thrown;
  }
}

/**
 * What the new program does not know may still be on its way into the maps. So no connection is reset before whoever has loaded
 * it says that they are complete.
 */
function withholdResets(maps: ReadonlyMap<MapName, LoadedMap>): void {
  using table = new Table(new BpfMap(duplicate(maps.get("resets")?.fd ?? -1), "resets"), MAPS.resets);
  permitResets(table, false);
}

/** One write; from the next packet on every hook runs the new program. */
function putBehindHooks(
  maps: ReadonlyMap<MapName, LoadedMap>,
  programs: ReadonlyMap<ProgramName, number>,
): void {
  using slots = new BpfMap(duplicate(maps.get("programs")?.fd ?? -1), "programs");
  slots.keyView.setUint32(0, PROGRAM_SLOT, true);
  slots.valueView.setUint32(0, programs.get("datapath") ?? -1, true);
  slots.update();
}

/** Closes the fds; what is pinned or attached lives on. */
export function closeLoaded(loaded: Loaded): void {
  for (const map of loaded.maps.values()) closeSync(map.fd);
  for (const fd of loaded.programs.values()) closeSync(fd);
}
