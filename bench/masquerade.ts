// SPDX-License-Identifier: Apache-2.0
// The masquerade benchmark: plain routing, iptables, nftables and Hookline by turns; what pods and large tables cost the
// agent; what single packets, flows and a full port range cost. Writes docs/benchmarks.md. Options: --rounds N (7), --seconds N
// (1) per measure, --out FILE, --quick (1 round, less of everything else, prints only), --skip traffic|agent.
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { buildAll } from "../tools/build.ts";
import { ROOT } from "../tools/build-bpf.ts";
import { costOfChanges } from "./agent/changes.ts";
import { costOfLargeTables } from "./agent/large.ts";
import { costOfPods } from "./agent/pods.ts";
import { costOfPackets } from "./datapath/packets.ts";
import { fillPorts } from "./datapath/ports.ts";
import { sizes } from "./datapath/sizes.ts";
import { pinThread } from "./object.ts";
import { render } from "./report/page.ts";
import { traffic } from "./traffic/run.ts";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string" },
    seconds: { type: "string", default: "1" },
    out: { type: "string" },
    quick: { type: "boolean", default: false },
    skip: { type: "string", multiple: true, default: [] },
  },
});
const { quick, skip } = options;
const rounds = Number(options.rounds ?? (quick ? 1 : 7));
const seconds = Number(options.seconds);
const wanted = (part: string): boolean => !skip.includes(part);

async function timed<T>(what: string, job: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const done = await job();
  console.error(`${what}: ${((performance.now() - started) / 1000).toFixed(0)} s`);
  return done;
}

await buildAll();
const run = { rounds, seconds, processors: availableParallelism() };
// The agent first: it has the whole machine, and everything after it runs on a pinned thread.
const agent = wanted("agent")
  ? {
      pods: await timed("pods", () => costOfPods(quick)),
      large: await timed("large tables", () => costOfLargeTables(quick)),
      changes: await timed("changes", () => costOfChanges(quick)),
    }
  : { pods: undefined, large: undefined, changes: undefined };
const rates = wanted("traffic") ? await timed("traffic", () => traffic(rounds, seconds)) : undefined;
pinThread(0);
const text = render(run, {
  traffic: rates,
  ...agent,
  packets: await timed("packets", () => costOfPackets(quick)),
  ports: await timed("port search", () => fillPorts(quick)),
  sizes: await sizes(),
});
const out = options.out ?? (quick || skip.length > 0 ? undefined : join(ROOT, "docs/benchmarks.md"));
if (out === undefined) console.log(text);
else writeFileSync(out, text);
