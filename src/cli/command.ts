// SPDX-License-Identifier: Apache-2.0
// What all verbs share on the command line: global options, the output option, examples in the help.
import { type Command, Option } from "commander";
import { FORMATS, type Format } from "./output.ts";

/** Options that stand before or after any verb. */
export interface GlobalOptions {
  runDir?: string;
  lab?: string;
  node?: string;
}

export interface FormatOption {
  output: Format;
}

/** Adds `-o table|json|yaml`. */
export function withFormat(command: Command): Command {
  return command.addOption(
    new Option("-o, --output <format>", "how to print the result").choices(FORMATS).default("table"),
  );
}

/** Adds examples below the help, one `[command line, what it shows]` each. */
export function withExamples(command: Command, examples: [line: string, what: string][]): Command {
  const width = Math.max(...examples.map(([line]) => line.length));
  const lines = examples.map(([line, what]) => `  ${line.padEnd(width)}   # ${what}`);
  return command.addHelpText("after", `\nExamples:\n${lines.join("\n")}`);
}

/** Collects a repeatable option. */
export function collect(value: string, all: string[]): string[] {
  return [...all, value];
}
