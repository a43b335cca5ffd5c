// SPDX-License-Identifier: Apache-2.0
// `npm run gen`: writes src/maps/gen/ and docs/reference/ from the object's BTF and, for docs, from the tables of the
// agent and the CLI. What it writes is committed; `npm run check` generates again and compares.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { buildBpf, ROOT } from "./build-bpf.ts";
import { readAbi } from "./gen/abi.ts";
import { readBtf } from "./gen/btf.ts";
import { abiPages } from "./gen/emit-docs.ts";
import { sources } from "./gen/emit-source.ts";

/**
 * What comes from the object, by path from the root of the project.
 * @throws Fault ABI_REFUSED, ABI_INCOMPLETE, TOOL_MISSING, TOOL_FAILED
 */
function generateAbi(root: string): Map<string, string> {
  const abi = readAbi(readBtf(buildBpf(root).object));
  return new Map([...sources(abi), ...abiPages(abi)]);
}

/** What comes from the tables in src/. Imported only now: they lean on generated code, which may be missing. */
async function generateReference(): Promise<Map<string, string>> {
  const { referencePages } = await import("./gen/emit-reference.ts");
  return referencePages();
}

/**
 * All generated files by path from the root of the project.
 * @throws as generateAbi, and what stops src/ from being imported
 */
export async function generate(root = ROOT): Promise<Map<string, string>> {
  return new Map([...generateAbi(root), ...(await generateReference())]);
}

/** Paths whose file is missing or differs from what is generated. */
export function stale(files: ReadonlyMap<string, string>, root = ROOT): string[] {
  const same = (path: string, text: string): boolean =>
    existsSync(join(root, path)) && readFileSync(join(root, path), "utf8") === text;
  return [...files].filter(([path, text]) => !same(path, text)).map(([path]) => path);
}

function writeStale(files: ReadonlyMap<string, string>): void {
  for (const path of stale(files)) {
    mkdirSync(dirname(join(ROOT, path)), { recursive: true });
    writeFileSync(join(ROOT, path), files.get(path) ?? "");
    console.log(path);
  }
}

if (import.meta.main) {
  try {
    writeStale(generateAbi(ROOT));
    writeStale(await generateReference());
  } catch (thrown) {
    console.error(thrown instanceof Error ? thrown.message : thrown);
    process.exitCode = 1;
  }
}
