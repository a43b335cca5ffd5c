// SPDX-License-Identifier: Apache-2.0
// What user space may know of the object: its maps, structs, enums with their texts and its configuration, read from
// BTF. Refuses everything that a generated codec could get wrong or a reader could not understand.
import { faults } from "../faults.ts";
import type { Btf, BtfMember, BtfType } from "./btf.ts";
import { MAP_TYPES } from "./map-types.ts";

/** How the bytes of a field become a value. */
export type Shape =
  | { kind: "int"; size: 1 | 2 | 4 | 8; signed: boolean; network: boolean }
  | { kind: "address" }
  | { kind: "prefix" }
  | { kind: "mac" }
  | { kind: "bytes"; length: number }
  | { kind: "array"; length: number; item: Shape; itemSize: number }
  | { kind: "struct"; name: string };

export interface Field {
  name: string;
  /** Offset in bytes. */
  at: number;
  size: number;
  shape: Shape;
  doc: string;
  /** The type as C spells it. */
  c: string;
  /** Named pad, pad2, ...: no value, written as 0. */
  pad: boolean;
}

export interface Struct {
  name: string;
  size: number;
  fields: Field[];
}

export interface Enum {
  name: string;
  /** In numeric order. */
  values: { name: string; value: number; text: string }[];
}

/** Key or value of a map; absent for a ring buffer. */
export interface Side {
  shape: Shape;
  size: number;
  c: string;
}

export interface MapShape {
  type: number;
  typeName: string;
  maxEntries: number;
  flags: number;
  key?: Side;
  value?: Side;
  inner?: MapShape;
}

export interface MapDef extends MapShape {
  name: string;
  doc: string;
}

/** Everything that is generated from. Structs in the order of their names, without addr and prefix. */
export interface Abi {
  structs: Struct[];
  enums: Enum[];
  maps: MapDef[];
  config: Struct;
}

/** The kernel's limit on map names, 16 with the final NUL. */
const NAME_MAX = 15;
const CONFIG = "node_config";
const EXPORTS = "types";
const TEXTS = "texts";
/** Structs that have a hand-written codec, with their sizes. */
const SPECIAL: Record<string, { size: number; shape: Shape }> = {
  addr: { size: 16, shape: { kind: "address" } },
  prefix: { size: 20, shape: { kind: "prefix" } },
};

/** Reads and checks; one instance for one object. */
class AbiReader {
  readonly #btf: Btf;
  readonly #structs = new Map<string, Struct>();

  constructor(btf: Btf) {
    this.#btf = btf;
  }

  read(): Abi {
    const maps = this.#btf.section(".maps").map((variable) => this.#map(variable));
    if (maps.length === 0)
      throw faults.ABI_INCOMPLETE({ what: "section .maps", why: "no map in the object" });
    const exported = this.#need("STRUCT", EXPORTS, "include abi/export.h");
    const texts = this.#texts();
    const enums: Enum[] = [];
    for (const member of exported.members ?? []) {
      const { type } = this.#btf.resolve(member.type_id);
      if (type.kind === "ENUM") enums.push(this.#enum(type, texts));
      else this.#shape(member.type_id, `struct ${EXPORTS}, field ${member.name}`);
    }
    const config = this.#struct(this.#need("STRUCT", CONFIG, "no variable CONFIG"));
    this.#structs.delete(CONFIG);
    const structs = [...this.#structs.values()].filter((struct) => !(struct.name in SPECIAL));
    return {
      structs: structs.sort((a, b) => (a.name < b.name ? -1 : 1)),
      enums,
      maps: maps.sort((a, b) => (a.name < b.name ? -1 : 1)),
      config,
    };
  }

  #need(kind: string, name: string, remedy: string): BtfType {
    const type = this.#btf.find(kind, name);
    if (type) return type;
    throw faults.ABI_INCOMPLETE({
      what: `${kind.toLowerCase()} ${name}`,
      why: `not in the object's BTF: ${remedy}`,
    });
  }

  /** NAME -> text, from the members NAME_TEXT of struct texts. */
  #texts(): Map<string, string> {
    const type = this.#need("STRUCT", TEXTS, "no variable TEXTS");
    const rows = (type.members ?? []).map((member, index) => {
      const doc = this.#btf.doc(type.id, index);
      if (doc === undefined)
        throw faults.ABI_REFUSED({ where: `struct ${TEXTS}, field ${member.name}`, why: "no DOC text" });
      return [member.name.replace(/_TEXT$/, ""), doc] as const;
    });
    return new Map(rows);
  }

  #enum(type: BtfType, texts: ReadonlyMap<string, string>): Enum {
    const values = (type.values ?? []).map(({ name, val }) => {
      const text = texts.get(name);
      if (text === undefined) {
        throw faults.ABI_REFUSED({
          where: `enum ${type.name}, value ${name}`,
          why: `struct ${TEXTS} has no ${name}_TEXT`,
        });
      }
      return { name, value: val, text };
    });
    return { name: type.name, values: values.sort((a, b) => a.value - b.value) };
  }

  #struct(type: BtfType): Struct {
    const done = this.#structs.get(type.name);
    if (done) return done;
    const struct: Struct = { name: type.name, size: type.size ?? 0, fields: [] };
    this.#structs.set(type.name, struct);
    let end = 0;
    for (const [index, member] of (type.members ?? []).entries()) {
      const field = this.#field(type, member, index);
      const where = `struct ${type.name}, field ${field.name}`;
      if (field.at < end) throw faults.ABI_REFUSED({ where, why: "overlaps the field before it" });
      if (field.at > end)
        throw faults.ABI_REFUSED({ where, why: `hole of ${field.at - end} bytes before it` });
      end = field.at + field.size;
      struct.fields.push(field);
    }
    if (end !== struct.size) {
      const last = struct.fields.at(-1)?.name ?? "(none)";
      const why = `trailing padding of ${struct.size - end} bytes after it; add a field pad`;
      throw faults.ABI_REFUSED({ where: `struct ${type.name}, field ${last}`, why });
    }
    return struct;
  }

  #field(owner: BtfType, member: BtfMember, index: number): Field {
    const where = `struct ${owner.name}, field ${member.name === "(anon)" ? `(anonymous, number ${index + 1})` : member.name}`;
    if (member.bitfield_size !== undefined && member.bitfield_size > 0)
      throw faults.ABI_REFUSED({ where, why: "bit-field" });
    if (member.bits_offset % 8 !== 0) throw faults.ABI_REFUSED({ where, why: "bit-field" });
    const shape = this.#shape(member.type_id, where);
    const doc = this.#btf.doc(owner.id, index);
    if (doc === undefined || doc.trim() === "") throw faults.ABI_REFUSED({ where, why: "no DOC text" });
    return {
      name: member.name,
      at: member.bits_offset / 8,
      size: this.#btf.sizeOf(member.type_id),
      shape,
      doc,
      c: this.#spell(member.type_id),
      pad: /^pad\d*$/.test(member.name),
    };
  }

  /** The type as C spells it: `__be32[4]`, `struct addr`. */
  #spell(id: number): string {
    const { type, typedefs } = this.#btf.resolve(id);
    if (typedefs[0] !== undefined) return typedefs[0];
    if (type.kind === "ARRAY") return `${this.#spell(type.type_id ?? 0)}[${type.nr_elems}]`;
    return type.kind === "STRUCT" || type.kind === "ENUM"
      ? `${type.kind.toLowerCase()} ${type.name}`
      : type.name;
  }

  #shape(id: number, where: string): Shape {
    const { type, typedefs } = this.#btf.resolve(id);
    if (type.kind === "INT" || type.kind === "ENUM") {
      const size = type.size ?? 0;
      if (size !== 1 && size !== 2 && size !== 4 && size !== 8)
        throw faults.ABI_REFUSED({ where, why: `integer of ${size} bytes` });
      const network = typedefs.some((name) => name.startsWith("__be"));
      return { kind: "int", size, signed: type.encoding === "SIGNED", network };
    }
    if (type.kind === "ARRAY") return this.#array(type, where);
    if (type.kind === "STRUCT") return this.#structShape(type, where);
    const names: Record<string, string> = {
      PTR: "pointer",
      UNION: "union",
      FWD: "struct that is only declared",
    };
    throw faults.ABI_REFUSED({ where, why: names[type.kind] ?? `type of kind ${type.kind}` });
  }

  #array(type: BtfType, where: string): Shape {
    const length = type.nr_elems ?? 0;
    if (length === 0) throw faults.ABI_REFUSED({ where, why: "array without length" });
    const item = this.#shape(type.type_id ?? 0, where);
    if (item.kind === "int" && item.size === 1)
      return length === 6 ? { kind: "mac" } : { kind: "bytes", length };
    return { kind: "array", length, item, itemSize: this.#btf.sizeOf(type.type_id ?? 0) };
  }

  #structShape(type: BtfType, where: string): Shape {
    if (type.name === "(anon)") throw faults.ABI_REFUSED({ where, why: "struct without a name" });
    const struct = this.#struct(type);
    const special = SPECIAL[type.name];
    if (!special) return { kind: "struct", name: type.name };
    if (special.size !== struct.size) {
      throw faults.ABI_REFUSED({
        where: `struct ${type.name}`,
        why: `${struct.size} bytes, its codec expects ${special.size}`,
      });
    }
    return special.shape;
  }

  #map(variable: BtfType): MapDef {
    const where = `map ${variable.name}`;
    const doc = this.#btf.doc(variable.id);
    if (doc === undefined || doc.trim() === "") throw faults.ABI_REFUSED({ where, why: "no DOC text" });
    if (variable.name.length > NAME_MAX) {
      throw faults.ABI_REFUSED({
        where,
        why: `name of ${variable.name.length} characters, ${NAME_MAX} are allowed`,
      });
    }
    return { name: variable.name, doc, ...this.#mapShape(variable.type_id ?? 0, where) };
  }

  #mapShape(id: number, where: string): MapShape {
    const { type } = this.#btf.resolve(id);
    const numbers = new Map<string, number>();
    const sides: { key?: Side; value?: Side } = {};
    let inner: MapShape | undefined;
    for (const member of type.members ?? []) {
      const target = this.#btf.resolve(member.type_id).type;
      if (member.name === "values") inner = this.#inner(target, where);
      else if (member.name === "key" || member.name === "value")
        sides[member.name] = this.#side(target, `${where}, ${member.name}`);
      else numbers.set(member.name, this.#btf.type(target.type_id ?? 0).nr_elems ?? 0);
    }
    for (const name of ["key_size", "value_size"]) {
      if (numbers.has(name)) throw faults.ABI_REFUSED({ where, why: `${name} without a type: use __type` });
    }
    const number = numbers.get("type") ?? 0;
    const typeName = MAP_TYPES[number];
    if (number === 0 || typeName === undefined)
      throw faults.ABI_REFUSED({ where, why: `unknown map type ${number}` });
    if (!sides.key && typeName !== "ringbuf")
      throw faults.ABI_REFUSED({ where, why: "no key: use __type(key, ...)" });
    if (inner)
      sides.value = { shape: { kind: "int", size: 4, signed: false, network: false }, size: 4, c: "map id" };
    if (sides.key && !sides.value)
      throw faults.ABI_REFUSED({ where, why: "no value: use __type(value, ...)" });
    const shape = {
      type: number,
      typeName,
      maxEntries: numbers.get("max_entries") ?? 0,
      flags: numbers.get("map_flags") ?? 0,
    };
    return { ...shape, ...sides, ...(inner ? { inner } : {}) };
  }

  /** `pointer` is what __type makes of a type: a pointer to it. */
  #side(pointer: BtfType, where: string): Side {
    const id = pointer.type_id ?? 0;
    const shape = this.#shape(id, where);
    if (shape.kind === "array" || shape.kind === "mac")
      throw faults.ABI_REFUSED({ where, why: "array: put it into a struct" });
    return { shape, size: this.#btf.sizeOf(id), c: this.#spell(id) };
  }

  /** `values` is what __array makes of a map: an array of pointers to its definition. */
  #inner(values: BtfType, where: string): MapShape {
    const pointer = this.#btf.resolve(values.type_id ?? 0).type;
    const target = this.#btf.resolve(pointer.type_id ?? 0).type;
    if (target.kind !== "STRUCT") throw faults.ABI_REFUSED({ where, why: "values that are no maps" });
    return this.#mapShape(target.id, `${where}, inner map`);
  }
}

/**
 * The ABI of an object.
 * @throws Fault ABI_REFUSED naming struct and field, or map, and what is wrong with it; ABI_INCOMPLETE
 */
export function readAbi(btf: Btf): Abi {
  return new AbiReader(btf).read();
}
