// SPDX-License-Identifier: Apache-2.0
// Traffic of traffic.ts from a namespace, for as long as a test wants, and the translations that it has in the flow table.
import assert from "node:assert/strict";
import { once } from "node:events";
import { join } from "node:path";
import { waitFor } from "../../src/base/async.ts";
import { openInner } from "../../src/maps/table.ts";
import { NODE_ADDRESS, OUTSIDE_PORT, type Topology } from "./netns.ts";
import type { TrafficReport } from "./traffic.ts";

const TRAFFIC = join(import.meta.dirname, "traffic.ts");

/** For all addresses together. */
export interface TrafficShare {
  readonly longLived: number;
  readonly newPerSecond: number;
  readonly addresses: readonly string[];
}

/** Begins it; resolves when all long-lived connections stand, with what ends it and gives its report. */
export async function startTraffic(
  world: Topology,
  netns: string,
  { longLived, newPerSecond, addresses }: TrafficShare,
): Promise<() => Promise<TrafficReport>> {
  const numbers = [OUTSIDE_PORT.tcp, longLived, newPerSecond].map(String);
  const argv = [process.execPath, TRAFFIC, ...numbers, ...addresses];
  const child = world.spawn(netns, argv, { stdio: ["pipe", "pipe", "inherit"] });
  let text = "";
  child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  const last = once(child, "close").then(() => text.trim().split("\n").at(-1) ?? "");
  await Promise.race([
    waitFor(`traffic of ${netns}`, () => text.startsWith("started")),
    last.then((line) => assert.fail(`the traffic of ${netns} ended before it began: ${line}`)),
  ]);
  return async () => {
    child.stdin?.end();
    return JSON.parse(await last);
  };
}

/** Translated TCP ports by the opener's address and port, and the destination. */
export function translations(bpfRoot: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const table of openInner(bpfRoot, "flows")) {
    using opened = table;
    for (const [key, flow] of opened.entries()) {
      if (key.proto !== 6 || flow.xsaddr === key.saddr) continue;
      assert.ok(Object.values<string>(NODE_ADDRESS).includes(flow.xsaddr));
      found.set(`${key.saddr} ${key.sport} ${key.daddr}`, flow.xsport);
    }
  }
  return found;
}
