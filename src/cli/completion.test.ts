// SPDX-License-Identifier: Apache-2.0
// The completion scripts in the shells that they are for: bash, and zsh and fish where they are installed.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

const HOOKLINE = join(import.meta.dirname, "../bin/hookline.ts");
let dir: string;

before(() => {
  dir = mkdtempSync(join(tmpdir(), "hlt-completion-"));
  const script = `#!/bin/sh\nexec '${process.execPath}' '${HOOKLINE}' "$@"\n`;
  writeFileSync(join(dir, "hookline"), script, { mode: 0o755 });
});
after(() => rmSync(dir, { recursive: true }));

/** What a shell prints, line by line. */
function shell(program: string, args: readonly string[]): string[] {
  const env = { ...process.env, PATH: `${dir}:${process.env.PATH}` };
  const { status, stdout, stderr } = spawnSync(program, args, { env, encoding: "utf8" });
  assert.equal(status, 0, stderr);
  assert.equal(stderr, "");
  return stdout.trim().split("\n");
}

const lines: [words: string, found: string[]][] = [
  ["hookline bpf n", ["nat"]],
  ["hookline completion ", ["bash", "fish", "zsh"]],
  ["hookline status -o ", ["json", "table", "yaml"]],
  ["hookline monitor --typ", ["--type"]],
];
for (const [line, found] of lines) {
  test(`bash completes "${line}"`, () => {
    const words = line.split(" ").map((word) => `'${word}'`);
    const text = `source <(hookline completion bash)
      COMP_WORDS=(${words.join(" ")}); COMP_CWORD=${words.length - 1}
      "$(complete -p hookline | sed -E 's/.*-F ([^ ]+).*/\\1/')"
      printf '%s\\n' "\${COMPREPLY[@]}"`;
    assert.deepEqual(shell("bash", ["--norc", "-c", text]), found);
  });
}

for (const [name, check] of [
  ["zsh", ["-n", "/dev/stdin"]],
  ["fish", ["--no-execute", "/dev/stdin"]],
] as const) {
  const missing = spawnSync(name, ["-c", ""]).error !== undefined;
  test(`${name} can read its script`, { skip: missing && `${name} is not installed` }, () => {
    const script = shell("hookline", ["completion", name]).join("\n");
    const { status, stderr } = spawnSync(name, check, { input: script, encoding: "utf8" });
    assert.equal(status, 0, stderr);
  });
}
