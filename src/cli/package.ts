// SPDX-License-Identifier: Apache-2.0
// Where this package lies, from src/ and from dist/ alike, and how to start the command line again.
import { readFileSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The package's folder and version. @throws Error if the files have been torn apart */
export function findPackage(): { root: string; version: string } {
  for (let dir = dirname(fileURLToPath(import.meta.url)); ; dir = dirname(dir)) {
    try {
      const { name, version } = JSON.parse(readFileSync(join(dir, "package.json"), "utf8"));
      if (name === "hookline") return { root: dir, version };
    } catch {
      // Not in this folder.
    }
    if (dir === "/") throw new Error("the package.json of hookline is not above its program");
  }
}

/** Command that runs this very `hookline`. */
export function ownCommand(): string[] {
  return [process.execPath, realpathSync(process.argv[1] ?? "")];
}
