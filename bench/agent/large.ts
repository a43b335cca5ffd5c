// SPDX-License-Identifier: Apache-2.0
// Large tables in the agent's hands: an ip-masq-agent's file of 10,000 ranges from its rename to the last entry; how the flow
// table grows while a pod opens a million flows through the data plane, and what `status` and `bpf nat list` take then.
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { StatusReport } from "../../src/agent/status.ts";
import { waitFor } from "../../src/base/async.ts";
import { type Spread, spread } from "../statistics.ts";
import { EXCHANGE } from "../traffic/load.ts";
import { BenchNode } from "./node.ts";

const RANGES = 10_000;
const FLOWS = 1_048_576;
const QUICK_FLOWS = 20_000;
/** In a millisecond: what the growth of the table is laid out for. */
const RATE = 100;
/** At most twice as many as flows, so that no search for room is measured. */
const TABLE_FLAGS = ["--bpf-ct-global-tcp-max", "1048576", "--bpf-ct-global-any-max", "1048576"];

export interface LargeCosts {
  readonly ranges: number;
  /** ms until all ranges stand in the map, for sets that have nothing in common. */
  readonly applied: Spread;
  readonly flows: number;
  readonly opened: { readonly perSecond: number; readonly lost: number };
  /** Of the flow table meanwhile: room before and after, from the first exchange to the last record moved. */
  readonly growths: readonly Growth[];
  readonly status: Spread;
  readonly natList: { readonly ms: number; readonly lines: number };
}

export interface Growth {
  readonly from: number;
  readonly to: number;
  readonly ms: number;
}

/** Ranges of both families, others for each `set`. */
function rangesOf(set: number): string {
  const range = (i: number): string =>
    i % 2 === 0
      ? `100.${64 + 8 * set + (i >> 13)}.${(i >> 5) & 255}.${((i >> 1) & 15) << 4}/28`
      : `2001:db8:${(0x1000 * (set + 1)).toString(16)}:${i.toString(16)}::/64`;
  return JSON.stringify({ nonMasqueradeCIDRs: Array.from({ length: RANGES }, (_, i) => range(i)) });
}

async function applyRanges(node: BenchNode, file: string, sets: number): Promise<number[]> {
  const times: number[] = [];
  for (let set = 0; set < sets; set++) {
    const generation = await nonmasq(node);
    writeFileSync(`${file}.draft`, rangesOf(set));
    const started = performance.now();
    renameSync(`${file}.draft`, file);
    await waitFor(
      `${RANGES} ranges`,
      async () => {
        const now = await nonmasq(node);
        return now.generation > generation.generation && now.realised >= RANGES && now.pending === 0;
      },
      { timeoutMs: 30_000, intervalMs: 20 },
    );
    times.push(performance.now() - started);
  }
  return times;
}

async function nonmasq(node: BenchNode): Promise<{ generation: number; realised: number; pending: number }> {
  const { reconcilers } = await node.node.get<StatusReport>("/v1/status");
  const found = reconcilers.find(({ map }) => map === "nonmasq_cidrs");
  if (found === undefined) throw new Error("status does not tell of nonmasq_cidrs");
  return found;
}

/** What the agent's log tells of growth. */
function growthsOf(logFile: string): Growth[] {
  return readFileSync(logFile, "utf8")
    .split("\n")
    .filter((line) => line.includes('"flow table has grown"'))
    .map((line) => JSON.parse(line) as Growth)
    .map(({ from, to, ms }) => ({ from, to, ms }));
}

/** Measures on an unpinned thread. */
export async function costOfLargeTables(quick: boolean): Promise<LargeCosts> {
  await using node = await BenchNode.make({ pods: 1, cluster: true });
  const [pod] = node.pods;
  if (pod === undefined) throw new Error("no pod");
  const file = join(node.world.dir, "ip-masq-agent");
  await node.start("--ip-masq-agent-config-path", file, ...TABLE_FLAGS);
  await node.byPlugin("ADD", pod);
  const applied = await applyRanges(node, file, quick ? 1 : 5);
  const flows = quick ? QUICK_FLOWS : FLOWS;
  const sent = await node.world.run(pod.netns, [...EXCHANGE, "scatter", String(flows), String(RATE)]);
  if (sent.status !== 0) throw new Error(sent.stderr);
  const { seconds } = JSON.parse(sent.stdout) as { seconds: number };
  // Not later: flows of UDP that are not answered live for a minute.
  const { records } = (await node.node.get<StatusReport>("/v1/status")).flowTable ?? { records: 0 };
  await waitFor(
    "growth to end",
    async () => {
      const { flowTable } = await node.node.get<StatusReport>("/v1/status");
      return flowTable?.growing === null;
    },
    { timeoutMs: 60_000, intervalMs: 100 },
  );
  const natList = await node.run("bpf", "nat", "list");
  const status: number[] = [];
  for (let i = 0; i < (quick ? 1 : 3); i++) status.push((await node.run("status")).ms);
  return {
    ranges: RANGES,
    applied: spread(applied),
    flows,
    opened: { perSecond: flows / seconds, lost: Math.max(0, flows - records) },
    growths: growthsOf(node.node.logFile),
    status: spread(status),
    natList,
  };
}
