// SPDX-License-Identifier: Apache-2.0
// The files that the checks look at, read once: a walk of the working tree (no version control needed) without what
// is ignored, and the parsed form of TypeScript. The parser is oxc-parser: TypeScript 7 offers no API, biome has rules
// for function sizes but prints no figures, and one parse serves imports, cycles, budgets and forbidden expressions.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type EcmaScriptModule, parseSync } from "oxc-parser";
import { faults } from "../faults.ts";

/** A text file. */
export interface SourceFile {
  /** From the root of the project, with slashes. */
  path: string;
  text: string;
}

/** A node of the syntax tree, ESTree with TypeScript's additions. */
export interface SyntaxNode {
  type: string;
  start: number;
  end: number;
  [key: string]: unknown;
}

/** A parsed TypeScript file. */
export interface Module extends SourceFile {
  imports: EcmaScriptModule;
  program: SyntaxNode;
}

/** What one check found. */
export interface Finding {
  /** `path` or `path:line`. */
  where: string;
  what: string;
}

const IGNORED = new Set([".git", "node_modules", "build", "dist"]);
const TEXT = /(\.(ts|mjs|js|c|h|json|md|sh|ya?ml|txt|tape|service)|^\.npmrc|^\.gitignore|\/run)$/;

/** Reads all text files below the root. */
export function readProject(root: string): SourceFile[] {
  const files: SourceFile[] = [];
  const walk = (folder: string): void => {
    for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
      if (IGNORED.has(entry.name)) continue;
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
      if (entry.isDirectory()) walk(path);
      else if (entry.isFile() && TEXT.test(path))
        files.push({ path, text: readFileSync(join(root, path), "utf8") });
    }
  };
  walk("");
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Whether a file is written by `npm run gen`. */
export function isGenerated(path: string): boolean {
  return path.startsWith("src/maps/gen/") || path.startsWith("docs/reference/");
}

/**
 * Parses the TypeScript files among `files`.
 * @throws Fault SYNTAX
 */
export function parseModules(files: readonly SourceFile[]): Module[] {
  const sources = files.filter((file) => /\.m?ts$/.test(file.path));
  return sources.map((file) => {
    const parsed = parseSync(file.path, file.text);
    const error = parsed.errors[0];
    if (error) throw faults.SYNTAX({ path: file.path, message: error.message });
    return { ...file, imports: parsed.module, program: parsed.program as unknown as SyntaxNode };
  });
}

/** Line number of an offset, from 1. */
export function lineAt(text: string, offset: number): number {
  let line = 1;
  for (let at = text.indexOf("\n"); at >= 0 && at < offset; at = text.indexOf("\n", at + 1)) line++;
  return line;
}

/** Calls `visit` for each node below and including `node`, parents first. */
export function visitNodes(
  node: SyntaxNode,
  visit: (node: SyntaxNode, parent: SyntaxNode | undefined) => void,
  parent?: SyntaxNode,
): void {
  visit(node, parent);
  for (const value of Object.values(node)) {
    for (const child of Array.isArray(value) ? value : [value]) {
      if (child !== null && typeof child === "object" && typeof (child as SyntaxNode).type === "string") {
        visitNodes(child as SyntaxNode, visit, node);
      }
    }
  }
}
