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
    update: () => aptGet(["update", "--error-on=any", "-o", "Acquire::Retries=1"]),
  };
}

function choose(need: Need, known: ReadonlySet<string>): readonly string[] | undefined {
  return need.packages.find((choice) => choice.every((name) => known.has(name)));
}

function byHand(need: Need): string {
  return need.packages.map((choice) => choice.join(" and ")).join(", or ");
}

/** Why a need without a choice stays open. `unreachable` is what the update of the lists ran into. */
function refusal(need: Need, unreachable: string | undefined): string {
  if (need.optional !== undefined) return `${need.name} is in no package of this system: ${need.optional}`;
  if (unreachable === undefined)
    return `${need.name} is missing and in no package of this system: install ${byHand(need)}`;
  const why = `${need.name} is missing and apt is unreachable (${unreachable})`;
  return `${why}: make the archive reachable, or install ${byHand(need)} by hand`;
}

/** Installs what is needed. `say` gets a line per thing before the installation starts. */
export function installMissing(needs: readonly Need[], apt: Apt, say: (line: string) => void): Outcome {
  if (needs.length === 0) return { lines: [], failed: false };
  const required = (list: readonly Need[]): boolean => list.some((need) => need.optional === undefined);
  if (!apt.exists) {
    const line = (need: Need): string =>
      `${need.name} is missing and there is no apt-get: install it by hand (${need.why})`;
    return { lines: needs.map(line), failed: required(needs) };
  }
  const names = needs.flatMap((need) => need.packages.flat());
  let known = apt.known(names);
  let unreachable: string | undefined;
  if (required(needs.filter((need) => choose(need, known) === undefined))) {
    unreachable = apt.update();
    known = apt.known(names);
  }
  const open = needs.filter((need) => choose(need, known) === undefined);
  const lines = open.map((need) => refusal(need, unreachable));
  const chosen = needs.map((need) => ({ need, packages: choose(need, known) ?? [] }));
  const wanted = chosen.filter(({ packages }) => packages.length > 0);
  for (const { need, packages } of wanted) say(`installing ${packages.join(", ")} (${need.why})`);
  const reason = installChosen(
    wanted.flatMap(({ packages }) => packages),
    apt,
  );
  if (reason === undefined) return { lines, failed: required(open) };
  for (const { need } of wanted) {
    const why = `${need.name} is missing and apt-get failed (${reason})`;
    lines.push(`${why}: put that right, or install ${byHand(need)} by hand`);
  }
  return { lines, failed: required(needs) };
}

/** Installs; if that fails, the lists may be old: updates them and tries once more. */
function installChosen(names: readonly string[], apt: Apt): string | undefined {
  if (names.length === 0 || apt.install(names) === undefined) return undefined;
  const unreachable = apt.update();
  const reason = apt.install(names);
  return reason === undefined ? undefined : (unreachable ?? reason);
}
