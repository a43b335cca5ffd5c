// SPDX-License-Identifier: Apache-2.0
// Ages, JSONPath and the columns of pods, in tables.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { KubeObject } from "../json.ts";
import { podStatus } from "../kinds/pod-columns.ts";
import { printerColumns } from "./columns.ts";
import { age, humanDuration } from "./duration.ts";
import { compileJsonPath } from "./json-path.ts";
import { table } from "./table.ts";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const ages: [ms: number, text: string][] = [
  [-5 * SECOND, "<invalid>"],
  [-1 * SECOND, "0s"],
  [0, "0s"],
  [119 * SECOND, "119s"],
  [2 * MINUTE, "2m"],
  [5 * MINUTE + 30 * SECOND, "5m30s"],
  [10 * MINUTE + 30 * SECOND, "10m"],
  [179 * MINUTE, "179m"],
  [3 * HOUR, "3h"],
  [3 * HOUR + 20 * MINUTE, "3h20m"],
  [47 * HOUR, "47h"],
  [2 * DAY, "2d"],
  [2 * DAY + 4 * HOUR, "2d4h"],
  [9 * DAY + 4 * HOUR, "9d"],
  [700 * DAY, "700d"],
  [800 * DAY, "2y70d"],
  [9 * 365 * DAY, "9y"],
];
for (const [ms, text] of ages) test(`${ms} ms is ${text}`, () => assert.equal(humanDuration(ms), text));

test("the age of nothing is unknown", () => {
  assert.equal(age(undefined, 0), "<unknown>");
  assert.equal(age("yesterday", 0), "<unknown>");
});

const document = {
  spec: {
    a: 1,
    list: [
      { n: "x", v: 1 },
      { n: "y", v: 2 },
    ],
    "a.b": "dotted",
    "c/d": "slashed",
  },
  status: {
    conditions: [
      { type: "Ready", status: "True" },
      { type: "Other", status: "False" },
    ],
  },
};
const paths: [path: string, found: unknown[]][] = [
  [".spec.a", [1]],
  ["$.spec.a", [1]],
  ["{.spec.a}", [1]],
  [".spec.missing.deep", []],
  [".spec.list[0].n", ["x"]],
  [".spec.list[-1].n", ["y"]],
  [".spec.list[9].n", []],
  [".spec.list[*].n", ["x", "y"]],
  ['.spec.list[?(@.n=="y")].v', [2]],
  [".spec.list[?(@.n!='y')].v", [1]],
  [".spec.list[?(@.v==2)].n", ["y"]],
  [".spec.list[?(@.missing)].n", []],
  ['.status.conditions[?(@.type == "Ready")].status', ["True"]],
  [".spec.a\\.b", ["dotted"]],
  [".spec['a.b']", ["dotted"]],
  ['.spec["c/d"]', ["slashed"]],
  [".constructor", []],
  [".spec.list.length", []],
];
for (const [path, found] of paths) {
  test(`JSONPath ${path}`, () => assert.deepEqual(compileJsonPath(path)(document), found));
}
for (const path of ["spec", ".a[", ".a[x]", ".a[?(@.b=='c']", ".a..b", ".a[?(process.exit())]"]) {
  test(`JSONPath ${path} is refused`, () => assert.throws(() => compileJsonPath(path), /cannot read/));
}

const meta = { name: "p", uid: "u", resourceVersion: "1", creationTimestamp: "2026-01-01T00:00:00Z" };
const pod = (
  status: object,
  more: object = {},
  spec: object = { containers: [{ name: "a" }] },
): KubeObject => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { ...meta, ...more },
  spec,
  status,
});
const waiting = (reason: string) => ({ state: { waiting: { reason } } });
const ended = (terminated: object) => ({ state: { terminated } });
const initPod = (init: object[]) =>
  pod(
    { phase: "Pending", initContainerStatuses: init },
    {},
    { containers: [{ name: "a" }], initContainers: [{ name: "i" }, { name: "j" }] },
  );
const statuses: [what: string, object: KubeObject, text: string][] = [
  [
    "phase",
    pod({ phase: "Running", containerStatuses: [{ ready: true, state: { running: {} } }] }),
    "Running",
  ],
  ["reason of the pod", pod({ phase: "Failed", reason: "Evicted" }), "Evicted"],
  [
    "waiting container",
    pod({ phase: "Running", containerStatuses: [waiting("CrashLoopBackOff")] }),
    "CrashLoopBackOff",
  ],
  [
    "completed",
    pod({ phase: "Succeeded", containerStatuses: [ended({ reason: "Completed", exitCode: 0 })] }),
    "Completed",
  ],
  ["exit code", pod({ phase: "Failed", containerStatuses: [ended({ exitCode: 3 })] }), "ExitCode:3"],
  ["signal", pod({ phase: "Failed", containerStatuses: [ended({ signal: 9, exitCode: 137 })] }), "Signal:9"],
  ["terminating", pod({ phase: "Running" }, { deletionTimestamp: "2026-01-01T00:00:00Z" }), "Terminating"],
  ["first init container", initPod([waiting("PodInitializing")]), "Init:0/2"],
  ["second init container", initPod([ended({ exitCode: 0 }), {}]), "Init:1/2"],
  ["failed init container", initPod([ended({ reason: "Error", exitCode: 1 })]), "Init:Error"],
  ["nothing known", pod({}), "Unknown"],
];
for (const [what, object, text] of statuses) {
  test(`pod status: ${what}`, () => assert.equal(podStatus(object), text));
}

test("printer columns give cells of their types, null where there is nothing", () => {
  const columns = printerColumns({
    additionalPrinterColumns: [
      { name: "N", type: "integer", jsonPath: ".spec.n" },
      { name: "B", type: "boolean", jsonPath: ".spec.b" },
      { name: "D", type: "date", jsonPath: ".metadata.creationTimestamp" },
      { name: "S", type: "string", jsonPath: ".spec.s[*]", priority: 1 },
      { name: "O", type: "string", jsonPath: ".spec.o" },
      { name: "None", type: "string", jsonPath: ".spec.none" },
    ],
  });
  const now = Date.now();
  const object = pod(
    {},
    { creationTimestamp: new Date(now - 5 * MINUTE).toISOString() },
    { n: 5, b: true, s: ["x", "y"], o: { a: 1 } },
  );
  const made = table([object], columns, { as: "Table", version: "v1", include: "None" });
  assert.deepEqual((made.rows as { cells: unknown[] }[])[0]?.cells, [
    "p",
    5,
    true,
    "5m",
    "x,y",
    '{"a":1}',
    null,
  ]);
  assert.deepEqual(
    (made.columnDefinitions as { name: string; priority: number }[]).map((c) => [c.name, c.priority]).at(-3),
    ["S", 1],
  );
  assert.throws(
    () => printerColumns({ additionalPrinterColumns: [{ name: "X", type: "colour", jsonPath: ".a" }] }),
    /colour/,
  );
  assert.throws(
    () => printerColumns({ additionalPrinterColumns: [{ name: "X", type: "string", jsonPath: "a" }] }),
    /cannot read/,
  );
});
