// SPDX-License-Identifier: Apache-2.0
// Every way in which what stands at a path becomes another is told: writes, renames, links swapped at any place on the
// way, folders that go and come. Each change is made after another one, so that watches must have followed.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { sleep, waitFor } from "../base/async.ts";
import { lookups, PathWatch } from "./path-watch.ts";

let dir: string;
before(() => {
  dir = mkdtempSync(join(tmpdir(), "hlt-watch-"));
});
after(() => rmSync(dir, { recursive: true, force: true }));

/** A file behind Kubernetes' links: name -> ..data/name, ..data -> a folder that is swapped. */
function mountConfigMap(root: string, version: string, text: string): void {
  mkdirSync(join(root, `..${version}`), { recursive: true });
  writeFileSync(join(root, `..${version}/name`), text);
  symlinkSync(`..${version}`, join(root, "..data_tmp"));
  renameSync(join(root, "..data_tmp"), join(root, "..data"));
}

const rows: [name: string, steps: ((root: string) => void)[]][] = [
  [
    "a file that comes, is written in place, replaced, removed, and comes again",
    [
      (root) => writeFileSync(join(root, "name"), "1"),
      (root) => writeFileSync(join(root, "name"), "22"),
      (root) => {
        writeFileSync(join(root, "draft"), "333");
        renameSync(join(root, "draft"), join(root, "name"));
      },
      (root) => rmSync(join(root, "name")),
      (root) => writeFileSync(join(root, "name"), "4"),
    ],
  ],
  [
    "a ConfigMap's links, swapped twice, and a write behind them",
    [
      (root) => {
        mountConfigMap(root, "1", "1");
        symlinkSync("..data/name", join(root, "name"));
      },
      (root) => mountConfigMap(root, "2", "2"),
      (root) => mountConfigMap(root, "3", "3"),
      (root) => writeFileSync(join(root, "..3/name"), "33"),
    ],
  ],
  [
    "the folder, and that above it, gone and made anew",
    [
      (root) => writeFileSync(join(root, "name"), "1"),
      (root) => rmSync(root, { recursive: true }),
      (root) => mkdirSync(root),
      (root) => writeFileSync(join(root, "name"), "2"),
      (root) => rmSync(join(root, ".."), { recursive: true }),
      (root) => mkdirSync(root, { recursive: true }),
      (root) => writeFileSync(join(root, "name"), "3"),
    ],
  ],
  [
    "a link into another folder, and the file there written",
    [
      (root) => {
        mkdirSync(join(root, "../far"));
        writeFileSync(join(root, "../far/file"), "1");
        symlinkSync("../far/file", join(root, "name"));
      },
      (root) => writeFileSync(join(root, "../far/file"), "2"),
      (root) => rmSync(join(root, "../far"), { recursive: true }),
    ],
  ],
  [
    "the folder becomes a link, which is swapped",
    [
      (root) => {
        for (const name of ["a", "b"]) {
          mkdirSync(join(root, `../${name}`));
          writeFileSync(join(root, `../${name}/name`), name);
        }
        rmSync(root, { recursive: true });
        symlinkSync("a", root);
      },
      (root) => {
        symlinkSync("b", `${root}.next`);
        renameSync(`${root}.next`, root);
      },
      (root) => writeFileSync(join(root, "../b/name"), "bb"),
    ],
  ],
];

for (const [name, steps] of rows) {
  test(name, async () => {
    const root = join(mkdtempSync(join(dir, "row-")), "root");
    mkdirSync(root);
    let calls = 0;
    const watch = new PathWatch(() => {
      calls++;
    });
    try {
      watch.follow(join(root, "name"));
      for (const [i, step] of steps.entries()) {
        // Events of the step before have all come by now.
        await sleep(30);
        watch.follow(join(root, "name"));
        calls = 0;
        step(root);
        await waitFor(`step ${i + 1} to be told`, () => calls > 0);
      }
    } finally {
      watch.close();
    }
  });
}

test("what happens beside the path is not told, and a watch that is closed is silent", async () => {
  const root = mkdtempSync(join(dir, "row-"));
  let calls = 0;
  const watch = new PathWatch(() => {
    calls++;
  });
  watch.follow(join(root, "deep/name"));
  writeFileSync(join(root, "other"), "1");
  await sleep(50);
  assert.equal(calls, 0);
  watch.close();
  mkdirSync(join(root, "deep"));
  await sleep(50);
  assert.equal(calls, 0);
});

test("links in a circle end the walk", () => {
  const root = mkdtempSync(join(dir, "row-"));
  symlinkSync("b", join(root, "a"));
  symlinkSync("a", join(root, "b"));
  assert.deepEqual(lookups(join(root, "a")).get(root), new Set(["a", "b"]));
});
