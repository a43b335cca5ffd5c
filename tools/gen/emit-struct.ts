// SPDX-License-Identifier: Apache-2.0
// Writes the TypeScript of one struct: interface, size, reader, writer, codec. Readers and writers are straight lines
// of DataView calls with constant offsets, which V8 compiles to plain loads and stores.
import type { Field, Shape, Struct } from "./abi.ts";

/** `flow_key` to `flowKey`. */
export function camel(name: string): string {
  return name.toLowerCase().replace(/_+([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** `flow_key` to `FlowKey`. */
export function pascal(name: string): string {
  const text = camel(name);
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

/** `flow_key` to `FLOW_KEY_SIZE`. */
export function sizeName(name: string): string {
  return `${name.toUpperCase()}_SIZE`;
}

/** The TypeScript type of a value. */
export function typeOf(shape: Shape): string {
  switch (shape.kind) {
    case "int":
      return shape.size === 8 ? "bigint" : "number";
    case "address":
      return "Address";
    case "prefix":
      return "Prefix";
    case "mac":
      return "MacAddress";
    case "bytes":
      return "Uint8Array";
    case "array":
      return `readonly ${typeOf(shape.item)}[]`;
    case "struct":
      return pascal(shape.name);
  }
}

type Int = Extract<Shape, { kind: "int" }>;

function accessor(shape: Int): string {
  if (shape.size === 8) return shape.signed ? "BigInt64" : "BigUint64";
  return `${shape.signed ? "Int" : "Uint"}${shape.size * 8}`;
}

/** The check that a number fits; none for signed 8 and 16 bits, which no struct has. */
function fits(shape: Int): string {
  return `${shape.signed ? "s" : "u"}${shape.size * 8}`;
}

/** Second or third argument of a DataView call: nothing for one byte, else whether little-endian. */
function order(shape: Int): string {
  return shape.size === 1 ? "" : `, ${!shape.network}`;
}

/** An expression that reads a value; `at` is an expression too. */
export function readExpression(shape: Shape, at: string): string {
  switch (shape.kind) {
    case "int":
      return `view.get${accessor(shape)}(${at}${order(shape)})`;
    case "bytes":
      return `readBytes(view, ${at}, ${shape.length})`;
    case "array":
      return `readArray(${shape.length}, ${shape.itemSize}, ${at}, (at) => ${readExpression(shape.item, "at")})`;
    case "struct":
      return `read${pascal(shape.name)}(view, ${at})`;
    default:
      return `read${typeOf(shape).replace("MacAddress", "Mac")}(view, ${at})`;
  }
}

/** A call that writes the value of an expression. */
export function writeExpression(shape: Shape, at: string, value: string): string {
  switch (shape.kind) {
    case "int":
      return `view.set${accessor(shape)}(${at}, ${fits(shape)}(${value})${order(shape)})`;
    case "bytes":
      return `writeBytes(view, ${at}, ${shape.length}, ${value})`;
    case "array": {
      const item = writeExpression(shape.item, `${at} + offset`, "item");
      return `writeArray(${shape.length}, ${shape.itemSize}, ${value}, (offset, item) => ${item})`;
    }
    case "struct":
      return `write${pascal(shape.name)}(view, ${at}, ${value})`;
    default:
      return `write${typeOf(shape).replace("MacAddress", "Mac")}(view, ${at}, ${value})`;
  }
}

function offset(field: Field): string {
  return field.at === 0 ? "at" : `at + ${field.at}`;
}

function padLines(field: Field): string[] {
  const lines: string[] = [];
  for (let i = 0; i < field.size; i++) lines.push(`  view.setUint8(at + ${field.at + i}, 0);`);
  return lines;
}

function writeLines(field: Field): string[] {
  if (field.pad) return padLines(field);
  return [`  ${writeExpression(field.shape, offset(field), `value.${camel(field.name)}`)};`];
}

/** The interface with one doc comment per field. */
function interfaceLines(struct: Struct): string[] {
  const fields = struct.fields.filter((field) => !field.pad);
  return [
    `/** struct ${struct.name}, ${struct.size} bytes. */`,
    `export interface ${pascal(struct.name)} {`,
    ...fields.flatMap((field) => [
      `  /** ${docText(field.doc)} */`,
      `  ${camel(field.name)}: ${typeOf(field.shape)};`,
    ]),
    "}",
  ];
}

/** A DOC text for use in a block comment: a sentence. */
export function docText(doc: string): string {
  const text = doc.trim().replaceAll("*/", "* /");
  const first = /^(enum|struct) /.test(text) ? text.slice(0, 1) : text.slice(0, 1).toUpperCase();
  return first + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

/** All of a struct. What it uses of codec.ts must be imported by the file around it. */
export function structSource(struct: Struct): string {
  const name = pascal(struct.name);
  const size = sizeName(struct.name);
  const last = struct.fields.at(-1);
  return [
    ...interfaceLines(struct),
    "",
    `export const ${size} = ${struct.size};`,
    "",
    `export function read${name}(view: DataView, at: number): ${name} {`,
    // Nothing is read of a pad at the end, so a view that ends inside it would go unnoticed.
    ...(last?.pad ? [`  bound(view, at, ${size});`] : []),
    "  return {",
    ...struct.fields
      .filter((field) => !field.pad)
      .map((field) => `    ${camel(field.name)}: ${readExpression(field.shape, offset(field))},`),
    "  };",
    "}",
    "",
    `export function write${name}(view: DataView, at: number, value: ${name}): void {`,
    `  bound(view, at, ${size});`,
    ...struct.fields.flatMap(writeLines),
    "}",
    "",
    `export const ${camel(struct.name)}Codec: Codec<${name}> = { size: ${size}, read: read${name}, write: write${name} };`,
    "",
  ].join("\n");
}
