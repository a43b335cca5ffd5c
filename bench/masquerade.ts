// SPDX-License-Identifier: Apache-2.0
// The masquerade benchmark: plain routing, iptables, nftables and Hookline by turns, each in a fresh world; then what single
// packets, flows and a full port range cost. Writes docs/benchmarks.md. Options: --rounds N (5), --seconds N (2) per measure,
// --out FILE, --quick (2 rounds of 1 s, less of everything else, prints only).
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { buildBpf, ROOT } from "../tools/build-bpf.ts";
import { NODE, POD } from "./masquerade-addresses.ts";
import { MEASURES, type Measure, measure } from "./masquerade-load.ts";
import { costOfPackets } from "./masquerade-packets.ts";
import { fillPorts } from "./masquerade-ports.ts";
import { type Rounds, render } from "./masquerade-report.ts";
import { sizes } from "./masquerade-sizes.ts";
import { buildWorld, MODES, type Mode } from "./masquerade-world.ts";
import { pinThread } from "./object.ts";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string" },
    seconds: { type: "string" },
    out: { type: "string" },
    quick: { type: "boolean", default: false },
    "no-traffic": { type: "boolean", default: false },
  },
});
const quick = options.quick;
const rounds = Number(options.rounds ?? (quick ? 2 : 5));
const seconds = Number(options.seconds ?? (quick ? 1 : 2));

async function oneWorld(mode: Mode, cpu: number, into: Rounds): Promise<void> {
  await using world = await buildWorld(mode, cpu);
  const sample = await measure(world, seconds);
  const expected = mode === "routing" ? POD : NODE;
  if (sample.seen !== expected) throw new Error(`${mode}: the server saw ${sample.seen}, not ${expected}`);
  const row = into[mode];
  for (const name of Object.keys(MEASURES) as Measure[]) row.figures[name].push(sample.figures[name]);
  row.failed += sample.failed;
  row.slow += sample.slow;
}

async function traffic(): Promise<Rounds> {
  const empty = (): Rounds[Mode] => ({
    figures: { tcp: [], udp: [], packets: [], connections: [], bulk: [] },
    failed: 0,
    slow: 0,
  });
  const into: Rounds = { routing: empty(), iptables: empty(), nftables: empty(), hookline: empty() };
  const cpu = availableParallelism() - 1;
  // The event reader runs here, the load on the last processor.
  pinThread(0);
  for (let round = 1; round <= rounds; round++) {
    for (const mode of MODES) await oneWorld(mode, cpu, into);
    const last = MODES.map((mode) => `${mode} ${into[mode].figures.connections.at(-1)?.toFixed(0)}`);
    console.error(`round ${round} of ${rounds}: new connections/s: ${last.join(", ")}`);
  }
  return into;
}

buildBpf();
const run = { rounds, seconds, quick, processors: availableParallelism() };
const into = options["no-traffic"] ? undefined : await traffic();
pinThread(0);
const text = render(run, {
  traffic: into,
  packets: await costOfPackets(quick),
  ports: await fillPorts(quick),
  sizes: await sizes(),
});
const out = options.out ?? (quick || !into ? undefined : join(ROOT, "docs/benchmarks.md"));
if (out === undefined) console.log(text);
else writeFileSync(out, text);
