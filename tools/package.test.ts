// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { buildAll } from "./build.ts";
import { ROOT } from "./build-bpf.ts";

/** The pinned Node.js comes first, as `#!/usr/bin/env node` would find it on a machine that is new enough. */
const ENV = { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH}` };
const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));

describe("the package", () => {
  let folder = "";
  let home = "";
  const run = (command: string, args: string[], cwd = folder): string =>
    execFileSync(command, args, { cwd, env: ENV, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "hlt-package-"));
    await buildAll();
    // The build has just been done; npm needs no second one, and must not print it.
    run("npm", ["pack", "--ignore-scripts", "--pack-destination", folder], ROOT);
    const tarball = readdirSync(folder).find((name) => name.endsWith(".tgz")) ?? assert.fail("no tarball");
    run("npm", [
      "install",
      "--global",
      "--prefix",
      folder,
      "--prefer-offline",
      "--no-audit",
      "--no-fund",
      tarball,
    ]);
    home = join(folder, "lib/node_modules/hookline");
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test("holds the command, the CNI plugin, the data plane and the licences, and no sources", () => {
    for (const path of [
      "dist/hookline.mjs",
      "dist/hookline-cni.cjs",
      "build/datapath.bpf.o",
      "LICENSES/Apache-2.0.txt",
    ]) {
      assert.ok(existsSync(join(home, path)), path);
    }
    assert.ok(!existsSync(join(home, "src")));
    assert.deepEqual(
      readFileSync(join(home, "build/datapath.bpf.o")),
      readFileSync(join(ROOT, "build/datapath.bpf.o")),
    );
  });

  test("holds bundles in ASCII, which V8 keeps in one byte a character", () => {
    const dist = join(home, "dist");
    const bundles = readdirSync(dist);
    assert.ok(bundles.length > 2);
    for (const name of bundles)
      assert.ok(!/[\x80-\xff]/.test(readFileSync(join(dist, name), "latin1")), name);
  });

  test("gives a command that knows its version", () => {
    assert.match(run(join(folder, "bin/hookline"), ["version"]), new RegExp(`^hookline ${version} `));
  });

  test("finds the native part of the FFI from the bundle", () => {
    const script = 'const koffi = require("koffi"); console.log(koffi.load(null).func("int getpid(void)")())';
    const pid = run(process.execPath, ["-e", script], join(home, "dist"));
    assert.match(pid, /^\d+\n$/);
  });

  test("the plugin answers VERSION with the FFI and all packages out of reach", () => {
    const plugin = join(folder, "hookline-cni.cjs");
    run("cp", [join(home, "dist/hookline-cni.cjs"), plugin]);
    const env = { ...ENV, CNI_COMMAND: "VERSION" };
    const done = spawnSync(plugin, { env, input: '{"cniVersion":"1.1.0"}', encoding: "utf8" });
    assert.equal(done.status, 0, done.stderr);
    assert.ok(JSON.parse(done.stdout).supportedVersions.includes("1.1.0"));
  });
});
