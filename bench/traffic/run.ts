// SPDX-License-Identifier: Apache-2.0
// The traffic benchmark: plain routing, iptables, nftables and Hookline by turns, each in a fresh world, both families in
// each. A run in which the server saw another address than the mode stands for is thrown away with the whole benchmark.
import { availableParallelism } from "node:os";
import { pinThread } from "../object.ts";
import { NODE, POD } from "./addresses.ts";
import { FAMILIES, type Family, type Figures, MEASURES, type Measure, measure, serveAll } from "./load.ts";
import { buildWorld, MODES, type Mode } from "./world.ts";

/** Figures of one mode and family, one per round. */
export interface Row {
  readonly figures: Record<keyof Figures, number[]>;
  failed: number;
  slow: number;
}
export type Rounds = Record<Family, Record<Mode, Row>>;

function emptyRounds(): Rounds {
  const row = (): Row => ({
    figures: { tcp: [], udp: [], packets: [], connections: [], bulk: [] },
    failed: 0,
    slow: 0,
  });
  const modes = (): Record<Mode, Row> => ({
    routing: row(),
    iptables: row(),
    nftables: row(),
    hookline: row(),
  });
  return { 4: modes(), 6: modes() };
}

async function oneWorld(mode: Mode, cpu: number, seconds: number, into: Rounds): Promise<void> {
  await using world = await buildWorld(mode, cpu);
  await serveAll(world);
  for (const family of FAMILIES) {
    const sample = await measure(world, family, seconds);
    const expected = (mode === "routing" ? POD : NODE)[family];
    if (sample.seen !== expected)
      throw new Error(`${mode}, IPv${family}: the server saw ${sample.seen}, not ${expected}`);
    const row = into[family][mode];
    for (const name of Object.keys(MEASURES) as Measure[]) row.figures[name].push(sample.figures[name]);
    row.failed += sample.failed;
    row.slow += sample.slow;
  }
}

/** All rounds. The calling thread, and with it Hookline's event reader, is kept on the first processor. */
export async function traffic(rounds: number, seconds: number): Promise<Rounds> {
  const into = emptyRounds();
  const cpu = availableParallelism() - 1;
  pinThread(0);
  for (let round = 1; round <= rounds; round++) {
    for (const mode of MODES) await oneWorld(mode, cpu, seconds, into);
    const last = (family: Family): string =>
      MODES.map((mode) => into[family][mode].figures.connections.at(-1)?.toFixed(0)).join(", ");
    console.error(`round ${round} of ${rounds}: new connections/s ${last(4)}; IPv6 ${last(6)}`);
  }
  return into;
}
