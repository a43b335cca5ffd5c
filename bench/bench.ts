// SPDX-License-Identifier: Apache-2.0
// Runs one benchmark by its name: `npm run bench -- shapes --rounds 15`. Each is a program of its own that reads the
// options after its name and prints tables in Markdown; all need root.
const BENCHMARKS: Record<string, { about: string; load: () => Promise<unknown> }> = {
  shapes: { about: "shapes of the flow table, side by side", load: () => import("./shapes.ts") },
  race: {
    about: "the flow table's rules, all processors against each other",
    load: () => import("./shapes-race.ts"),
  },
};

const name = process.argv[2] ?? "";
const chosen = BENCHMARKS[name];
if (chosen) {
  process.argv.splice(2, 1);
  await chosen.load();
} else {
  console.error(name ? `no benchmark is called "${name}"` : "which benchmark?");
  for (const [each, { about }] of Object.entries(BENCHMARKS))
    console.error(`  npm run bench -- ${each}    ${about}`);
  process.exitCode = 2;
}
