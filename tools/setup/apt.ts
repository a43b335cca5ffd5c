// SPDX-License-Identifier: Apache-2.0
// Installs missing things with apt-get: picks the first choice of each that the archive has, says each in one line,
// installs all at once, and updates the package lists only if that failed.
import { spawnSync } from "node:child_process";
import type { Need } from "./needs.ts";

/** apt-get and apt-cache; a test has its own. */
export interface Apt {
  exists: boolean;
  /** Those of the names that can be installed. */
  known: (names: readonly string[]) => Set<string>;
  /** Undefined if it went well, else the first line that says why not. */
  install: (names: readonly string[]) => string | undefined;
  update: () => string | undefined;
}

/** What came of it: one line each for the user; `failed` if something that is not optional is missing. */
export interface Outcome {
  lines: string[];
  failed: boolean;
}

function firstError(output: string): string {
  const lines = output.split("\n").map((line) => line.trim());
  const line = lines.find((text) => /^(E|Err|W):?/.test(text)) ?? lines.filter((text) => text !== "").at(-1);
  return line ?? "no output";
}

function aptGet(args: readonly string[]): string | undefined {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C" };
  const done = spawnSync("apt-get", ["-q", "-y", ...args], { encoding: "utf8", env, maxBuffer: 1 << 28 });
  return done.status === 0
    ? undefined
    : firstError(`${done.stderr ?? ""}${done.stdout ?? ""}${done.error?.message ?? ""}`);
}

/** The machine's apt. */
export function thisApt(): Apt {
  return {
    exists: spawnSync("apt-get", ["--version"]).status === 0,
    known: (names) => {
      const done = spawnSync("apt-cache", ["policy", ...names], {
        encoding: "utf8",
        env: { ...process.env, LC_ALL: "C" },
      });
      const known = [
        ...(done.stdout ?? "").matchAll(/^(\S+):\n {2}Installed: .*\n {2}Candidate: (?!\(none\))/gm),
      ];
      return new Set(known.map((match) => match[1] ?? ""));
    },
    install: (names) => aptGet(["install", "--no-install-recommends", ...names]),
    update: () => aptGet(["update", "-o", "Acquire::Retries=1"]),
  };
}

function choose(need: Need, known: ReadonlySet<string>): readonly string[] | undefined {
  return need.packages.find((choice) => choice.every((name) => known.has(name)));
}

function byHand(need: Need): string {
  return need.packages.map((choice) => choice.join(" and ")).join(", or ");
}

/** Installs what is needed. `say` gets a line before the installation starts. */
export function installMissing(needs: readonly Need[], apt: Apt, say: (line: string) => void): Outcome {
  if (needs.length === 0) return { lines: [], failed: false };
  const failed = needs.some((need) => need.optional === undefined);
  if (!apt.exists) {
    const lines = needs.map(
      (need) => `${need.name} is missing and there is no apt-get: install it by hand (${need.why})`,
    );
    return { lines, failed };
  }
  const names = needs.flatMap((need) => need.packages.flat());
  let known = apt.known(names);
  let updated: string | undefined;
  if (needs.some((need) => need.optional === undefined && choose(need, known) === undefined)) {
    updated = apt.update();
    known = apt.known(names);
  }
  const lines: string[] = [];
  const wanted: { need: Need; choice: readonly string[] }[] = [];
  for (const need of needs) {
    const choice = choose(need, known);
    if (choice) wanted.push({ need, choice });
    else if (need.optional !== undefined)
      lines.push(`${need.name} is in no package of this system: ${need.optional}`);
    else if (updated !== undefined)
      lines.push(`${need.name} is missing and apt is unreachable (${updated}): install ${byHand(need)}`);
    else lines.push(`${need.name} is missing and in no package of this system: install ${byHand(need)}`);
  }
  for (const { need, choice } of wanted) say(`installing ${choice.join(", ")} (${need.why})`);
  const reason = installChosen(
    wanted.flatMap(({ choice }) => choice),
    apt,
  );
  if (reason !== undefined) {
    lines.push(
      ...wanted.map(
        ({ need }) => `${need.name} is missing and apt-get failed (${reason}): install ${byHand(need)}`,
      ),
    );
  }
  const missing = reason === undefined ? needs.filter((need) => choose(need, known) === undefined) : needs;
  return { lines, failed: missing.some((need) => need.optional === undefined) };
}

/** Installs; if that fails, the lists may be old: updates them and tries once more. */
function installChosen(names: readonly string[], apt: Apt): string | undefined {
  if (names.length === 0 || apt.install(names) === undefined) return undefined;
  const unreachable = apt.update();
  const reason = apt.install(names);
  return reason === undefined ? undefined : (unreachable ?? reason);
}
