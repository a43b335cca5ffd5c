// SPDX-License-Identifier: Apache-2.0
// What one run of the masquerade benchmark has found, as the page tells it. Parts that were left out are undefined.
import type { ChangeCosts } from "../agent/changes.ts";
import type { LargeCosts } from "../agent/large.ts";
import type { PodCosts } from "../agent/pods.ts";
import type { PacketCosts } from "../datapath/packets.ts";
import type { PortSearch } from "../datapath/ports.ts";
import type { Sizes } from "../datapath/sizes.ts";
import { type Spread, spread } from "../statistics.ts";
import type { Family, Measure } from "../traffic/load.ts";
import type { Rounds } from "../traffic/run.ts";
import type { Mode } from "../traffic/world.ts";

export interface Run {
  readonly rounds: number;
  readonly seconds: number;
  /** Before the thread was pinned, which hides the others. */
  readonly processors: number;
}

export interface Results {
  readonly traffic: Rounds | undefined;
  readonly pods: PodCosts | undefined;
  readonly large: LargeCosts | undefined;
  readonly changes: ChangeCosts | undefined;
  readonly packets: PacketCosts;
  readonly ports: readonly PortSearch[];
  readonly sizes: Sizes;
}

/** What is compared: a measure of one family in one mode. */
export interface Compared {
  readonly family: Family;
  readonly mode: Mode;
  readonly measure: Measure;
}

/** Ratio of each round to plain routing of that round. */
export function ratios(rounds: Rounds, { family, mode, measure }: Compared): Spread {
  const plain = rounds[family].routing.figures[measure];
  return spread(rounds[family][mode].figures[measure].map((value, i) => value / (plain[i] ?? Number.NaN)));
}

export const idleMiB = (sizes: Sizes): number =>
  sizes.maps.reduce((sum, map) => sum + map.bytes, 0) / 2 ** 20;

/** On no hook: user space runs them. */
const ASIDE: readonly string[] = ["sweep", "adopt", "flush"];

/** Of the programs that packets meet, and of those that user space runs. */
export function instructions(sizes: Sizes): { hooks: number; aside: number } {
  const sum = (aside: boolean): number =>
    sizes.programs
      .filter(({ name }) => ASIDE.includes(name) === aside)
      .reduce((total, program) => total + program.instructions, 0);
  return { hooks: sum(false), aside: sum(true) };
}
