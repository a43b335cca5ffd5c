// SPDX-License-Identifier: Apache-2.0
// The three patch languages in tables: document, patch, result; and what each refuses.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_LIMITS } from "../limits.ts";
import { builtinDefinitions, definitionName } from "../schema/builtin.ts";
import { applyJsonPatch } from "./json-patch.ts";
import { mergePatch } from "./merge-patch.ts";
import { strategicMerge } from "./strategic.ts";

const definitions = await builtinDefinitions(["V1Pod", "V1Node", "V1Service"]);

type Row = [what: string, document: unknown, patch: unknown, result: unknown];

const merge: Row[] = [
  [
    "sets, replaces and removes",
    { a: 1, b: 2, c: { d: 3, e: 4 } },
    { a: 5, b: null, c: { d: null } },
    { a: 5, c: { e: 4 } },
  ],
  ["replaces lists", { a: [1, 2] }, { a: [3] }, { a: [3] }],
  ["drops nulls of new objects", {}, { a: { b: null, c: 1 } }, { a: { c: 1 } }],
  ["turns a scalar into an object", { a: 1 }, { a: { b: 2 } }, { a: { b: 2 } }],
  [
    "treats constructor as a plain field",
    {},
    { constructor: { prototype: { x: 1 } } },
    { constructor: { prototype: { x: 1 } } },
  ],
];
for (const [what, document, patch, result] of merge) {
  test(`merge patch ${what}`, () => assert.deepEqual(mergePatch(document, patch), result));
}

const pod = (containers: unknown[], more: object = {}) => ({ spec: { containers, ...more } });
const strategic: Row[] = [
  [
    "merges containers by name",
    pod([
      { name: "a", image: "1" },
      { name: "b", image: "1" },
    ]),
    pod([{ name: "b", image: "2" }]),
    pod([
      { name: "a", image: "1" },
      { name: "b", image: "2" },
    ]),
  ],
  [
    "adds a container",
    pod([{ name: "a" }]),
    pod([{ name: "b", image: "1" }]),
    pod([{ name: "a" }, { name: "b", image: "1" }]),
  ],
  [
    "deletes by directive",
    pod([{ name: "a" }, { name: "b" }]),
    pod([{ $patch: "delete", name: "a" }]),
    pod([{ name: "b" }]),
  ],
  [
    "replaces by directive",
    pod([{ name: "a" }]),
    pod([{ $patch: "replace" }, { name: "c" }]),
    pod([{ name: "c" }]),
  ],
  [
    "merges nested lists (env by name, ports by containerPort)",
    pod([{ name: "a", env: [{ name: "X", value: "1" }], ports: [{ containerPort: 80, name: "w" }] }]),
    pod([{ name: "a", env: [{ name: "Y", value: "2" }], ports: [{ containerPort: 80, protocol: "TCP" }] }]),
    pod([
      {
        name: "a",
        env: [
          { name: "X", value: "1" },
          { name: "Y", value: "2" },
        ],
        ports: [{ containerPort: 80, name: "w", protocol: "TCP" }],
      },
    ]),
  ],
  [
    "replaces lists without a merge key (tolerations)",
    pod([], { tolerations: [{ key: "a" }] }),
    { spec: { tolerations: [{ key: "b" }] } },
    pod([], { tolerations: [{ key: "b" }] }),
  ],
  [
    "orders by $setElementOrder and keeps what only the server has near its neighbours",
    pod([{ name: "a" }, { name: "server" }, { name: "b" }]),
    {
      spec: {
        "$setElementOrder/containers": [{ name: "b" }, { name: "new" }, { name: "a" }],
        containers: [{ name: "new" }],
      },
    },
    pod([{ name: "server" }, { name: "b" }, { name: "new" }, { name: "a" }]),
  ],
  [
    "adds to and removes from lists of scalars",
    { metadata: { finalizers: ["a/x", "a/y"] } },
    { metadata: { "$deleteFromPrimitiveList/finalizers": ["a/x"], finalizers: ["a/z", "a/y"] } },
    { metadata: { finalizers: ["a/y", "a/z"] } },
  ],
  [
    "keeps only $retainKeys",
    pod([], { volumes: [{ name: "v", emptyDir: {} }] }),
    pod([], { volumes: [{ name: "v", $retainKeys: ["name", "hostPath"], hostPath: { path: "/x" } }] }),
    pod([], { volumes: [{ name: "v", hostPath: { path: "/x" } }] }),
  ],
  [
    "removes fields by null",
    { metadata: { labels: { a: "1", b: "2" } } },
    { metadata: { labels: { a: null } } },
    { metadata: { labels: { b: "2" } } },
  ],
  [
    "replaces a map by directive",
    { metadata: { labels: { a: "1" } } },
    { metadata: { labels: { $patch: "replace", b: "2" } } },
    { metadata: { labels: { b: "2" } } },
  ],
  [
    "leaves no directive in new objects",
    {},
    pod([
      {
        name: "a",
        env: [
          { $patch: "delete", name: "X" },
          { name: "Y", value: null },
        ],
      },
    ]),
    pod([{ name: "a", env: [{ name: "Y" }] }]),
  ],
];
for (const [what, document, patch, result] of strategic) {
  test(`strategic merge patch ${what}`, () => {
    const before = structuredClone(document);
    const merged = strategicMerge(document, patch, { $ref: definitionName("V1Pod") }, definitions);
    assert.deepEqual(merged, result);
    assert.deepEqual(document, before, "the original is not changed");
  });
}

const badStrategic: [what: string, patch: unknown][] = [
  ["a list", []],
  ["an unknown directive", { metadata: { $patch: "explode" } }],
  ["an item without its key", pod([{ image: "x" }])],
  ["a scalar item", pod(["x"])],
  ["an order that is no list", { spec: { containers: [{ name: "a" }], "$setElementOrder/containers": "x" } }],
  ["retained keys that are no list", { metadata: { $retainKeys: 1 } }],
];
for (const [what, patch] of badStrategic) {
  test(`strategic merge patch refuses ${what}`, () => {
    assert.throws(() => strategicMerge({}, patch, { $ref: definitionName("V1Pod") }, definitions), {
      code: "API_BAD_REQUEST",
    });
  });
}

const json: Row[] = [
  ["adds", { a: {} }, [{ op: "add", path: "/a/b", value: 1 }], { a: { b: 1 } }],
  ["appends", { a: [1] }, [{ op: "add", path: "/a/-", value: 2 }], { a: [1, 2] }],
  ["unescapes", { l: {} }, [{ op: "add", path: "/l/a.b~1c~0d", value: 1 }], { l: { "a.b/c~d": 1 } }],
  [
    "tests and replaces",
    { a: 1 },
    [
      { op: "test", path: "/a", value: 1 },
      { op: "replace", path: "/a", value: 2 },
    ],
    { a: 2 },
  ],
  [
    "moves and copies",
    { a: 1 },
    [
      { op: "copy", from: "/a", path: "/b" },
      { op: "move", from: "/a", path: "/c" },
    ],
    { b: 1, c: 1 },
  ],
];
for (const [what, document, patch, result] of json) {
  test(`JSON patch ${what}`, () => assert.deepEqual(applyJsonPatch(document, patch, DEFAULT_LIMITS), result));
}

const bomb = Array.from({ length: 40 }, (_, i) => ({ op: "copy", from: "/a", path: `/a/x${i}` }));
const badJson: [what: string, patch: unknown][] = [
  ["an object", { op: "add" }],
  ["an unknown op", [{ op: "explode", path: "/a" }]],
  ["a missing path", [{ op: "add", value: 1 }]],
  ["a relative pointer", [{ op: "add", path: "a", value: 1 }]],
  ["a failed test", [{ op: "test", path: "/a/n", value: 2 }]],
  ["a missing target", [{ op: "remove", path: "/x/y" }]],
  ["the whole document", [{ op: "replace", path: "", value: 1 }]],
  ["__proto__", [{ op: "add", path: "/__proto__/polluted", value: 1 }]],
  ["constructor.prototype", [{ op: "add", path: "/constructor/prototype/polluted", value: 1 }]],
  ["a copy from the prototype", [{ op: "copy", from: "/constructor/prototype", path: "/b" }]],
  ["copies that explode", bomb],
  ["too many operations", Array.from({ length: 1001 }, () => ({ op: "test", path: "/a/n", value: 1 }))],
];
for (const [what, patch] of badJson) {
  test(`JSON patch refuses ${what}`, () => {
    assert.throws(() => applyJsonPatch({ a: { n: 1 } }, patch, DEFAULT_LIMITS), { code: "API_BAD_REQUEST" });
    assert.equal(({} as { polluted?: number }).polluted, undefined);
  });
}
