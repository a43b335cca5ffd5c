// SPDX-License-Identifier: Apache-2.0
// BTF of an object as bpftool prints it in JSON, with what the generator asks of it: types by id, variables of a
// section, decl tags of a type or of one of its members. Kernel: Documentation/bpf/btf.rst.
import { findBpftool, run } from "../toolchain.ts";

/** A member of a struct; bits from its start. */
export interface BtfMember {
  name: string;
  type_id: number;
  bits_offset: number;
  bitfield_size?: number;
}

/** One record of BTF; which fields are there depends on its kind. */
export interface BtfType {
  id: number;
  kind: string;
  name: string;
  size?: number;
  type_id?: number;
  nr_elems?: number;
  encoding?: string;
  component_idx?: number;
  members?: BtfMember[];
  values?: { name: string; val: number }[];
  vars?: { name?: string; type_id: number; offset: number; size: number }[];
}

/** Kinds that name another type without changing its layout. */
const TRANSPARENT = new Set(["TYPEDEF", "CONST", "VOLATILE", "RESTRICT", "TYPE_TAG"]);
const DOC = "doc:";

export class Btf {
  readonly types: readonly BtfType[];
  readonly #byId = new Map<number, BtfType>();
  readonly #docs = new Map<string, string>();

  constructor(types: readonly BtfType[]) {
    this.types = types;
    for (const type of types) {
      this.#byId.set(type.id, type);
      if (type.kind === "DECL_TAG" && type.name.startsWith(DOC)) {
        this.#docs.set(`${type.type_id}:${type.component_idx}`, type.name.slice(DOC.length));
      }
    }
  }

  type(id: number): BtfType {
    const type = this.#byId.get(id);
    if (!type) throw new RangeError(`BTF has no type ${id}`);
    return type;
  }

  /** The type behind typedefs and qualifiers, and the names of the typedefs on the way. */
  resolve(id: number): { type: BtfType; typedefs: string[] } {
    const typedefs: string[] = [];
    let type = this.type(id);
    while (TRANSPARENT.has(type.kind)) {
      if (type.kind === "TYPEDEF") typedefs.push(type.name);
      type = this.type(type.type_id ?? 0);
    }
    return { type, typedefs };
  }

  /** Bytes of any type that can be a member. 0 for what has no size. */
  sizeOf(id: number): number {
    const { type } = this.resolve(id);
    if (type.kind === "PTR") return 8;
    if (type.kind === "ARRAY") return (type.nr_elems ?? 0) * this.sizeOf(type.type_id ?? 0);
    return type.size ?? 0;
  }

  /** Text of the doc tag of a variable or struct, or of one member of it. */
  doc(id: number, member = -1): string | undefined {
    return this.#docs.get(`${id}:${member}`);
  }

  /** The type of that kind and name that is defined, not only declared. */
  find(kind: string, name: string): BtfType | undefined {
    return this.types.find((type) => type.kind === kind && type.name === name);
  }

  /** Variables of a section, in the order of the source. */
  section(name: string): BtfType[] {
    const section = this.types.find((type) => type.kind === "DATASEC" && type.name === name);
    return (section?.vars ?? []).map((entry) => this.type(entry.type_id)).sort((a, b) => a.id - b.id);
  }
}

/**
 * Reads the BTF of an object file.
 * @throws Fault TOOL_MISSING, TOOL_FAILED
 */
export function readBtf(object: string): Btf {
  const dump = JSON.parse(run(findBpftool(), ["btf", "dump", "-j", "file", object])) as { types: BtfType[] };
  return new Btf(dump.types);
}
