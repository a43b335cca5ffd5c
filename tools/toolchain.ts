// SPDX-License-Identifier: Apache-2.0
// Where the compilers of this machine are: clang and llvm-strip for the BPF object, bpftool for its BTF. Found by
// looking along PATH and the places where distributions keep versioned tools; nothing is configured.
import { spawnSync } from "node:child_process";
import { accessSync, constants, readdirSync } from "node:fs";
import { join } from "node:path";
import { faults } from "./faults.ts";

/** Oldest clang that writes btf_decl_tag of struct members and variables. */
const CLANG_MIN = 14;
/** The release that the project is developed with; taken before newer ones so that objects agree. */
const CLANG_FIRST = 19;

/** A compiler that was run once and answered. `path` is absolute. */
export interface Clang {
  path: string;
  major: number;
  /** First line of `--version`. */
  version: string;
}

const SEARCH = [...(process.env.PATH ?? "").split(":"), "/usr/bin", "/usr/sbin", "/sbin", "/usr/local/bin"];

/** All executables along the search path whose name matches, each as absolute path, first folder first. */
function executables(name: RegExp): string[] {
  const found: string[] = [];
  for (const folder of new Set(SEARCH)) {
    if (!folder.startsWith("/")) continue;
    let names: string[] = [];
    try {
      names = readdirSync(folder).filter((entry) => name.test(entry));
    } catch {
      continue;
    }
    for (const entry of names) {
      const path = join(folder, entry);
      try {
        accessSync(path, constants.X_OK);
        found.push(path);
      } catch {}
    }
  }
  return found;
}

/**
 * Runs a tool to its end and gives its standard output.
 * @throws Fault TOOL_FAILED with what it printed
 */
export function run(path: string, args: readonly string[], cwd?: string): string {
  const done = spawnSync(path, args, { cwd, encoding: "utf8", maxBuffer: 1 << 28 });
  if (done.status !== 0) {
    const output = done.error ? done.error.message : `${done.stderr}${done.stdout}`.trim();
    throw faults.TOOL_FAILED({
      command: `${path} ${args.join(" ")}`,
      status: done.status ?? done.signal,
      output,
    });
  }
  return done.stdout;
}

function askClang(path: string): Clang | undefined {
  const done = spawnSync(path, ["--version"], { encoding: "utf8" });
  const version = done.stdout?.split("\n")[0] ?? "";
  const major = Number(/clang version (\d+)/.exec(version)?.[1] ?? 0);
  return done.status === 0 && major >= CLANG_MIN ? { path, major, version } : undefined;
}

/**
 * The compiler to use: clang-19 if it is there, else the newest one from 14 up.
 * @throws Fault TOOL_MISSING
 */
export function findClang(): Clang {
  const paths = executables(/^clang(-\d+)?$/);
  const preferred = paths.find((path) => path.endsWith(`/clang-${CLANG_FIRST}`));
  const first = preferred === undefined ? undefined : askClang(preferred);
  if (first) return first;
  const rest = paths.map(askClang).filter((clang) => clang !== undefined);
  const newest = rest.sort((a, b) => b.major - a.major)[0];
  if (newest) return newest;
  throw faults.TOOL_MISSING({
    tool: `clang ${CLANG_MIN} or newer`,
    remedy: "run `npm run setup` as root, or install the package clang",
  });
}

/**
 * llvm-strip of the compiler's release, or any other: the ELF part of the job is the same in all of them.
 * @throws Fault TOOL_MISSING
 */
export function findLlvmStrip(clang: Clang): string {
  const paths = executables(/^llvm-strip(-\d+)?$/);
  const path = paths.find((candidate) => candidate.endsWith(`-${clang.major}`)) ?? paths[0];
  if (path !== undefined) return path;
  throw faults.TOOL_MISSING({
    tool: "llvm-strip",
    remedy: "run `npm run setup` as root, or install the package llvm",
  });
}

/** Ubuntu's /usr/sbin/bpftool is a script that wants the tools of the running kernel; the real ones lie beside it. */
function ubuntuBpftools(): string[] {
  return ["/usr/lib/linux-tools", "/usr/lib"].flatMap((folder) => {
    try {
      return readdirSync(folder)
        .filter((entry) => folder.endsWith("tools") || entry.startsWith("linux-tools-"))
        .map((entry) => join(folder, entry, "bpftool"));
    } catch {
      return [];
    }
  });
}

/**
 * A bpftool that runs on this kernel.
 * @throws Fault TOOL_MISSING
 */
export function findBpftool(): string {
  for (const path of [...executables(/^bpftool$/), ...ubuntuBpftools()]) {
    if (spawnSync(path, ["version"]).status === 0) return path;
  }
  throw faults.TOOL_MISSING({
    tool: "bpftool",
    remedy: "run `npm run setup` as root, or install bpftool (Ubuntu: linux-tools-generic)",
  });
}

/**
 * The host's include folders, taken from the compiler itself: with -target bpf it leaves them out, and asm/types.h
 * lives in one that is named after the machine.
 */
export function systemIncludes(clang: Clang): string[] {
  const done = spawnSync(clang.path, ["-E", "-v", "-x", "c", "/dev/null"], { encoding: "utf8" });
  const text = done.stderr ?? "";
  const list =
    /search starts here:\n([\s\S]*?)End of search list/.exec(text.split("<...>")[1] ?? "")?.[1] ?? "";
  return list
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line.startsWith("/"));
}
