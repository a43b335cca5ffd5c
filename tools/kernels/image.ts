// SPDX-License-Identifier: Apache-2.0
// The root file system of a test machine: Node.js, ip, curl and busybox with their libraries, the modules of its kernel, the
// built product, the test files and what they import. Sources lie at their paths, their types already stripped:
// the stripper is WebAssembly, which takes seconds to start under emulation.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { join } from "node:path";
import { build } from "esbuild";
import { ROOT } from "../build-bpf.ts";
import { Initramfs } from "./cpio.ts";
import { readModules } from "./modules.ts";
import type { Kernel } from "./packages.ts";

/** Where the project lies in the machine. */
export const INSIDE = "/hookline";

/** The program that the machine runs. */
const MAIN = "test/kernels/inside.ts";
/** Started as processes by tests, or imported by what these are told to run, so no import of a test leads to them. */
const STARTED = ["test/support/outside-server.ts", "tools/test/reporter.ts", "src/kernel/capabilities.ts"];

/** Loaded at run time, so no program names them. */
const LIBRARIES = ["libbpf.so.1"];
const LIBRARY_FOLDERS = [
  "/lib/x86_64-linux-gnu",
  "/usr/lib/x86_64-linux-gnu",
  "/lib64",
  "/usr/lib64",
  "/usr/lib",
];

/** Modules that tests need; those that are built into a kernel are not there. */
const MODULES = ["veth", "sch_ingress", "cls_bpf", "bridge", "vxlan", "dummy"];

const INIT = `#!/bin/busybox sh
/bin/busybox --install -s /bin 2>/dev/null
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /sys/fs/bpf
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t tmpfs tmp /tmp
/bin/busybox mount -t tmpfs run /run
/bin/busybox mount -t bpf bpf /sys/fs/bpf
/bin/busybox mount -t cgroup2 cgroup /sys/fs/cgroup
for module in $(/bin/busybox cat /modules/order); do /bin/busybox insmod /modules/$module; done
/bin/busybox ip link set lo up
ulimit -l unlimited
/bin/busybox stty -F /dev/ttyS1 raw -echo
cd ${INSIDE}
export PATH=/bin HOME=/ NODE_OPTIONS=--import=${INSIDE}/stripped.mjs
/bin/node ${MAIN} "$@" >/dev/ttyS1
echo "{\\"end\\":$?}" >/dev/ttyS1
/bin/busybox poweroff -f
`;

/** Tells Node.js that the types are gone from its .ts files. */
const STRIPPED = `import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
registerHooks({
  load(url, context, next) {
    if (!url.startsWith("file://${INSIDE}/") || !url.endsWith(".ts")) return next(url, context);
    return { format: "module", source: readFileSync(new URL(url)), shortCircuit: true };
  },
});
`;

/** The shared libraries of a program or library, resolved as this machine's loader does. */
function librariesOf(path: string): string[] {
  const done = spawnSync("ldd", [path], { encoding: "utf8" });
  return [...(done.stdout ?? "").matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1] ?? "");
}

function addProgram(image: Initramfs, at: string, from: string): void {
  image.add(at, { from, mode: 0o755 });
  for (const library of librariesOf(from)) image.add(library, { from: realpathSync(library), mode: 0o755 });
}

function findProgram(name: string): string {
  const folders = [...(process.env.PATH ?? "").split(":"), "/bin", "/sbin", "/usr/bin", "/usr/sbin"];
  const path = folders.map((folder) => join(folder, name)).find((candidate) => existsSync(candidate));
  if (path === undefined) throw new Error(`${name} is not installed: run npm run setup`);
  return realpathSync(path);
}

function findLibrary(soname: string): string {
  const path = LIBRARY_FOLDERS.map((folder) => join(folder, soname)).find((candidate) =>
    existsSync(candidate),
  );
  if (path === undefined) throw new Error(`${soname} is not installed: run npm run setup`);
  return path;
}

function addFolder(image: Initramfs, at: string, from: string): void {
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    if (entry.isDirectory()) addFolder(image, `${at}/${entry.name}`, join(from, entry.name));
    else if (entry.isFile()) image.add(`${at}/${entry.name}`, { from: join(from, entry.name), mode: 0o755 });
  }
}

/** The files that the entries import, and the packages, found by the bundler without writing a bundle. */
async function importsOf(entries: readonly string[]): Promise<{ files: string[]; packages: string[] }> {
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: [...entries],
    bundle: true,
    write: false,
    outdir: "build",
    platform: "node",
    format: "esm",
    packages: "external",
    metafile: true,
    logLevel: "silent",
  });
  const outside = Object.values(metafile.outputs).flatMap((output) => output.imports);
  const packages = outside.map((one) => one.path).filter((path) => !path.startsWith("node:"));
  return { files: Object.keys(metafile.inputs), packages: [...new Set(packages)] };
}

function addSource(image: Initramfs, path: string): void {
  const text = readFileSync(join(ROOT, path), "utf8");
  image.add(`${INSIDE}/${path}`, { bytes: path.endsWith(".ts") ? stripTypeScriptTypes(text) : text });
}

/** Packages of npm that may be imported, with the parts that lie in packages of their own. */
const PACKAGES: Record<string, readonly string[]> = { koffi: ["koffi", "@koromix/koffi-linux-x64"] };

function addPackages(image: Initramfs, names: readonly string[]): void {
  for (const name of names) {
    const folders = PACKAGES[name];
    if (folders === undefined) throw new Error(`test files import ${name}, which the image does not hold`);
    for (const folder of folders) {
      addFolder(image, `${INSIDE}/node_modules/${folder}`, join(ROOT, "node_modules", folder));
    }
  }
}

/** Writes the initramfs of one kernel. `tests` are test files, paths from the root of the project. */
export async function writeImage(path: string, kernel: Kernel, tests: readonly string[]): Promise<void> {
  using image = new Initramfs(path);
  image.add("/dev/console", { major: 5, minor: 1 });
  image.add("/init", { bytes: INIT, mode: 0o755 });
  image.add("/bin/busybox", { from: findProgram("busybox"), mode: 0o755 });
  addProgram(image, "/bin/node", realpathSync(join(ROOT, "node_modules/.bin/node")));
  for (const name of ["ip", "curl"]) addProgram(image, `/bin/${name}`, findProgram(name));
  for (const soname of LIBRARIES)
    addProgram(image, `/lib/x86_64-linux-gnu/${soname}`, realpathSync(findLibrary(soname)));
  const modules = readModules(kernel.modules, MODULES);
  for (const module of modules) image.add(`/modules/${module.name}.ko`, { bytes: module.bytes });
  image.add("/modules/order", { bytes: modules.map((module) => `${module.name}.ko\n`).join("") });
  const { files, packages } = await importsOf([MAIN, ...STARTED, ...tests]);
  for (const file of files) addSource(image, file);
  addPackages(image, packages);
  image.add(`${INSIDE}/test/kernels/files`, { bytes: tests.join("\n") });
  image.add(`${INSIDE}/package.json`, { from: join(ROOT, "package.json") });
  image.add(`${INSIDE}/stripped.mjs`, { bytes: STRIPPED });
  addFolder(image, `${INSIDE}/dist`, join(ROOT, "dist"));
  image.add(`${INSIDE}/build/datapath.bpf.o`, { from: join(ROOT, "build/datapath.bpf.o") });
}
