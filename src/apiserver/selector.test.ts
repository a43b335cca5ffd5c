// SPDX-License-Identifier: Apache-2.0
// Selectors in tables: what they select, and what is refused.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fieldSelector, labelSelector } from "./selector.ts";

const pod = {
  metadata: {
    name: "web-1",
    namespace: "default",
    labels: { app: "web", tier: "front", "a.b/c": "d", n: "5", e: "" },
  },
  spec: { nodeName: "node1" },
  status: { phase: "Running" },
};

const labels: [selector: string, selected: boolean][] = [
  ["", true],
  ["app", true],
  ["!app", false],
  ["!absent", true],
  ["app=web", true],
  ["app==web", true],
  [" app = web ", true],
  ["app=db", false],
  ["app!=db", true],
  ["absent!=db", true],
  ["app=web,tier=front", true],
  ["app=web,tier=back", false],
  ["app in (db, web)", true],
  ["app in (db)", false],
  ["app notin (db,cache)", true],
  ["absent notin (db)", true],
  ["absent in (db)", false],
  ["app in (web),tier in (front,back),!gone", true],
  ["a.b/c=d", true],
  ["e=", true],
  ["absent=", false],
  ["n>4", true],
  ["n<4", false],
  ["constructor", false],
  ["toString!=x", true],
];

for (const [selector, selected] of labels) {
  test(`label selector "${selector}" ${selected ? "selects" : "leaves"} the pod`, () => {
    assert.equal(labelSelector(selector)(pod), selected);
  });
}

for (const bad of [
  "=",
  "app=(x)",
  "app in web",
  "app in (web",
  "a b",
  "app===web",
  "-x=1",
  "app=a b",
  "app=-",
]) {
  test(`label selector "${bad}" is refused`, () => {
    assert.throws(() => labelSelector(bad), { code: "API_BAD_REQUEST" });
  });
}

const FIELDS = ["metadata.name", "metadata.namespace", "spec.nodeName", "status.phase", "spec.unschedulable"];
const fields: [selector: string, selected: boolean][] = [
  ["", true],
  ["metadata.name=web-1", true],
  ["metadata.name==web-1", true],
  ["metadata.name=web-2", false],
  ["metadata.name!=web-2", true],
  ["spec.nodeName=node1,status.phase=Running", true],
  ["spec.nodeName=node1,status.phase!=Running", false],
  ["spec.unschedulable=false", true],
  ["spec.unschedulable!=true", true],
  ["metadata.name=a\\,b", false],
];

for (const [selector, selected] of fields) {
  test(`field selector "${selector}" ${selected ? "selects" : "leaves"} the pod`, () => {
    assert.equal(fieldSelector(selector, FIELDS)(pod), selected);
  });
}

for (const bad of ["spec.foo=1", "metadata.name", "constructor=1"]) {
  test(`field selector "${bad}" is refused`, () => {
    assert.throws(() => fieldSelector(bad, FIELDS), { code: "API_BAD_REQUEST" });
  });
}
