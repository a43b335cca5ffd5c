// SPDX-License-Identifier: Apache-2.0
// Conforming documents to schemas: the built-in ones and structural schemas of CRDs, in tables.
import assert from "node:assert/strict";
import { test } from "node:test";
import { builtinDefinitions, definitionName } from "./builtin.ts";
import { conform } from "./conform.ts";
import { compileConstraints } from "./constraints.ts";
import type { Schema } from "./types.ts";

const NONE = new Map<string, Schema>();
const definitions = await builtinDefinitions(["V1Pod", "V1ConfigMap", "V1Node"]);
const pod = (spec: object) => ({ metadata: { name: "a" }, spec });
const conformPod = (document: unknown) => conform(document, { $ref: definitionName("V1Pod") }, definitions);

test("a valid pod passes unchanged, nulls and unknown fields go", () => {
  const found = conformPod({
    ...pod({
      containers: [{ name: "a", ports: [{ containerPort: 80, nope: 1 }], command: null }],
      hostNetwork: null,
    }),
    metadata: { name: "a", creationTimestamp: null, labels: { x: "y" } },
  });
  assert.deepEqual(found.errors, []);
  assert.deepEqual(found.unknown, ["spec.containers[0].ports[0].nope"]);
  assert.deepEqual(found.value, {
    metadata: { name: "a", labels: { x: "y" } },
    spec: { containers: [{ name: "a", ports: [{ containerPort: 80 }] }] },
  });
});

test("numbers are accepted where quantities are meant", () => {
  const found = conformPod(pod({ containers: [{ name: "a", resources: { limits: { cpu: 2 } } }] }));
  assert.deepEqual(found.errors, []);
  assert.equal(JSON.stringify(found.value).includes(`"cpu":"2"`), true);
});

const refused: [what: string, document: unknown, field: string][] = [
  ["a text for a list", pod({ containers: "x" }), "spec.containers"],
  ["a number for a name", pod({ containers: [{ name: 5 }] }), "spec.containers[0].name"],
  ["a missing name", pod({ containers: [{ image: "x" }] }), "spec.containers[0].name"],
  [
    "a port over 32 bits",
    pod({ containers: [{ name: "a", ports: [{ containerPort: 2 ** 40 }] }] }),
    "spec.containers[0].ports[0].containerPort",
  ],
  [
    "a fraction for a port",
    pod({ containers: [{ name: "a", ports: [{ containerPort: 1.5 }] }] }),
    "spec.containers[0].ports[0].containerPort",
  ],
  ["a label that is a number", { metadata: { labels: { a: 1 } } }, "metadata.labels.a"],
  ["null in a list", pod({ containers: [null] }), "spec.containers[0]"],
  ["a list for metadata", { metadata: [] }, "metadata"],
];
for (const [what, document, field] of refused) {
  test(`refuses ${what} and says where`, () => {
    assert.deepEqual(
      conformPod(structuredClone(document)).errors.map((e) => e.field),
      [field],
    );
  });
}

const custom: Schema = {
  type: "object",
  required: ["mode"],
  properties: {
    mode: { type: "string", enum: ["a", "b"] },
    port: { type: "integer", minimum: 1, maximum: 65535 },
    name: { type: "string", pattern: "^(a+)+$", maxLength: 100 },
    size: { type: "integer", default: 5 },
    nested: { type: "object", properties: { on: { type: "boolean", default: true } } },
    free: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
    either: { "x-kubernetes-int-or-string": true },
    maybe: { type: "string", nullable: true },
    cidrs: { type: "array", items: { type: "string" }, "x-kubernetes-list-type": "set" },
    when: { type: "string", format: "date-time" },
    constructor: { type: "string" },
  },
};

test("defaults are filled in at every level, unknown fields are pruned, free parts kept", () => {
  const found = conform(
    { mode: "a", nested: {}, free: { x: { y: 1 } }, gone: 1, maybe: null, either: "50%" },
    custom,
    NONE,
  );
  assert.deepEqual(found.unknown, ["gone"]);
  assert.deepEqual(found.value, {
    mode: "a",
    nested: { on: true },
    free: { x: { y: 1 } },
    maybe: null,
    either: "50%",
    size: 5,
  });
});

test("duplicates in a set are refused", () => {
  const { errors } = conform({ mode: "a", cidrs: ["x", "y", "x"] }, custom, NONE);
  assert.deepEqual(
    errors.map((e) => [e.field, e.reason]),
    [["cidrs[2]", "FieldValueDuplicate"]],
  );
});

const check = compileConstraints(custom);
const constraints: [document: object, fields: string[]][] = [
  [{ mode: "a", port: 80, name: "aaa", maybe: null, either: 1, when: "2026-01-01T00:00:00Z" }, []],
  [{ mode: "c" }, ["mode"]],
  [{}, ["mode"]],
  [{ mode: "a", port: 0 }, ["port"]],
  [{ mode: "a", port: 65536, name: "b" }, ["port", "name"]],
  [{ mode: "a", when: "yesterday" }, ["when"]],
  [{ mode: "a", name: `${"a".repeat(60)}!` }, ["name"]],
];
for (const [document, fields] of constraints) {
  test(`constraints on ${JSON.stringify(document).slice(0, 60)} refuse [${fields}]`, () => {
    assert.deepEqual(
      check(document).map((e) => e.field),
      fields,
    );
  });
}
