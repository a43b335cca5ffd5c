// SPDX-License-Identifier: Apache-2.0
// Compiles bpf/datapath.bpf.c to build/datapath.bpf.o: the one object of the data plane, with BTF and without debug
// information. Does nothing when sources, compiler and this recipe are those of the last build.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Clang, findClang, findLlvmStrip, run, systemIncludes } from "./toolchain.ts";

/** The folder of package.json. */
export const ROOT = fileURLToPath(new URL("..", import.meta.url));

const SOURCE = "bpf/datapath.bpf.c";
const OBJECT = "build/datapath.bpf.o";
const FLAGS = [
  ..."-target bpf -mcpu=v3 -O2 -g -std=gnu11".split(" "),
  ..."-Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers".split(" "),
  // The object must not tell where it was built.
  "-fdebug-compilation-dir=.",
];

/** Hash of everything the object depends on, by content. */
function buildKey(root: string, clang: Clang): string {
  const hash = createHash("sha256").update(clang.version).update(FLAGS.join(" "));
  const files = readdirSync(join(root, "bpf"), { recursive: true, encoding: "utf8" })
    .filter((name) => /\.[ch]$/.test(name))
    .sort();
  for (const name of files) hash.update(`\0${name}\0`).update(readFileSync(join(root, "bpf", name)));
  return hash.digest("hex");
}

/**
 * Compiles any BPF source of one file to a stripped object with BTF. `cwd` is where relative includes start.
 * @throws Fault TOOL_FAILED with the compiler's messages
 */
export function compileBpf(source: string, object: string, cwd: string, clang = findClang()): void {
  const includes = systemIncludes(clang).flatMap((folder) => ["-idirafter", folder]);
  run(clang.path, [...FLAGS, "-Ibpf", ...includes, "-c", source, "-o", object], cwd);
  run(findLlvmStrip(clang), ["-g", object], cwd);
}

/**
 * Builds the data plane if it is not up to date.
 * @returns the absolute path of the object and whether it was compiled now
 */
export function buildBpf(root = ROOT): { object: string; compiled: boolean } {
  const object = join(root, OBJECT);
  const keyFile = `${object}.key`;
  const clang = findClang();
  const key = buildKey(root, clang);
  if (existsSync(object) && existsSync(keyFile) && readFileSync(keyFile, "utf8") === key) {
    return { object, compiled: false };
  }
  mkdirSync(join(root, "build"), { recursive: true });
  const fresh = `${OBJECT}.${process.pid}`;
  try {
    compileBpf(SOURCE, fresh, root, clang);
    renameSync(join(root, fresh), object);
  } finally {
    rmSync(join(root, fresh), { force: true });
  }
  writeFileSync(keyFile, key);
  return { object, compiled: true };
}

if (import.meta.main) {
  try {
    const { compiled } = buildBpf();
    if (compiled) console.log(`${SOURCE} -> ${OBJECT}`);
  } catch (thrown) {
    console.error(thrown instanceof Error ? thrown.message : thrown);
    process.exitCode = 1;
  }
}
