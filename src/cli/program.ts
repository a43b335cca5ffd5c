// SPDX-License-Identifier: Apache-2.0
// The tree of commands. Each verb adds itself; what it needs to run is imported when it runs, so that `hookline version`
// does not pay for the lab.
import { Command } from "commander";
import { addBpf } from "./bpf.ts";
import { addCleanup } from "./cleanup.ts";
import { addCompletion } from "./completion.ts";
import { addConfig } from "./config.ts";
import { addEndpoint } from "./endpoint.ts";
import { faults } from "./faults.ts";
import { addLab } from "./lab.ts";
import { addMetrics } from "./metrics.ts";
import { addMonitor } from "./monitor.ts";
import { addNode } from "./node.ts";
import { addStatus } from "./status.ts";
import { addVersion } from "./version.ts";

/** Wrong command lines throw instead of ending the process, so that main decides the exit status. */
function throwOnMisuse(command: Command): void {
  command.exitOverride();
  command.showHelpAfterError("(add --help for usage and examples)");
  for (const child of command.commands) throwOnMisuse(child);
}

/** A fresh tree; parsing changes it, so one per command line. */
export function buildProgram(): Command {
  const program = new Command("hookline")
    .description("eBPF networking for Kubernetes and plain Linux hosts")
    .option("--run-dir <dir>", "run directory of the agent (HOOKLINE_RUN_DIR; default /run/hookline)")
    .option("--lab <name>", 'lab of --node (default "lab")')
    .option("--node <name>", "the agent of this node of the lab")
    .addHelpText(
      "after",
      "\nExit status: 0 done, 1 error, 2 wrong command line, 3 not running or unreachable.",
    );
  addStatus(program);
  addEndpoint(program);
  addNode(program);
  addConfig(program);
  addMonitor(program);
  addMetrics(program);
  addBpf(program);
  addLab(program);
  addCleanup(program);
  program
    .command("agent")
    .description("run the agent of this node (hookline agent --help lists its options)")
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
    // main.ts runs the agent; here ends a command line that puts options of other commands before the word.
    .action(() => {
      throw faults.USAGE({ why: "options of the agent stand behind the word: hookline agent --run-dir DIR" });
    });
  addVersion(program);
  addCompletion(program);
  throwOnMisuse(program);
  return program;
}
