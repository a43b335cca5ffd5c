// SPDX-License-Identifier: Apache-2.0
// `hookline cleanup`: for who takes Hookline off a host. An agent's end leaves everything in force, on purpose.
import type { Command } from "commander";
import { type GlobalOptions, withExamples } from "./command.ts";
import { EXIT, faults } from "./faults.ts";
import { confirm } from "./flush.ts";
import { write } from "./output.ts";
import { bpfRootOf, resolveTarget } from "./target.ts";

interface CleanupOptions extends GlobalOptions {
  readonly force?: boolean;
}

export function addCleanup(program: Command): void {
  withExamples(
    program
      .command("cleanup")
      .description("take away what an agent that has ended left in this host's kernel")
      .option("-f, --force", "do not ask"),
    [
      ["hookline cleanup", "programs, maps, iptables rules and sets, routes to other nodes' pods"],
      ["hookline cleanup --force", "without a question, for scripts"],
    ],
  ).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<CleanupOptions>();
    // A node of a lab is another namespace than the one that this process is in.
    if (options.node !== undefined || options.lab !== undefined)
      throw faults.USAGE({ why: "a lab is taken away by hookline lab down" });
    const target = resolveTarget(options);
    if (!options.force && !(await confirm("This cuts the pods of this host off."))) return;
    const { cleanUp } = await import("../agent/cleanup.ts");
    const done = await cleanUp(target.runDir, bpfRootOf(target));
    const devices = done.devices.length === 0 ? "no device" : done.devices.join(", ");
    await write(
      `programs taken off ${devices}; ${done.pins} pins and ${done.routes} routes removed; ${
        done.netfilter === undefined
          ? "no rules or sets of ours are left in netfilter"
          : `rules or sets may be left in netfilter: ${done.netfilter.detail}`
      }\n`,
    );
    if (done.netfilter !== undefined) process.exitCode = EXIT.error;
  });
}
