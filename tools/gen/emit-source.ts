// SPDX-License-Identifier: Apache-2.0
// Writes src/maps/gen/: types.ts, maps.ts, verdict.ts, config.ts, each a whole file of text from the ABI.
import type { Abi, Enum, MapShape, Shape, Side } from "./abi.ts";
import { camel, docText, pascal, structSource, typeOf } from "./emit-struct.ts";

const HEAD = "// SPDX-License-Identifier: Apache-2.0\n";
const NOTE = "\n// Generated from the BTF of the data plane by `npm run gen`; the source is bpf/abi.";

/** Import lines for what a text uses of two modules that gen/ files lean on. */
function imports(body: string): string {
  const used = (names: readonly string[]): string[] =>
    names.filter((name) => new RegExp(`\\b${name.replace(/^type /, "")}\\b`).test(body));
  const line = (names: string[], from: string): string =>
    names.length === 0 ? "" : `import { ${names.join(", ")} } from "${from}";\n`;
  const typesOnly = (names: string[], from: string): string =>
    names.length === 0
      ? ""
      : `import type { ${names.map((name) => name.slice(5)).join(", ")} } from "${from}";\n`;
  const codec = used([
    ..."addressCodec,bound,noCodec,prefixCodec,readAddress,readArray,readBytes,readMac,readPrefix".split(","),
    ..."s32,s64,type Codec,type MacAddress,type MapRow,u16,u16Codec,u32,u32Codec,u64,u64Codec,u8,u8Codec".split(
      ",",
    ),
    ..."writeAddress,writeArray,writeBytes,writeMac,writePrefix".split(","),
  ]);
  return (
    typesOnly(used(["type Address"]), "../../base/addr.ts") +
    typesOnly(used(["type Prefix"]), "../../base/prefix.ts") +
    line(codec, "../codec.ts")
  );
}

/** types.ts: every struct of keys, values and events. */
export function typesSource(abi: Abi): string {
  const body = abi.structs.map(structSource).join("\n");
  return `${HEAD}// Keys, values and events as user space sees them.${NOTE}\n${imports(body)}\n${body}`;
}

function enumSource(list: Enum): string {
  const name = pascal(list.name);
  const rows = list.values.map((row) => `  /** ${docText(row.text)} */\n  ${row.name}: ${row.value},`);
  const texts = list.values.map((row) => `  ${row.value}: ${JSON.stringify(row.text)},`);
  return [
    `/** enum ${list.name}. */`,
    `export const ${name} = {\n${rows.join("\n")}\n} as const;`,
    `export type ${name} = (typeof ${name})[keyof typeof ${name}];`,
    "",
    `/** Texts of enum ${list.name} by number. */`,
    `export const ${camel(list.name)}Text: Readonly<Record<number, string>> = {\n${texts.join("\n")}\n};`,
    "",
  ].join("\n");
}

/** verdict.ts: every enum with its texts. */
export function verdictSource(abi: Abi): string {
  const note = `// Verdicts, rules and flags: names spelt as in C, numbers and texts.${NOTE}\n`;
  return `${HEAD}${note}\n${abi.enums.map(enumSource).join("\n")}`;
}

/** config.ts: struct node_config and what each field means. */
export function configSource(abi: Abi): string {
  const fields = abi.config.fields.filter((field) => !field.pad);
  const rows = fields.map((field) => {
    const row = `field: ${JSON.stringify(field.name)}, size: ${field.size}, doc: ${JSON.stringify(field.doc)}`;
    return `  ${camel(field.name)}: { ${row} },`;
  });
  const body = [
    structSource(abi.config),
    "/** Per property: the field in C, its bytes, and the sentence that documents it. */",
    "export const nodeConfigFields: Readonly<",
    "  Record<keyof NodeConfig, { readonly field: string; readonly size: number; readonly doc: string }>",
    `> = {\n${rows.join("\n")}\n};`,
    "",
  ].join("\n");
  return `${HEAD}// The configuration that is written into the object before it is loaded.${NOTE}\n${imports(body)}\n${body}`;
}

function codecName(shape: Shape): string {
  switch (shape.kind) {
    case "int":
      return `u${8 * shape.size}Codec`;
    case "struct":
      return `${camel(shape.name)}Codec`;
    case "address":
    case "prefix":
      return `${shape.kind}Codec`;
    default:
      throw new RangeError(`a ${shape.kind} cannot be a key or value`);
  }
}

const sideType = (side: Side | undefined): string => (side ? typeOf(side.shape) : "undefined");
const sideCodec = (side: Side | undefined): string => (side ? codecName(side.shape) : "noCodec");

function shapeLines(shape: MapShape, indent: string): string[] {
  return [
    `type: ${shape.type},`,
    `typeName: ${JSON.stringify(shape.typeName)},`,
    `keySize: ${shape.key?.size ?? 0},`,
    `valueSize: ${shape.value?.size ?? 0},`,
    `maxEntries: ${shape.maxEntries},`,
    `flags: ${shape.flags},`,
    `perCpu: ${shape.typeName.includes("percpu")},`,
    `key: ${sideCodec(shape.key)},`,
    `value: ${sideCodec(shape.value)},`,
  ].map((line) => indent + line);
}

/** The fields of a key or value, src/maps/layout.ts. */
function sideLayout(abi: Abi, side: Side | undefined): string {
  if (side === undefined) return "";
  const { shape } = side;
  const struct = shape.kind === "struct" ? abi.structs.find(({ name }) => name === shape.name) : undefined;
  const fields = struct?.fields.filter(({ pad }) => !pad) ?? [
    { name: shape.kind, at: 0, size: side.size, c: side.c },
  ];
  return fields.map(({ name, at, size, c }) => [name, at, size, c].join(":")).join(",");
}

/** Of a map of maps that of the inner ones. */
function layoutOf(abi: Abi, { inner, ...map }: MapShape): string {
  const { key, value } = inner ?? map;
  return `${sideLayout(abi, key)}|${sideLayout(abi, value)}`;
}

/** maps.ts: the table of maps. */
export function mapsSource(abi: Abi): string {
  const rows = abi.maps.map((map) => {
    const inner = map.inner ? ["    inner: {", ...shapeLines(map.inner, "      "), "    },"] : [];
    return [
      `  /** ${docText(map.doc)} */`,
      `  ${map.name}: {`,
      `    name: ${JSON.stringify(map.name)},`,
      `    doc: ${JSON.stringify(map.doc)},`,
      `    layout: ${JSON.stringify(layoutOf(abi, map))},`,
      ...shapeLines(map, "    "),
      ...inner,
      `  } satisfies MapRow<${sideType(map.key)}, ${sideType(map.value)}>,`,
    ].join("\n");
  });
  const body = `export const MAPS = {\n${rows.join("\n")}\n} as const;\n\n/** Name of a map, and of its pin. */\nexport type MapName = keyof typeof MAPS;\n`;
  const structs = abi.structs.map((struct) => struct.name);
  const codecs = structs.map((name) => `${camel(name)}Codec`).filter((name) => body.includes(` ${name},`));
  const types = structs.map(pascal).filter((name) => new RegExp(`[<,] ?${name}[,>]`).test(body));
  const names = [...codecs, ...types.map((name) => `type ${name}`)].sort((a, b) =>
    a.replace("type ", "") < b.replace("type ", "") ? -1 : 1,
  );
  const note = `// Every map of the data plane with its layout and its codecs.${NOTE}\n`;
  return `${HEAD}${note}${imports(body)}import { ${names.join(", ")} } from "./types.ts";\n\n${body}`;
}

/** Names of the generated sources below src/maps/gen/. */
export function sources(abi: Abi): Map<string, string> {
  return new Map([
    ["src/maps/gen/config.ts", configSource(abi)],
    ["src/maps/gen/maps.ts", mapsSource(abi)],
    ["src/maps/gen/types.ts", typesSource(abi)],
    ["src/maps/gen/verdict.ts", verdictSource(abi)],
  ]);
}
