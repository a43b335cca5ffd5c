// SPDX-License-Identifier: Apache-2.0
// Puts the plugin where container runtimes look: an executable in the plugin folder and a network configuration that
// sorts first in the configuration folder. Both appear whole or not at all. For the agent, the lab and tests.
import { chmodSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CNI_VERSIONS } from "./cni-protocol.ts";

/** Name of the executable, and of the network unless told otherwise. */
export const CNI_PLUGIN = "hookline";
/** Runtimes take the first file of the folder in the order of names. */
export const CNI_CONFLIST = "05-hookline.conflist";

/** Where the plugin goes and what it runs. All paths absolute. */
export interface CniInstallation {
  readonly binDir: string;
  readonly confDir: string;
  /** File name in confDir; CNI_CONFLIST unless told otherwise. */
  readonly confName?: string;
  /** The agent's run directory: socket and queue of deletes. */
  readonly runDir: string;
  /** Node.js 20 or later. */
  readonly nodePath: string;
  /** The bundled plugin, dist/hookline-cni.cjs. */
  readonly bundlePath: string;
  readonly network?: string;
  readonly logFile?: string;
}

function writeWhole(path: string, text: string, mode: number): void {
  const draft = `${path}.${process.pid}.draft`;
  try {
    writeFileSync(draft, text);
    chmodSync(draft, mode);
    renameSync(draft, path);
  } catch (thrown) {
    rmSync(draft, { force: true });
    throw thrown;
  }
}

function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * The network configuration list. `cniVersion` is what runtimes use that do not know `cniVersions`: those of the
 * time of Debian 12 refuse a list in 1.1.0; the others take the highest that both sides know.
 */
export function conflist({
  runDir,
  network,
  logFile,
}: Pick<CniInstallation, "runDir" | "network" | "logFile">): string {
  const plugin = { type: CNI_PLUGIN, runDir, ...(logFile === undefined ? {} : { logFile }) };
  const list = {
    cniVersion: "1.0.0",
    cniVersions: CNI_VERSIONS,
    name: network ?? CNI_PLUGIN,
    plugins: [plugin],
  };
  return `${JSON.stringify(list, null, 2)}\n`;
}

/**
 * Writes both files; folders are made if absent, files of an earlier version are replaced.
 * @returns the paths written
 * @throws the errors of node:fs
 */
export function installCni(installation: CniInstallation): { plugin: string; conflist: string } {
  const { binDir, confDir, confName, nodePath, bundlePath } = installation;
  const paths = { plugin: join(binDir, CNI_PLUGIN), conflist: join(confDir, confName ?? CNI_CONFLIST) };
  mkdirSync(binDir, { recursive: true });
  mkdirSync(confDir, { recursive: true });
  // Not a "#!node" line: it would take no path over 255 bytes, and Node would guess the module type of such a file.
  const script = `#!/bin/sh\nunset NODE_OPTIONS\nexec ${shellQuoted(nodePath)} ${shellQuoted(bundlePath)}\n`;
  writeWhole(paths.plugin, script, 0o755);
  writeWhole(paths.conflist, conflist(installation), 0o644);
  return paths;
}
