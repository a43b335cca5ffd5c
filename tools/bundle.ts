// SPDX-License-Identifier: Apache-2.0
// Bundles what starts as a process of its own: dist/hookline.mjs (command and agent) and dist/hookline-cni.cjs (the
// CNI plugin, started by a container runtime once per call: one CommonJS file starts in half the time of many ESM
// ones). koffi stays outside: it finds its native part beside itself. The command is split where it imports lazily: as
// one file of 6 MB, three quarters of the start of a short command went into compiling what it never calls.
import { createHash } from "node:crypto";
import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { type BuildOptions, build, type Metafile } from "esbuild";
import { ROOT } from "./build-bpf.ts";
import { faults } from "./faults.ts";

/** One output file. */
interface Bundle {
  entry: string;
  out: string;
  format: "esm" | "cjs";
}

/** Bundles of the package; an entry that is not there yet is left out. */
const BUNDLES: readonly Bundle[] = [
  { entry: "src/bin/cni.ts", out: "dist/hookline-cni.cjs", format: "cjs" },
  { entry: "src/bin/hookline.ts", out: "dist/hookline.mjs", format: "esm" },
];

/** Dependencies in CommonJS call require() for modules of Node, which ESM does not have. */
const REQUIRE =
  'import { createRequire as bundleCreateRequire } from "node:module"; const require = bundleCreateRequire(import.meta.url);';

const SHEBANG = "#!/usr/bin/env node";

function optionsFor(bundle: Bundle, root: string): BuildOptions {
  return {
    absWorkingDir: root,
    entryPoints: [bundle.entry],
    ...(bundle.format === "esm"
      ? { outdir: dirname(bundle.out), outExtension: { ".js": ".mjs" }, splitting: true }
      : { outfile: bundle.out }),
    bundle: true,
    platform: "node",
    target: "node20",
    format: bundle.format,
    external: ["koffi"],
    ...(bundle.format === "esm" ? { banner: { js: REQUIRE } } : {}),
    legalComments: "none",
    logLevel: "silent",
    metafile: true,
  };
}

interface Stamp {
  inputs: string[];
  hash: string;
}

/** Hash of the contents of all inputs, of this recipe and of the lock file. */
function hashOf(inputs: readonly string[], root: string): string {
  const hash = createHash("sha256");
  for (const path of [...inputs, "tools/bundle.ts", "package-lock.json"]) {
    hash.update(`\0${path}\0`).update(existsSync(join(root, path)) ? readFileSync(join(root, path)) : "");
  }
  return hash.digest("hex");
}

function isCurrent(bundle: Bundle, root: string): boolean {
  const stampFile = join(root, `${bundle.out}.key`);
  if (!existsSync(stampFile) || !existsSync(join(root, bundle.out))) return false;
  const stamp = JSON.parse(readFileSync(stampFile, "utf8")) as Stamp;
  return stamp.hash === hashOf(stamp.inputs, root);
}

/** A dynamic import of a file that is not there is not even a warning inside `try`, and would fail when it is used. */
function refuseUnresolved(bundle: Bundle, metafile: Metafile | undefined, root: string): void {
  for (const [path, input] of Object.entries(metafile?.inputs ?? {})) {
    const lost = input.imports.find((one) => one.external === true && one.path.startsWith("."));
    if (!lost) continue;
    rmSync(join(root, bundle.out), { force: true });
    throw faults.BUNDLE({ entry: bundle.entry, why: `${path} imports ${lost.path}, which does not exist` });
  }
}

/**
 * esbuild gives a lazily imported CommonJS package its default export only, unlike Node. A file of ours that imports it
 * statically, and is itself imported lazily, works in both.
 */
function refuseLazyCommonJs(bundle: Bundle, metafile: Metafile | undefined): void {
  const inputs = metafile?.inputs ?? {};
  for (const [path, input] of Object.entries(inputs)) {
    const lost = input.imports.find(
      (one) => one.kind === "dynamic-import" && inputs[one.path]?.format === "cjs",
    );
    if (!lost) continue;
    const why = `${path} imports the CommonJS file ${lost.path} lazily; do it through a file that imports it statically`;
    throw faults.BUNDLE({ entry: bundle.entry, why });
  }
}

/** Takes away the parts of earlier builds; a command that still runs has loaded its own. */
function removeOldParts(bundle: Bundle, metafile: Metafile | undefined, root: string): void {
  if (bundle.format !== "esm") return;
  const folder = join(root, dirname(bundle.out));
  const current = new Set(Object.keys(metafile?.outputs ?? {}).map((path) => basename(path)));
  for (const name of readdirSync(folder)) {
    if (name.endsWith(".mjs") && !current.has(name)) rmSync(join(folder, name));
  }
}

/**
 * Escapes what is not ASCII. esbuild does so but for comments; one such character and V8 keeps the whole file in two bytes
 * a character, for as long as the process lives.
 */
function escapeComments(metafile: Metafile | undefined, root: string): void {
  for (const path of Object.keys(metafile?.outputs ?? {})) {
    const text = readFileSync(join(root, path), "utf8");
    const ascii = text.replace(
      /[\u0080-\uffff]/g,
      (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );
    if (ascii !== text) writeFileSync(join(root, path), ascii);
  }
}

/**
 * Writes the bundles whose inputs have changed.
 * @returns paths of those written
 * @throws what esbuild found wrong, as an Error
 */
export async function bundleAll(root = ROOT): Promise<string[]> {
  const written: string[] = [];
  for (const bundle of BUNDLES) {
    if (!existsSync(join(root, bundle.entry)) || isCurrent(bundle, root)) continue;
    const result = await build(optionsFor(bundle, root));
    refuseUnresolved(bundle, result.metafile, root);
    refuseLazyCommonJs(bundle, result.metafile);
    removeOldParts(bundle, result.metafile, root);
    escapeComments(result.metafile, root);
    const out = join(root, bundle.out);
    const text = readFileSync(out, "utf8");
    if (!text.startsWith("#!")) writeFileSync(out, `${SHEBANG}\n${text}`);
    chmodSync(out, 0o755);
    const inputs = Object.keys(result.metafile?.inputs ?? {}).sort();
    writeFileSync(
      join(root, `${bundle.out}.key`),
      JSON.stringify({ inputs, hash: hashOf(inputs, root) } satisfies Stamp),
    );
    written.push(bundle.out);
  }
  return written;
}
