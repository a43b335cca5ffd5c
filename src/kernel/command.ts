// SPDX-License-Identifier: Apache-2.0
// Programs of the distribution, run to their end: standard input given whole, output taken whole. For what the kernel
// offers through no other stable interface (iptables, ipset). A program inherits the namespace of this process.
import { execFile } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { faults } from "./faults.ts";

/** Where programs of the system lie; PATH of a service often lacks the sbin folders. */
const FOLDERS = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

const TIMEOUT_MS = 20_000;
const MAX_OUTPUT = 64 << 20;

/** Path of a program, undefined if it is not installed. `folders`: where to look instead of the system's. */
export function findProgram(name: string, folders: readonly string[] = FOLDERS): string | undefined {
  return folders
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/**
 * Runs a program and gives its standard output.
 * @throws Fault COMMAND_FAILED with what it wrote to standard error, also if it cannot be started or does not end in 20 s
 */
export function runCommand(path: string, args: readonly string[], input = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = {
      timeout: TIMEOUT_MS,
      killSignal: "SIGKILL",
      maxBuffer: MAX_OUTPUT,
      // What is read back must not depend on the user's language.
      env: { PATH: FOLDERS.join(":"), LC_ALL: "C" },
    } as const;
    const child = execFile(path, args, options, (error, stdout, stderr) => {
      if (error === null) {
        resolve(stdout);
        return;
      }
      const said = stderr.trim().split("\n").filter(Boolean).join("; ");
      const why = error.killed ? `no end within ${TIMEOUT_MS / 1000} s` : said || error.message;
      reject(faults.COMMAND_FAILED({ command: [path, ...args].join(" "), why }, error));
    });
    // A program that ends before it has read its input closes the pipe; its exit status tells why.
    child.stdin?.on("error", () => undefined).end(input);
  });
}
