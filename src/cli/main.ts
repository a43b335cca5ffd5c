// SPDX-License-Identifier: Apache-2.0
// From a command line to an exit status. Texts of errors go to standard error in one line: what went wrong and what to
// do; HOOKLINE_DEBUG=1 adds the stack.
import { CommanderError } from "commander";
import { Fault } from "../base/fault.ts";
import { EXIT } from "./faults.ts";
import { buildProgram } from "./program.ts";

/**
 * `hookline version | head -0`: the reader has gone away, which is its right. As with the signal that Node.js keeps from
 * us, that is the end, unless a command listens for it because it has something to take away first.
 */
function endQuietlyOnClosedPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
      if (!process.emit("SIGPIPE", "SIGPIPE")) process.exit(EXIT.ok);
    });
  }
}

function report(thrown: unknown): number {
  const fault = Fault.from(thrown);
  process.stderr.write(`hookline: ${fault.detail}\n`);
  if (process.env.HOOKLINE_DEBUG) process.stderr.write(`${(thrown as Error)?.stack ?? ""}\n`);
  return fault.exitCode;
}

/**
 * Runs one command. `argv` as process.argv.
 * @returns the exit status, one of EXIT unless a program run by `lab exec` gave its own
 */
export async function main(argv: string[]): Promise<number> {
  endQuietlyOnClosedPipe();
  try {
    // The agent has its own table of options, which it parses itself: no other module is loaded for it.
    if (argv[2] === "agent") {
      const { agentMain } = await import("../api/agent-main.ts");
      return (await agentMain(argv.slice(3))) ?? EXIT.ok;
    }
    await buildProgram().parseAsync(argv);
    return typeof process.exitCode === "number" ? process.exitCode : EXIT.ok;
  } catch (thrown) {
    // Commander has printed its text already; help and --version end with 0.
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? EXIT.ok : EXIT.usage;
    return report(thrown);
  }
}
