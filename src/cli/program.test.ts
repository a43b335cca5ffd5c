// SPDX-License-Identifier: Apache-2.0
// The tree of commands: every verb has help with examples, completion follows the tree, targets are found as documented.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Command } from "commander";
import { complete } from "./completion.ts";
import { buildProgram } from "./program.ts";
import { bpfRootOf, resolveTarget } from "./target.ts";

/** Commands that do something themselves, without the hidden ones. */
function verbs(command: Command): Command[] {
  const children = command
    .createHelp()
    .visibleCommands(command)
    .filter((c) => c.name() !== "help");
  return children.length === 0 ? [command] : children.flatMap(verbs);
}

function helpOf(command: Command): string {
  let text = "";
  command.configureOutput({
    writeOut: (part) => {
      text += part;
    },
  });
  command.outputHelp();
  return text;
}

for (const verb of verbs(buildProgram())) {
  if (verb.name() === "agent") continue;
  const path = [verb.parent?.parent?.name(), verb.parent?.name(), verb.name()].join(" ").trim();
  test(`${path} --help shows examples that it understands`, () => {
    const examples = /Examples:\n([\s\S]+)$/.exec(helpOf(verb))?.[1] ?? "";
    assert.notEqual(examples, "", "no examples");
    for (const line of examples.trimEnd().split("\n")) {
      const words = /hookline (.*?) +#/.exec(line)?.[1]?.split(" ") ?? [];
      assert.ok(words.includes(verb.name()) || words.some((w) => verb.parent?.aliases().includes(w)), line);
    }
  });
}

test("verbs that list have the three formats", () => {
  for (const verb of verbs(buildProgram())) {
    if (!["list", "view", "get", "status", "version", "monitor"].includes(verb.name())) continue;
    const output = verb.options.find((option) => option.long === "--output");
    assert.deepEqual(output?.argChoices, ["table", "json", "yaml"], verb.name());
  }
});

const completions: [words: string[], found: string[]][] = [
  [["bp"], ["bpf"]],
  [
    ["bpf", ""],
    ["endpoint", "flow", "frag", "help", "ipmasq", "map", "metrics", "nat"],
  ],
  [["bpf", "ct", "l"], ["list"]],
  [
    ["bpf", "nat", "list", "-o", ""],
    ["json", "table", "yaml"],
  ],
  [["bpf", "nat", "list", "--outp"], ["--output"]],
  [["--run-dir", "status", "sta"], ["status"]],
  [["monitor", "--type", "d"], ["drop"]],
  [
    ["completion", ""],
    ["bash", "fish", "zsh"],
  ],
  [["lab", "exec", "node1", "--", ""], []],
  [["lab", "su"], []],
];
for (const [words, found] of completions) {
  test(`completion of "${words.join(" ")}"`, () => {
    assert.deepEqual(complete(buildProgram(), words), found);
  });
}

test("options before the word agent are refused with where they belong", async () => {
  await assert.rejects(
    buildProgram().parseAsync(["node", "hookline", "--run-dir", "/run/x", "agent", "--enable-ipv6=false"]),
    { code: "USAGE", message: /behind the word: hookline agent --run-dir/ },
  );
});

test("targets: --run-dir before --node before the environment before the default", (t) => {
  const runDir = mkdtempSync(join(tmpdir(), "hookline-target-"));
  t.after(() => rmSync(runDir, { recursive: true }));
  assert.equal(resolveTarget({ runDir, node: "node1" }, {}).runDir, runDir);
  assert.equal(resolveTarget({}, { HOOKLINE_RUN_DIR: runDir }).socket, join(runDir, "agent.sock"));
  const path = "/run/hookline/labs/nolab/nodes/node1/run";
  assert.throws(() => resolveTarget({ lab: "nolab", node: "node1" }, {}), {
    code: "NO_RUN_DIR",
    context: { path },
  });
  assert.throws(() => resolveTarget({ lab: "nolab" }, {}), { code: "USAGE" });
  assert.throws(() => resolveTarget({ node: "../.." }, {}), { code: "NO_SUCH" });
});

test("the pins are where agent.json says, also when it is cut short", (t) => {
  const runDir = mkdtempSync(join(tmpdir(), "hookline-target-"));
  t.after(() => rmSync(runDir, { recursive: true }));
  const target = resolveTarget({ runDir }, {});
  assert.equal(bpfRootOf(target), "/sys/fs/bpf/hookline");
  writeFileSync(join(runDir, "agent.json"), '{"bpfRoot": "/x"');
  assert.equal(bpfRootOf(target), "/sys/fs/bpf/hookline");
  writeFileSync(join(runDir, "agent.json"), '{"bpfRoot": "/x"}');
  assert.equal(bpfRootOf(target), "/x");
});
