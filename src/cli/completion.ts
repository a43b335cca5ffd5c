// SPDX-License-Identifier: Apache-2.0
// `hookline completion SHELL` prints a few lines for the shell's start file; they call the hidden `hookline complete`,
// which answers from the very tree of commands that parses command lines, so that nothing has to be kept in step.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { Argument, type Command, type Option } from "commander";
import { DEFAULT_LAB, LABS_DIR, labStateDir } from "../lab/plan.ts";
import { withExamples } from "./command.ts";
import { write } from "./output.ts";

const SCRIPTS: Record<string, string> = {
  bash: `_hookline() {
  local IFS=$'\\n'
  COMPREPLY=($(hookline complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _hookline hookline
`,
  zsh: `#compdef hookline
_hookline() {
  local -a found
  found=("\${(@f)$(hookline complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -a found
}
compdef _hookline hookline
`,
  fish: `complete -c hookline -f -a '(hookline complete -- (commandline -opc)[2..] (commandline -ct))'
`,
};

function folders(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** Values that only the machine knows, by the long name of the option. */
const LIVE_VALUES: Record<string, (words: string[]) => string[]> = {
  "--lab": () => folders(LABS_DIR),
  "--name": () => folders(LABS_DIR),
  "--node": (words) => {
    const at = words.indexOf("--lab");
    return folders(join(labStateDir(at < 0 ? DEFAULT_LAB : (words[at + 1] ?? DEFAULT_LAB)), "nodes"));
  },
};

function visible(command: Command): Command[] {
  return command.createHelp().visibleCommands(command);
}

function optionsOf(command: Command): Option[] {
  const own = command.createHelp().visibleOptions(command);
  return command.parent ? [...own, ...optionsOf(command.parent)] : [...own];
}

function findOption(command: Command, word: string): Option | undefined {
  return optionsOf(command).find((option) => option.long === word || option.short === word);
}

/**
 * What may stand in the place of the last of `words` (which may be empty), the words after the program's name.
 * Sorted, without repetition.
 */
export function complete(program: Command, words: string[]): string[] {
  const typed = words.at(-1) ?? "";
  const before = words.slice(0, -1);
  let command = program;
  let position = 0;
  for (let i = 0; i < before.length; i++) {
    const word = before[i] ?? "";
    if (word === "--") return [];
    if (word.startsWith("-")) {
      const option = findOption(command, word);
      if (option?.required && i + 1 < before.length) i++;
      continue;
    }
    const next = visible(command).find((c) => c.name() === word || c.aliases().includes(word));
    if (next) command = next;
    else position++;
  }
  const option = before.at(-1)?.startsWith("-") ? findOption(command, before.at(-1) ?? "") : undefined;
  const found = option?.required
    ? (option.argChoices ?? LIVE_VALUES[option.long ?? ""]?.(before) ?? [])
    : typed.startsWith("-")
      ? optionsOf(command).flatMap((o) => o.long ?? o.short ?? [])
      : [
          ...visible(command).map((c) => c.name()),
          ...(command.registeredArguments[position]?.argChoices ?? []),
        ];
  return [...new Set(found)].filter((word) => word.startsWith(typed)).sort();
}

export function addCompletion(program: Command): void {
  withExamples(
    program
      .command("completion")
      .description("print a shell's completion script")
      .addArgument(new Argument("<shell>", "whose script").choices(Object.keys(SCRIPTS))),
    [
      ["source <(hookline completion bash)", "for this bash"],
      ["hookline completion fish > ~/.config/fish/completions/hookline.fish", "for every fish"],
    ],
  ).action((shell: string) => write(SCRIPTS[shell] ?? ""));

  program
    .command("complete", { hidden: true })
    .argument("[words...]")
    .action((words: string[]) =>
      write(
        complete(program, words)
          .map((word) => `${word}\n`)
          .join(""),
      ),
    );
}
