// SPDX-License-Identifier: Apache-2.0
// libbpf 1.x, as far as it opens and loads an object (bpf/libbpf.h): it relocates, sends BTF and creates maps; all
// else goes through bpf(2). The library is loaded when first used, so that what needs no object does not need it.
import { errnoName } from "./errno.ts";
import { faults } from "./faults.ts";
import {
  addressOf,
  allocate,
  cString,
  type Declare,
  duplicate,
  errno,
  formatPrinted,
  type Opaque,
  openLibrary,
  printCallback,
  refused,
} from "./ffi.ts";

const SONAME = "libbpf.so.1";

/** enum libbpf_print_level. */
const LIBBPF_WARN = 0;

/** libbpf's warnings since the last `takeMessages`. */
const messages: string[] = [];

type OfMap<T> = (map: Opaque) => T;

function declareAll(declare: Declare) {
  return {
    setPrint: declare<(callback: Opaque) => Opaque>("void *libbpf_set_print(void *callback)"),
    openMem: declare<(bytes: Uint8Array, size: number, options: Uint8Array) => Opaque>(
      "void *bpf_object__open_mem(void *bytes, size_t size, void *options)",
    ),
    load: declare<(object: Opaque) => number>("int bpf_object__load(void *object)"),
    close: declare<(object: Opaque) => void>("void bpf_object__close(void *object)"),
    btfFd: declare<(object: Opaque) => number>("int bpf_object__btf_fd(void *object)"),
    nextMap: declare<(object: Opaque, before: Opaque) => Opaque>(
      "void *bpf_object__next_map(void *object, void *before)",
    ),
    mapName: declare<OfMap<string>>("str bpf_map__name(void *map)"),
    mapType: declare<OfMap<number>>("uint bpf_map__type(void *map)"),
    mapKeySize: declare<OfMap<number>>("uint bpf_map__key_size(void *map)"),
    mapValueSize: declare<OfMap<number>>("uint bpf_map__value_size(void *map)"),
    mapMaxEntries: declare<OfMap<number>>("uint bpf_map__max_entries(void *map)"),
    mapFlags: declare<OfMap<number>>("uint bpf_map__map_flags(void *map)"),
    mapKeyTypeId: declare<OfMap<number>>("uint bpf_map__btf_key_type_id(void *map)"),
    mapValueTypeId: declare<OfMap<number>>("uint bpf_map__btf_value_type_id(void *map)"),
    mapIsInternal: declare<OfMap<boolean>>("bool bpf_map__is_internal(void *map)"),
    mapInner: declare<OfMap<Opaque>>("void *bpf_map__inner_map(void *map)"),
    mapFd: declare<OfMap<number>>("int bpf_map__fd(void *map)"),
    setMaxEntries: declare<(map: Opaque, n: number) => number>(
      "int bpf_map__set_max_entries(void *map, uint entries)",
    ),
    setAutocreate: declare<(map: Opaque, create: boolean) => number>(
      "int bpf_map__set_autocreate(void *map, bool create)",
    ),
    setInitialValue: declare<(map: Opaque, bytes: Uint8Array, size: number) => number>(
      "int bpf_map__set_initial_value(void *map, void *bytes, size_t size)",
    ),
    initialValue: declare<(map: Opaque, size: Uint8Array) => Opaque>(
      "void *bpf_map__initial_value(void *map, void *size)",
    ),
    setInnerMapFd: declare<(map: Opaque, fd: number) => number>(
      "int bpf_map__set_inner_map_fd(void *map, int fd)",
    ),
    reuseFd: declare<(map: Opaque, fd: number) => number>("int bpf_map__reuse_fd(void *map, int fd)"),
    nextProgram: declare<(object: Opaque, before: Opaque) => Opaque>(
      "void *bpf_object__next_program(void *object, void *before)",
    ),
    programName: declare<(program: Opaque) => string>("str bpf_program__name(void *program)"),
    programFd: declare<(program: Opaque) => number>("int bpf_program__fd(void *program)"),
    setAutoload: declare<(program: Opaque, load: boolean) => number>(
      "int bpf_program__set_autoload(void *program, bool load)",
    ),
    setLogBuffer: declare<(program: Opaque, bytes: Uint8Array, size: number) => number>(
      "int bpf_program__set_log_buf(void *program, void *bytes, size_t size)",
    ),
  };
}

let library: ReturnType<typeof declareAll> | undefined;

function libbpf(): ReturnType<typeof declareAll> {
  if (library) return library;
  let declare: Declare;
  try {
    declare = openLibrary(SONAME);
  } catch (cause) {
    throw faults.NO_LIBBPF({ why: cause instanceof Error ? cause.message : String(cause) }, cause);
  }
  library = declareAll(declare);
  library.setPrint(
    printCallback((level, format, args) => {
      if (level === LIBBPF_WARN) messages.push(formatPrinted(format, args).trimEnd());
    }),
  );
  return library;
}

/** libbpf gives negative errno numbers. */
function done(op: string, object: string, result: number): void {
  if (result < 0) throw refused(op, errnoName(-result), object, takeMessages().at(-1) ?? "");
}

/** libbpf's warnings since the last call, oldest first, without its prefix. */
export function takeMessages(): string[] {
  return messages.splice(0).map((line) => line.replace(/^libbpf: /, ""));
}

/** A map that an object declares. Before the load it may be changed; after it `takeFd` works. */
export class ObjectMap {
  readonly name: string;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly flags: number;
  /** Made by libbpf for a data section; the name begins with a dot. */
  readonly internal: boolean;
  /** Ids of key and value type in the object's BTF. */
  readonly typeIds: { readonly key: number; readonly value: number };
  /** The shape of the inner maps of an array or hash of maps: to be read only. */
  readonly inner: ObjectMap | undefined;
  #maxEntries: number;
  readonly #map: Opaque;

  constructor(map: Opaque) {
    const bpf = libbpf();
    this.#map = map;
    this.name = bpf.mapName(map);
    this.type = bpf.mapType(map);
    this.keySize = bpf.mapKeySize(map);
    this.valueSize = bpf.mapValueSize(map);
    this.flags = bpf.mapFlags(map);
    this.internal = bpf.mapIsInternal(map);
    this.typeIds = { key: bpf.mapKeyTypeId(map), value: bpf.mapValueTypeId(map) };
    this.#maxEntries = bpf.mapMaxEntries(map);
    const inner = bpf.mapInner(map);
    this.inner = inner === null ? undefined : new ObjectMap(inner);
  }

  get maxEntries(): number {
    return this.#maxEntries;
  }

  setMaxEntries(entries: number): void {
    done("map.set_max_entries", this.name, libbpf().setMaxEntries(this.#map, entries));
    this.#maxEntries = entries;
  }

  /**
   * Makes the outer map from a template with the shape of its inner maps, which may be small; `fd` stays the
   * caller's, until after the load. (libbpf's own template has the full size, and 1.1 cannot be told another.)
   */
  setInnerTemplate(fd: number): void {
    done("map.set_inner", this.name, libbpf().setInnerMapFd(this.#map, fd));
  }

  /** The map is not made: no program that is loaded uses it. */
  skip(): void {
    done("map.skip", this.name, libbpf().setAutocreate(this.#map, false));
  }

  /** Bytes of a data section. */
  get initialSize(): number {
    const size = allocate(8);
    libbpf().initialValue(this.#map, size);
    return Number(new DataView(size.buffer).getBigUint64(0, true));
  }

  /** What a data section holds when it is loaded; exactly `initialSize` bytes. */
  setInitialValue(bytes: Uint8Array): void {
    done("map.set_initial_value", this.name, libbpf().setInitialValue(this.#map, bytes, bytes.length));
  }

  /** Uses an existing map in the place of a new one. `fd` stays the caller's. */
  reuse(fd: number): void {
    done("map.reuse", this.name, libbpf().reuseFd(this.#map, fd));
  }

  /** An fd that outlives the object. */
  takeFd(): number {
    return duplicate(libbpf().mapFd(this.#map));
  }
}

/** A program that an object holds. */
export class ObjectProgram {
  readonly name: string;
  readonly #program: Opaque;

  constructor(program: Opaque) {
    this.#program = program;
    this.name = libbpf().programName(program);
  }

  /** The program is not loaded. */
  skip(): void {
    done("prog.skip", this.name, libbpf().setAutoload(this.#program, false));
  }

  /** Where the verifier writes if it refuses the program; `buffer` must live until the load is over. */
  logTo(buffer: Uint8Array): void {
    done("prog.log", this.name, libbpf().setLogBuffer(this.#program, buffer, buffer.length));
  }

  /** An fd that outlives the object. */
  takeFd(): number {
    return duplicate(libbpf().programFd(this.#program));
  }
}

/** An ELF object that libbpf has parsed. Fds that were not taken are closed with it. */
export class BpfObject implements Disposable {
  readonly maps: readonly ObjectMap[];
  readonly programs: readonly ObjectProgram[];
  readonly name: string;
  readonly #object: Opaque;
  /** libbpf reads the ELF bytes until the object is closed. */
  readonly #bytes: Uint8Array;

  /** `name` becomes the beginning of the names of data maps. @throws Fault KERNEL_REFUSED with libbpf's last words */
  constructor(bytes: Uint8Array, name: string) {
    const bpf = libbpf();
    this.name = name;
    this.#bytes = allocate(bytes.length);
    this.#bytes.set(bytes);
    const text = cString(name);
    const options = allocate(16);
    new DataView(options.buffer).setBigUint64(0, 16n, true);
    new DataView(options.buffer).setBigUint64(8, addressOf(text), true);
    takeMessages();
    this.#object = bpf.openMem(this.#bytes, this.#bytes.length, options);
    if (this.#object === null) throw refused("object.open", errno(), name, takeMessages().at(-1) ?? "");
    this.maps = this.#walk(bpf.nextMap, (map) => new ObjectMap(map));
    this.programs = this.#walk(bpf.nextProgram, (program) => new ObjectProgram(program));
  }

  #walk<T>(next: (object: Opaque, before: Opaque) => Opaque, wrap: (item: Opaque) => T): T[] {
    const found: T[] = [];
    for (let at = next(this.#object, null); at !== null; at = next(this.#object, at)) found.push(wrap(at));
    return found;
  }

  /** Makes the maps and loads the programs; gives 0 or an errno number, and libbpf's words through takeMessages. */
  load(): number {
    takeMessages();
    return Math.abs(libbpf().load(this.#object));
  }

  /** fd of the object's types in the kernel, valid until the object is closed; below 0 if there are none. */
  get btfFd(): number {
    return libbpf().btfFd(this.#object);
  }

  close(): void {
    libbpf().close(this.#object);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
