// SPDX-License-Identifier: Apache-2.0
// What pods cost the agent: starting it without any and with 250 to take over, each ADD and DEL through the plugin's process
// and without it, and the memory that it holds meanwhile.
import { sleep } from "../../src/base/async.ts";
import { quantile, type Spread, spread } from "../statistics.ts";
import { BenchNode, type Memory } from "./node.ts";

const PODS = 250;
const QUICK_PODS = 10;
/** Before memory is looked at: V8 gives back a little late what it does not need. */
const SETTLE_MS = 1_000;

/** ms of one kind of call: half, and 99 of 100, take no longer. */
export interface Calls {
  readonly p50: number;
  readonly p99: number;
}

export interface PodCosts {
  readonly pods: number;
  readonly addByPlugin: Calls;
  readonly addByAgent: Calls;
  readonly delByPlugin: Calls;
  readonly delByAgent: Calls;
  /** ms from the start of the process to the first moment at which pods can be added. */
  readonly coldStart: Spread;
  readonly warmStart: Spread;
  /** By what had happened before; `embedded`: with the API server in the same process. */
  readonly memory: readonly { readonly when: string; readonly cluster: Memory; readonly embedded: Memory }[];
}

async function callAll(node: BenchNode, command: "ADD" | "DEL", how: "byPlugin" | "byAgent"): Promise<Calls> {
  const times: number[] = [];
  for (const pod of node.pods) times.push(await node[how](command, pod));
  return { p50: quantile(times, 0.5), p99: quantile(times, 0.99) };
}

interface OneNode {
  readonly calls: Pick<PodCosts, "addByPlugin" | "addByAgent" | "delByPlugin" | "delByAgent">;
  readonly warm: number[];
  readonly memory: Map<string, Memory>;
}

/** A node whose pods come, go, come again, and are taken over by further agents. Only in a cluster calls are made by the
 * plugin too: they take the longest. */
async function oneNode(pods: number, cluster: boolean, restarts: number): Promise<OneNode> {
  await using node = await BenchNode.make({ pods, cluster });
  const memory = new Map<string, Memory>();
  const look = async (when: string): Promise<void> => {
    await sleep(SETTLE_MS);
    memory.set(when, node.memory());
  };
  await node.start();
  await look("started, no pods");
  const byPlugin = cluster ? "byPlugin" : "byAgent";
  const addByPlugin = await callAll(node, "ADD", byPlugin);
  await look(`${pods} pods added`);
  const delByAgent = await callAll(node, "DEL", "byAgent");
  const addByAgent = await callAll(node, "ADD", "byAgent");
  const delByPlugin = await callAll(node, "DEL", byPlugin);
  await callAll(node, "ADD", "byAgent");
  await look("all deleted and added twice more");
  const warm: number[] = [];
  for (let i = 0; i < restarts; i++) {
    await node.stop();
    warm.push(await node.start());
  }
  await look(`started with ${pods} pods to take over`);
  return { calls: { addByPlugin, addByAgent, delByPlugin, delByAgent }, warm, memory };
}

async function coldStarts(times: number): Promise<number[]> {
  const all: number[] = [];
  for (let i = 0; i < times; i++) {
    await using node = await BenchNode.make({ pods: 0, cluster: true });
    all.push(await node.start());
  }
  return all;
}

/** Measures on an unpinned thread: agent and plugin share the machine with whoever calls them. */
export async function costOfPods(quick: boolean): Promise<PodCosts> {
  const pods = quick ? QUICK_PODS : PODS;
  const times = quick ? 1 : 5;
  const cold = await coldStarts(times);
  const cluster = await oneNode(pods, true, times);
  const embedded = await oneNode(pods, false, 1);
  return {
    pods,
    ...cluster.calls,
    coldStart: spread(cold),
    warmStart: spread(cluster.warm),
    memory: [...cluster.memory].map(([when, memory]) => ({
      when,
      cluster: memory,
      embedded: embedded.memory.get(when) as Memory,
    })),
  };
}
