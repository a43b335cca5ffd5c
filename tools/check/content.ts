// SPDX-License-Identifier: Apache-2.0
// What every file must and must not hold: licence line and a word on what the file is for, names, links that lead
// somewhere, no open ends without an issue number, no package registry's address.
import { dirname, join } from "node:path";
import { type Finding, lineAt, type SourceFile } from "./project.ts";

const APACHE = "// SPDX-License-Identifier: Apache-2.0";
const DUAL = "/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */";
const SHELL = "# SPDX-License-Identifier: Apache-2.0";

/** The licence line that a file must have, by its path. */
function licenceOf(path: string): string | undefined {
  if (/^bpf\/.*\.[ch]$/.test(path)) return DUAL;
  if (/\.(ts|mjs|js)$/.test(path)) return APACHE;
  return path.endsWith(".sh") || path === ".ci/run" ? SHELL : undefined;
}

/** First line (second after #!) is the licence; the next one says what the file is for, unless it is a test. */
export function checkHeads(files: readonly SourceFile[]): Finding[] {
  return files.flatMap((file) => {
    const licence = licenceOf(file.path);
    if (licence === undefined) return [];
    const lines = file.text.split("\n", 4);
    if (lines[0]?.startsWith("#!")) lines.shift();
    if (lines[0] !== licence) return [{ where: `${file.path}:1`, what: `the first line must be ${licence}` }];
    if (file.path.endsWith(".test.ts") || /^(\/\/|\/\*|#) ?\S/.test(lines[1] ?? "")) return [];
    return [{ where: `${file.path}:2`, what: "no comment that says what the file is for" }];
  });
}

const VAGUE = /(^|[-_/.])(utils?|helpers?|common|managers?|misc)([-_/.]|$)/;

/** kebab-case in TypeScript, snake_case in bpf/, and no name that says nothing. */
export function checkNames(files: readonly SourceFile[]): Finding[] {
  return files.flatMap((file) => {
    const name = file.path.split("/").at(-1) ?? "";
    const stem = name.replace(/\.[a-z]+$/, "");
    const findings: Finding[] = [];
    if (name.endsWith(".ts") && !/^[a-z0-9]+([-.][a-z0-9]+)*$/.test(stem)) {
      findings.push({ where: file.path, what: "file names are kebab-case" });
    }
    if (/^bpf\/.*\.[ch]$/.test(file.path) && !/^[a-z0-9]+([_.][a-z0-9]+)*$/.test(stem)) {
      findings.push({ where: file.path, what: "file names in bpf/ are snake_case" });
    }
    if (/\.(ts|c|h)$/.test(name) && VAGUE.test(file.path)) {
      findings.push({ where: file.path, what: "the name says nothing: name it after what it holds" });
    }
    return findings;
  });
}

const OPEN_END = new RegExp(
  `\\b(${["TO", "DO"].join("")}|${["FIX", "ME"].join("")})\\b(?!\\s?\\(?#\\d+)`,
  "g",
);
const FORBIDDEN: readonly { pattern: RegExp; what: string; in: RegExp }[] = [
  { pattern: OPEN_END, what: "open end without an issue number", in: /./ },
  { pattern: /\bregistry\.(npmjs|yarnpkg)\.|\bnpmmirror\b/g, what: "address of a package registry", in: /./ },
  {
    pattern: /"resolved":|^\s*registry\s*=/gm,
    what: "address of a package registry",
    in: /^(package-lock\.json|\.npmrc)$/,
  },
  { pattern: /\blocalhost:\d+\/(npm|simple|registry)\b/g, what: "address of a package registry", in: /./ },
];

/** Expressions that no file may hold. */
export function checkForbidden(files: readonly SourceFile[]): Finding[] {
  const readable = files.filter((file) => !file.path.startsWith("LICENSES/"));
  return readable.flatMap((file) =>
    FORBIDDEN.filter((rule) => rule.in.test(file.path)).flatMap((rule) =>
      [...file.text.matchAll(rule.pattern)].map((match) => ({
        where: `${file.path}:${lineAt(file.text, match.index)}`,
        what: rule.what,
      })),
    ),
  );
}

/** Relative links of Markdown files whose target does not exist. `exists` is asked for a path from the root. */
export function checkLinks(files: readonly SourceFile[], exists: (path: string) => boolean): Finding[] {
  const pages = files.filter((file) => file.path.endsWith(".md"));
  return pages.flatMap((page) =>
    [...page.text.matchAll(/\]\(([^)\s]+)\)/g)].flatMap((match) => {
      const target = (match[1] ?? "").split("#")[0] ?? "";
      if (target === "" || /^[a-z]+:/.test(target) || exists(join(dirname(page.path), target))) return [];
      return [{ where: `${page.path}:${lineAt(page.text, match.index)}`, what: `dead link: ${target}` }];
    }),
  );
}
