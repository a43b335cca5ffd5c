// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Fault } from "../../src/base/fault.ts";
import { compileBpf } from "../build-bpf.ts";
import { type Abi, readAbi } from "./abi.ts";
import { readBtf } from "./btf.ts";
import { abiPages } from "./emit-docs.ts";
import { sources } from "./emit-source.ts";

/** Everything that a whole object has, with places for what a row changes. */
interface Snippet {
  /** Members of struct entry, the value of the map. */
  entry?: string;
  /** Declarations before struct entry. */
  before?: string;
  /** The map named `things`, whole. */
  map?: string;
  /** Members of struct node_config. */
  config?: string;
  /** Members of struct texts. */
  texts?: string;
  /** Members of struct types. */
  types?: string;
}

const MAP = `struct {
  __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 16); __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u32); __type(value, struct entry);
} things SEC(".maps") DOC("Things by number.");`;

function sourceOf(snippet: Snippet): string {
  return `#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#define DOC(text) __attribute__((btf_decl_tag("doc:" text)))
${snippet.before ?? ""}
enum colour { RED = 3, BLUE = 1 };
struct entry { ${snippet.entry ?? '__u32 value DOC("a value");'} };
struct event { __u64 when DOC("time"); };
struct types { ${snippet.types ?? "enum colour colour; struct event event; struct entry entry;"} };
struct texts { ${snippet.texts ?? '__u8 RED_TEXT DOC("red"); __u8 BLUE_TEXT DOC("blue \\"sky\\"");'} };
struct node_config { ${snippet.config ?? '__u8 on DOC("on");'} };
const volatile struct types TYPES SEC(".rodata.texts");
const volatile struct texts TEXTS SEC(".rodata.texts");
const volatile struct node_config CONFIG SEC(".rodata.config");
${snippet.map ?? MAP}
`;
}

describe("reading the ABI", () => {
  let folder = "";
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "hlt-abi-"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  function read(snippet: Snippet): Abi {
    writeFileSync(join(folder, "snippet.bpf.c"), sourceOf(snippet));
    compileBpf("snippet.bpf.c", "snippet.o", folder);
    return readAbi(readBtf(join(folder, "snippet.o")));
  }

  test("a small object, whole", () => {
    const abi = read({});
    assert.deepEqual(
      abi.structs.map((struct) => struct.name),
      ["entry", "event"],
    );
    assert.deepEqual(abi.enums, [
      {
        name: "colour",
        values: [
          { name: "BLUE", value: 1, text: 'blue "sky"' },
          { name: "RED", value: 3, text: "red" },
        ],
      },
    ]);
    const { key, value, ...map } = abi.maps[0] ?? assert.fail("no map");
    assert.deepEqual(map, {
      name: "things",
      doc: "Things by number.",
      type: 1,
      typeName: "hash",
      maxEntries: 16,
      flags: 1,
    });
    assert.deepEqual([key?.size, value?.size, value?.c], [4, 4, "struct entry"]);
    const text = sources(abi);
    assert.match(text.get("src/maps/gen/verdict.ts") ?? "", /1: "blue \\"sky\\""/);
    assert.match(text.get("src/maps/gen/maps.ts") ?? "", /satisfies MapRow<number, Entry>/);
    assert.match(abiPages(abi).get("docs/reference/maps.md") ?? "", /### things\n\nThings by number\./);
  });

  test("shapes of fields", () => {
    const abi = read({
      before: `struct addr { __be32 w[4] DOC("words"); };
        struct inner { __s32 a DOC("a"); enum { X } b DOC("b"); };`,
      entry: `struct addr from DOC("from"); __u8 mac[6] DOC("mac"); __be16 port DOC("port"); __u8 raw[8] DOC("raw");
        struct inner two[2] DOC("two"); __u64 big DOC("big"); __u8 pad[8] DOC("0");`,
    });
    const entry = abi.structs.find((struct) => struct.name === "entry");
    assert.deepEqual(
      entry?.fields.map((field) => [field.name, field.at, field.size, field.shape.kind, field.pad, field.c]),
      [
        ["from", 0, 16, "address", false, "struct addr"],
        ["mac", 16, 6, "mac", false, "__u8[6]"],
        ["port", 22, 2, "int", false, "__be16"],
        ["raw", 24, 8, "bytes", false, "__u8[8]"],
        ["two", 32, 16, "array", false, "struct inner[2]"],
        ["big", 48, 8, "int", false, "__u64"],
        ["pad", 56, 8, "bytes", true, "__u8[8]"],
      ],
    );
  });

  const refusals: [string, Snippet, RegExp][] = [
    ["a hole", { entry: '__u8 a DOC("a"); __u32 b DOC("b");' }, /struct entry, field b: hole of 3 bytes/],
    [
      "trailing padding",
      { entry: '__u32 a DOC("a"); __u8 b DOC("b");' },
      /field b: trailing padding of 3 bytes/,
    ],
    ["a union", { entry: 'union { __u32 a; __u32 b; } u DOC("u");' }, /struct entry, field u: union/],
    ["an anonymous union", { entry: "union { __u32 a; __u32 b; };" }, /struct entry, field .*: union/],
    [
      "a bit-field",
      { entry: '__u32 a : 4 DOC("a"); __u32 b : 28 DOC("b");' },
      /struct entry, field a: bit-field/,
    ],
    ["a pointer", { entry: 'void *p DOC("p");' }, /struct entry, field p: pointer/],
    [
      "a field without doc",
      { entry: '__u32 a DOC("a"); __u32 pad;' },
      /struct entry, field pad: no DOC text/,
    ],
    [
      "a nested field without doc",
      { before: "struct in { __u32 x; };", entry: 'struct in a DOC("a");' },
      /struct in, field x: no DOC/,
    ],
    ["a config field without doc", { config: "__u8 on;" }, /struct node_config, field on: no DOC text/],
    [
      "a struct without a name",
      { entry: 'struct { __u32 x DOC("x"); } a DOC("a");' },
      /field a: struct without a name/,
    ],
    ["a map without doc", { map: MAP.replace('DOC("Things by number.")', "") }, /map things: no DOC text/],
    [
      "a long map name",
      { map: MAP.replace("things", "sixteen_letters_") },
      /map sixteen_letters_: name of 16 characters/,
    ],
    [
      "a map without types",
      { map: MAP.replace("__type(key, __u32)", "__uint(key_size, 4)") },
      /map things: key_size without a type/,
    ],
    [
      "an enum value without text",
      { texts: '__u8 RED_TEXT DOC("red");' },
      /enum colour, value BLUE: struct texts has no BLUE_TEXT/,
    ],
    [
      "an odd address struct",
      { before: 'struct addr { __u32 w DOC("w"); };', entry: 'struct addr a DOC("a");' },
      /struct addr: 4 bytes/,
    ],
  ];
  for (const [name, snippet, expected] of refusals) {
    test(`refuses ${name}`, () => {
      assert.throws(
        () => read(snippet),
        (thrown) => thrown instanceof Fault && thrown.code === "ABI_REFUSED" && expected.test(thrown.detail),
      );
    });
  }

  test("says what a half object lacks", () => {
    writeFileSync(
      join(folder, "empty.bpf.c"),
      'char LICENSE[] __attribute__((section("license"))) = "GPL";\n',
    );
    compileBpf("empty.bpf.c", "empty.o", folder);
    assert.throws(() => readAbi(readBtf(join(folder, "empty.o"))), { code: "ABI_INCOMPLETE" });
  });
});
