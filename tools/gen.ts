// SPDX-License-Identifier: Apache-2.0
// `npm run gen`: writes src/maps/gen/ and docs/reference/ from the object's BTF and, for docs, from the tables of the
// agent and the CLI. What it writes is committed; `npm run check` generates again and compares.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { buildBpf, ROOT } from "./build-bpf.ts";
import { type Abi, readAbi } from "./gen/abi.ts";
import { readBtf } from "./gen/btf.ts";
import { abiPages } from "./gen/emit-docs.ts";
import { sources } from "./gen/emit-source.ts";

/**
 * What comes from the object.
 * @throws Fault ABI_REFUSED, ABI_INCOMPLETE, TOOL_MISSING, TOOL_FAILED
 */
function objectAbi(root: string): Abi {
  return readAbi(readBtf(buildBpf(root).object));
}

function fromObject(abi: Abi): Map<string, string> {
  return new Map([...sources(abi), ...abiPages(abi)]);
}

/** What comes from the tables in src/. Imported only now: they lean on generated code, which may be missing. */
async function fromSources(abi: Abi): Promise<Map<string, string>> {
  const { referencePages } = await import("./gen/emit-reference.ts");
  return referencePages(abi);
}

/**
 * All generated files by path from the root of the project.
 * @throws as objectAbi, and what stops src/ from being imported
 */
export async function generate(root = ROOT): Promise<Map<string, string>> {
  const abi = objectAbi(root);
  return new Map([...fromObject(abi), ...(await fromSources(abi))]);
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
    const abi = objectAbi(ROOT);
    writeStale(fromObject(abi));
    writeStale(await fromSources(abi));
  } catch (thrown) {
    console.error(thrown instanceof Error ? thrown.message : thrown);
    process.exitCode = 1;
  }
}
