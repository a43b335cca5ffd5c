// SPDX-License-Identifier: Apache-2.0
// The user's manifests in the lab's folder: linked, followed, gone with the file; the lab's own files untouched.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { linkUserManifests } from "./user-manifests.ts";

test("links follow the user's folder", (t) => {
  const root = mkdtempSync(join(tmpdir(), "hookline-manifests-"));
  t.after(() => rmSync(root, { recursive: true }));
  const user = join(root, "user");
  const lab = join(root, "lab");
  for (const folder of [user, lab]) mkdirSync(folder);
  writeFileSync(join(lab, "nodes.yaml"), "own");
  writeFileSync(join(user, "a.yaml"), "one");
  writeFileSync(join(user, "notes.txt"), "no manifest");
  const names = (): string[] => readdirSync(lab).sort();

  linkUserManifests(user, lab);
  assert.deepEqual(names(), ["nodes.yaml", "user-a.yaml"]);
  writeFileSync(join(user, "a.yaml"), "two");
  assert.equal(readFileSync(join(lab, "user-a.yaml"), "utf8"), "two");

  writeFileSync(join(user, "b.json"), "{}");
  rmSync(join(user, "a.yaml"));
  linkUserManifests(user, lab);
  linkUserManifests(user, lab);
  assert.deepEqual(names(), ["nodes.yaml", "user-b.json"]);
  assert.throws(() => linkUserManifests(join(root, "none"), lab), { code: "ENOENT" });
  assert.deepEqual(names(), ["nodes.yaml", "user-b.json"]);
});
