// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Budget, checkBudgets, measureC } from "./budgets.ts";
import { checkForbidden, checkHeads, checkLinks, checkNames } from "./content.ts";
import { checkCycles, checkLayers, checkOnly, type Layers } from "./imports.ts";
import { type Finding, type Module, parseModules } from "./project.ts";

const LAYERS: Layers = {
  layers: ["base", "kernel", "engine", "cli"],
  engine: ["endpoint", "policy"],
  only: [
    { what: "import koffi", in: ["src/kernel/ffi.ts"], why: "one" },
    { what: "process.env", in: ["src/cli/"], why: "two" },
  ],
};

function modules(sources: Record<string, string>): Module[] {
  return parseModules(Object.entries(sources).map(([path, text]) => ({ path, text })));
}

const where = (findings: readonly Finding[]): string[] => findings.map((finding) => finding.where);

describe("imports", () => {
  test("go down, also those of types", () => {
    const found = checkLayers(
      modules({
        "src/base/a.ts": 'import { b } from "./b.ts";\nimport type { K } from "../kernel/k.ts";',
        "src/kernel/k.ts": 'import { a } from "../base/a.ts";\nexport * from "../cli/c.ts";',
        "src/cli/c.ts": 'const x = await import("../engine/policy/p.ts");\nimport "../../test/support/t.ts";',
        "src/new/n.ts": 'import "../base/a.ts";',
        "test/t.ts": 'import "../src/cli/c.ts";',
      }),
      LAYERS,
    );
    assert.deepEqual(where(found), [
      "src/base/a.ts:2",
      "src/kernel/k.ts:2",
      "src/cli/c.ts:2",
      "src/new/n.ts:1",
    ]);
  });

  test("follow the order inside engine/", () => {
    const found = checkLayers(
      modules({
        "src/engine/endpoint/a.ts": 'import "../policy/p.ts";\nimport "../faults.ts";',
        "src/engine/policy/p.ts": 'import "../endpoint/a.ts";\nimport "./q.ts";',
        "src/engine/faults.ts": 'import "./endpoint/a.ts";',
      }),
      LAYERS,
    );
    assert.deepEqual(where(found), ["src/engine/endpoint/a.ts:1", "src/engine/faults.ts:1"]);
  });

  test("what is only for some files", () => {
    const found = checkOnly(
      modules({
        "src/kernel/ffi.ts": 'import koffi from "koffi";',
        "src/kernel/other.ts": 'import koffi from "koffi";\nconst home = process.env.HOME;',
        "src/kernel/late.ts": 'const koffi = await import("koffi");',
        "src/kernel/sly.ts": 'const home = process["env"];',
        "src/cli/c.ts": "const home = process.env.HOME; const x = { env: 1 }.env;",
      }),
      LAYERS,
    );
    const expected = [
      "src/kernel/other.ts:1",
      "src/kernel/late.ts:1",
      "src/kernel/other.ts:2",
      "src/kernel/sly.ts:1",
    ];
    assert.deepEqual(where(found), expected);
  });

  test("cycles count only imports that load", () => {
    const cycle = {
      "src/base/a.ts": 'import { b } from "./b.ts";',
      "src/base/b.ts": 'import { c } from "./c.ts";',
    };
    assert.deepEqual(
      checkCycles(modules({ ...cycle, "src/base/c.ts": 'import type { A } from "./a.ts";' })),
      [],
    );
    const real = checkCycles(modules({ ...cycle, "src/base/c.ts": 'import { type A } from "./a.ts";' }));
    assert.deepEqual(real[0]?.what, "import cycle: src/base/a.ts src/base/b.ts src/base/c.ts");
    assert.equal(real.length, 1);
  });
});

describe("budgets", () => {
  const limits = { file: 10, function: 3, parameters: 2 };
  const budget: Budget = { typescript: limits, bpf: limits, runtimeDependencies: 1, exceptions: [] };
  const long = "class C {\n  method(a: number, b: number, c: number) {\n    return a;\n\n  }\n}\n";

  function found(
    source: string,
    exceptions: Budget["exceptions"] = [],
    dependencies: string[] = [],
  ): string[] {
    const list = modules({ "src/base/a.ts": source });
    return checkBudgets(list, list, { ...budget, exceptions }, dependencies).findings.map(
      (one) => `${one.where}: ${one.what}`,
    );
  }

  test("lines and parameters", () => {
    assert.deepEqual(found(long), [
      "src/base/a.ts:2: method 4 lines of function, 3 are allowed",
      "src/base/a.ts:2: method 3 parameters, 2 are allowed",
    ]);
    assert.deepEqual(found("\n".repeat(11)), ["src/base/a.ts:1: 11 lines of file, 10 are allowed"]);
    assert.deepEqual(found("const f = function (this: object, a: number, b: number) {};"), []);
  });

  test("a suite of tests is measured test by test", () => {
    const suite = (name: string) => `${name}("all", () => {\n  test("one", () => {\n  });\n\n});\n`;
    assert.deepEqual(found(suite("describe")), []);
    assert.equal(found(suite("test")).length, 1);
  });

  test("exceptions need a reason and a need", () => {
    const row = { path: "src/base/a.ts", name: "method", reason: "because" };
    const rows = [
      { ...row, what: "function" as const, limit: 4 },
      { ...row, what: "parameters" as const, limit: 3 },
    ];
    assert.deepEqual(found(long, rows), []);
    assert.match(found("", rows).join(), /exception for function that nothing needs/);
    const mute = rows.map((one) => ({ ...one, reason: " " }));
    assert.match(found(long, mute).join(), /exception without a reason/);
    const small = rows.map((one) => ({ ...one, limit: one.limit - 1 }));
    assert.equal(found(long, small).length, 4);
  });

  test("runtime dependencies", () => {
    assert.deepEqual(found("", [], ["a", "b"]), ["package.json: 2 runtime dependencies, 1 are allowed"]);
  });

  test("functions of C, not structs, calls or declarations", () => {
    const text = [
      "struct pair {\n\tint a;\n};",
      "int declared(int a);",
      "static __always_inline __u32 sum(const struct pair *p,\n\t\t\t\t int (*f)(int, int), __u32 c)\n{\n\tif (p) {\n\t\treturn 1;\n\t}\n\treturn 0;\n}",
      'SEC("tc")\nint from_pod(struct __sk_buff *skb)\n{\n\treturn sum(0, 0, 1);\n}',
      "struct pair *nothing(void) {\n}",
    ].join("\n\n");
    const measures = measureC({ path: "bpf/a.h", text }).map((one) => [one.name, one.what, one.value]);
    assert.deepEqual(measures, [
      ["", "file", text.split("\n").length],
      ["sum", "function", 8],
      ["sum", "parameters", 3],
      ["from_pod", "function", 4],
      ["from_pod", "parameters", 1],
      ["nothing", "function", 2],
      ["nothing", "parameters", 0],
    ]);
  });
});

describe("content", () => {
  const file = (path: string, text: string) => [{ path, text }];
  const spdx = "// SPDX-License-Identifier: Apache-2.0\n";
  const open = ["TO", "DO"].join("");

  test("licence line and purpose", () => {
    assert.deepEqual(checkHeads(file("src/a.ts", `${spdx}// What it does.\n`)), []);
    assert.deepEqual(checkHeads(file("src/a.ts", `#!/usr/bin/env node\n${spdx}// What it does.\n`)), []);
    assert.equal(checkHeads(file("src/a.ts", "// What it does.\n")).length, 1);
    assert.equal(checkHeads(file("src/a.ts", `${spdx}import "x";\n`)).length, 1);
    assert.deepEqual(checkHeads(file("src/a.test.ts", `${spdx}import "x";\n`)), []);
    assert.equal(checkHeads(file("bpf/lib/a.h", `${spdx}// What it does.\n`)).length, 1);
    assert.deepEqual(checkHeads(file("docs/a.md", "# A\n")), []);
  });

  test("names", () => {
    const good = [
      "src/a-b.test.ts",
      "bpf/lib/icmp_error.h",
      "bpf/datapath.bpf.c",
      "src/kernel/bpf.root.test.ts",
    ];
    for (const path of good) assert.deepEqual(checkNames(file(path, "")), [], path);
    const bad = [
      "src/aB.ts",
      "src/base/utils.ts",
      "src/helpers/a.ts",
      "bpf/lib/icmp-error.h",
      "src/map-manager.ts",
    ];
    for (const path of bad) assert.equal(checkNames(file(path, "")).length, 1, path);
  });

  test("open ends and registries", () => {
    assert.equal(checkForbidden(file("src/a.ts", `// ${open}: later`)).length, 1);
    assert.deepEqual(checkForbidden(file("src/a.ts", `// ${open}(#12): later`)), []);
    assert.deepEqual(checkForbidden(file("src/a.ts", "const TODOS = 1;")), []);
    assert.equal(checkForbidden(file("package-lock.json", '"resolved": "https://x/y.tgz"')).length, 1);
    assert.equal(checkForbidden(file(".npmrc", "registry=http://x")).length, 1);
  });

  test("links", () => {
    const page = file(
      "docs/user/a.md",
      "[a](b.md) [c](../d.md#part) [e](https://x.org/y) [f](#here) [g](gone.md)",
    );
    const found = checkLinks(page, (path) => ["docs/user/b.md", "docs/d.md"].includes(path));
    assert.deepEqual(
      found.map((one) => one.what),
      ["dead link: gone.md"],
    );
  });
});
