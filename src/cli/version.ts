// SPDX-License-Identifier: Apache-2.0
// `hookline version`: this package, the Node.js that runs it, the kernel.
import { readFileSync } from "node:fs";
import { release } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { type FormatOption, withExamples, withFormat } from "./command.ts";
import { printValue } from "./output.ts";

/** The version in the nearest package.json above this file, which is ours from src/ and from dist/ alike. */
export function packageVersion(): string {
  for (let dir = dirname(fileURLToPath(import.meta.url)); dir !== "/"; dir = dirname(dir)) {
    try {
      const { name, version } = JSON.parse(readFileSync(join(dir, "package.json"), "utf8"));
      if (name === "hookline") return version;
    } catch {
      // Not in this folder.
    }
  }
  return "unknown";
}

export function addVersion(program: Command): void {
  withExamples(withFormat(program.command("version").description("print versions")), [
    ["hookline version", "for people"],
    ["hookline version -o json", "for programs"],
  ]).action(({ output }: FormatOption) =>
    printValue(
      output,
      { hookline: packageVersion(), node: process.versions.node, kernel: release() },
      (v) => `hookline ${v.hookline} (Node.js ${v.node}, Linux ${v.kernel})\n`,
    ),
  );
}
