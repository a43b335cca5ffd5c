// SPDX-License-Identifier: Apache-2.0
// iptables and ipset as installed. iptables comes in two kinds that do not see each other's rules: over nf_tables, and
// the legacy one. Names that the system links to a kind come first, so that ours is the kind that its owner chose.
import { readFileSync } from "node:fs";
import type { Family } from "../base/addr.ts";
import { Fault } from "../base/fault.ts";
import { findProgram, runCommand } from "./command.ts";
import { faults } from "./faults.ts";

export type XtablesKind = "nft" | "legacy";

/** Seconds that a command waits for another one that holds the lock of the tables. */
const WAIT = "5";

const PROGRAM: Readonly<Record<Family, string>> = { 4: "iptables", 6: "ip6tables" };
/** Tables of the legacy kind that this namespace has; asking the program for another one would make it. */
const TABLES: Readonly<Record<Family, string>> = {
  4: "/proc/self/net/ip_tables_names",
  6: "/proc/self/net/ip6_tables_names",
};

/** The programs of one kind. */
export interface Xtables {
  readonly kind: XtablesKind;
  readonly paths: Readonly<Record<Family, { readonly list: string; readonly restore: string }>>;
}

function pathsOf(suffix: string, folders?: readonly string[]): Xtables["paths"] | undefined {
  const of = (family: Family) => {
    const list = findProgram(`${PROGRAM[family]}${suffix}`, folders);
    const restore = findProgram(`${PROGRAM[family]}${suffix}-restore`, folders);
    return list === undefined || restore === undefined ? undefined : { list, restore };
  };
  const [v4, v6] = [of(4), of(6)];
  return v4 === undefined || v6 === undefined ? undefined : { 4: v4, 6: v6 };
}

/** The kinds that are installed, the system's choice first. `folders`: where to look instead of the system's. */
export async function findXtables(folders?: readonly string[]): Promise<Xtables[]> {
  const found = new Map<XtablesKind, Xtables>();
  for (const suffix of ["", "-nft", "-legacy"]) {
    const paths = pathsOf(suffix, folders);
    if (paths === undefined) continue;
    // `iptables v1.8.9 (nf_tables)`; before 1.8 there was one kind, and no word for it.
    const version = await runCommand(paths[4].list, ["--version"]);
    const kind = version.includes("nf_tables") ? "nft" : "legacy";
    if (!found.has(kind)) found.set(kind, { kind, paths });
  }
  return [...found.values()];
}

function hasTable({ kind }: Xtables, family: Family, table: string): boolean {
  if (kind === "nft") return true;
  try {
    return readFileSync(TABLES[family], "latin1").split("\n").includes(table);
  } catch {
    return false;
  }
}

/**
 * Lines of `iptables -t table -S chain`, none if there is no such table; makes none.
 * @throws Fault COMMAND_FAILED, also if there is no such chain
 */
export async function listChain(
  tools: Xtables,
  family: Family,
  { table, chain }: { table: string; chain: string },
): Promise<string[]> {
  if (!hasTable(tools, family, table)) return [];
  const text = await runCommand(tools.paths[family].list, ["-w", WAIT, "-t", table, "-S", chain]);
  return text.split("\n").filter((line) => line !== "");
}

/** Lines of a chain of our own; undefined if there is none. @throws Fault COMMAND_FAILED */
export async function findChain(
  tools: Xtables,
  family: Family,
  at: { table: string; chain: string },
): Promise<string[] | undefined> {
  try {
    const lines = await listChain(tools, family, at);
    return lines.length === 0 ? undefined : lines;
  } catch (thrown) {
    // iptables over nf_tables calls a chain that is not there incompatible. A kernel without nf_tables has no chains.
    if (/No chain\/target\/match|incompatible, use|Failed to initialize nft/.test(String(thrown)))
      return undefined;
    throw thrown;
  }
}

/** Runs a program on input in lines; where it says that a line failed, the fault tells the line. */
async function restore(path: string, args: readonly string[], text: string): Promise<void> {
  try {
    await runCommand(path, args, text);
  } catch (thrown) {
    const { detail } = Fault.from(thrown);
    const line = text.split("\n")[Number(/line:? (\d+)/i.exec(detail)?.[1]) - 1];
    throw line === undefined ? thrown : faults.LINE_REFUSED({ detail, line }, thrown);
  }
}

/** Carries out the input of iptables-restore, each table in one step; rules that it does not name stay. @throws Fault COMMAND_FAILED, LINE_REFUSED */
export async function restoreRules(tools: Xtables, family: Family, text: string): Promise<void> {
  await restore(tools.paths[family].restore, ["-w", WAIT, "--noflush"], text);
}

/** Path of ipset. @throws Fault PROGRAM_MISSING */
export function ipsetPath(folders?: readonly string[]): string {
  const path = findProgram("ipset", folders);
  if (path === undefined) throw faults.PROGRAM_MISSING({ program: "ipset", package: "ipset" });
  return path;
}

/** Carries out the input of `ipset restore`, line by line. @throws Fault COMMAND_FAILED, LINE_REFUSED, PROGRAM_MISSING */
export async function restoreSets(text: string, folders?: readonly string[]): Promise<void> {
  await restore(ipsetPath(folders), ["restore"], text);
}

/** Number of entries of each set of this namespace. @throws Fault COMMAND_FAILED, PROGRAM_MISSING */
export async function countSets(folders?: readonly string[]): Promise<Map<string, number>> {
  const text = await runCommand(ipsetPath(folders), ["list", "-terse"]);
  const counts = new Map<string, number>();
  let name = "";
  for (const line of text.split("\n")) {
    const [label, value = ""] = line.split(": ");
    if (label === "Name") name = value;
    else if (label === "Number of entries") counts.set(name, Number(value));
  }
  return counts;
}

/** Takes away those of these sets that are there, and gives their names. Without ipset there are none. @throws Fault COMMAND_FAILED */
export async function destroySets(names: readonly string[], folders?: readonly string[]): Promise<string[]> {
  if (findProgram("ipset", folders) === undefined) return [];
  const present = await countSets(folders);
  const found = names.filter((name) => present.has(name));
  if (found.length > 0) await restoreSets(found.map((name) => `destroy ${name}\n`).join(""), folders);
  return found;
}
