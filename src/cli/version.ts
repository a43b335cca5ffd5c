// SPDX-License-Identifier: Apache-2.0
// `hookline version`: this package, the Node.js that runs it, the kernel.
import { release } from "node:os";
import type { Command } from "commander";
import { type FormatOption, withExamples, withFormat } from "./command.ts";
import { printValue } from "./output.ts";
import { findPackage } from "./package.ts";

export function addVersion(program: Command): void {
  withExamples(withFormat(program.command("version").description("print versions")), [
    ["hookline version", "for people"],
    ["hookline version -o json", "for programs"],
  ]).action(({ output }: FormatOption) =>
    printValue(
      output,
      { hookline: findPackage().version, node: process.versions.node, kernel: release() },
      (v) => `hookline ${v.hookline} (Node.js ${v.node}, Linux ${v.kernel})\n`,
    ),
  );
}
