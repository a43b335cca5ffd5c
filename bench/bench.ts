// SPDX-License-Identifier: Apache-2.0
// Runs one benchmark by its name: `npm run bench -- shapes --rounds 15`; `masquerade` without one. Each is a program of its own that reads the
// options after its name and prints tables in Markdown; all need root.
const BENCHMARKS: Record<string, { about: string; load: () => Promise<unknown> }> = {
  masquerade: {
    about: "Hookline beside plain routing, iptables and nftables; the default",
    load: () => import("./masquerade.ts"),
  },
  shapes: { about: "shapes of the flow table, side by side", load: () => import("./shapes/shapes.ts") },
  race: {
    about: "the flow table's rules, all processors against each other",
    load: () => import("./shapes/race.ts"),
  },
  growth: {
    about: "the data plane's own flow table, growing, all processors against each other",
    load: () => import("./shapes/growth.ts"),
  },
};

const first = process.argv[2] ?? "";
// Without a name, also before options: the default.
const named = first !== "" && !first.startsWith("-");
const name = named ? first : "masquerade";
const chosen = BENCHMARKS[name];
if (chosen) {
  if (named) process.argv.splice(2, 1);
  await chosen.load();
} else {
  console.error(`no benchmark is called "${name}"`);
  for (const [each, { about }] of Object.entries(BENCHMARKS))
    console.error(`  npm run bench -- ${each}    ${about}`);
  process.exitCode = 2;
}
