// SPDX-License-Identifier: Apache-2.0
// Kernel modules for a test machine: those that are asked for and what they depend on, unpacked, in the order in which
// they must be inserted. A kernel package has no modules.dep before it is installed; the modules themselves say it.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";

/** One module. `bytes` is the ELF file. */
export interface KernelModule {
  name: string;
  bytes: Uint8Array;
}

/** File names and module names differ in these. */
function moduleName(file: string): string {
  return basename(file)
    .replace(/\.ko(\.xz)?$/, "")
    .replaceAll("-", "_");
}

function unpack(path: string): Uint8Array {
  if (!path.endsWith(".xz")) return readFileSync(path);
  const done = spawnSync("busybox", ["xz", "-dc", path], { maxBuffer: 1 << 28 });
  if (done.status !== 0) throw new Error(`${path}: busybox xz ended with ${done.status}: ${done.stderr}`);
  return done.stdout;
}

/** `depends=a,b` of the section .modinfo. */
function dependencies(bytes: Uint8Array): string[] {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
  const list = /\0depends=([\w,-]*)\0/.exec(text)?.[1] ?? "";
  return list
    .split(",")
    .filter((name) => name !== "")
    .map(moduleName);
}

/** The modules and all they need, dependencies first. Names that the folder does not hold are built in, or absent. */
export function readModules(folder: string, names: readonly string[]): KernelModule[] {
  const files = new Map(
    readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((path) => /\.ko(\.xz)?$/.test(path))
      .map((path) => [moduleName(path), join(folder, path)]),
  );
  const found = new Map<string, KernelModule>();
  const take = (name: string): void => {
    const path = files.get(name);
    if (path === undefined || found.has(name)) return;
    const bytes = unpack(path);
    for (const other of dependencies(bytes)) take(other);
    found.set(name, { name, bytes });
  };
  for (const name of names) take(name);
  return [...found.values()];
}
