// SPDX-License-Identifier: Apache-2.0
// Reads the data plane's events on a timer (the packet path never wakes anybody: 2-5 times cheaper for it) and tells
// them to whoever follows. With nobody following they are only counted.
import type { Log } from "../base/log.ts";
import { readFlowEvent } from "../maps/gen/types.ts";
import type { Table } from "../maps/table.ts";
import { decodeFlow } from "../observe/decode.ts";
import { enrichFlow, type Names } from "../observe/enrich.ts";
import type { FanOut } from "../observe/fan-out.ts";
import type { openRing } from "../observe/ring.ts";

/** With events coming or somebody following; at 5 ms a ring of 4 MiB takes 6 million events a second. */
const BUSY_MS = 5;
const IDLE_MS = 50;
/** The kernel's count of lost events is looked at this often. */
const LOST_MS = 1_000;

/** One reader per data plane. */
export class EventReader {
  readonly #ring: ReturnType<typeof openRing>;
  readonly #lost: Table<number, bigint>;
  readonly #flows: FanOut;
  readonly #names: Names;
  readonly #log: Log;
  #timer: NodeJS.Timeout | undefined;
  #lostBefore: number | undefined;
  #lostAt = 0;

  /** Takes over `ring` and `lost`. */
  constructor(options: {
    ring: ReturnType<typeof openRing>;
    lost: Table<number, bigint>;
    flows: FanOut;
    names: Names;
    log: Log;
  }) {
    this.#ring = options.ring;
    this.#lost = options.lost;
    this.#flows = options.flows;
    this.#names = options.names;
    this.#log = options.log;
    this.#schedule(BUSY_MS);
  }

  #schedule(ms: number): void {
    this.#timer = setTimeout(() => {
      let events = 0;
      try {
        events = this.#drain();
        this.#countLost();
      } catch (thrown) {
        this.#log.error({ err: thrown }, "events not read");
      }
      this.#schedule(events > 0 || this.#flows.clients > 0 ? BUSY_MS : IDLE_MS);
    }, ms);
  }

  #drain(): number {
    const followed = this.#flows.clients > 0;
    const clock = { nowNs: process.hrtime.bigint(), nowMs: Date.now() };
    const events = this.#ring.drain((view, at) => {
      if (!followed) return;
      const event = readFlowEvent(view, at);
      this.#flows.publish(enrichFlow(decodeFlow(event, clock), event.ruleArg, this.#names));
    });
    this.#flows.count(events);
    return events;
  }

  #countLost(): void {
    const now = performance.now();
    if (now - this.#lostAt < LOST_MS) return;
    this.#lostAt = now;
    const total = (this.#lost.getPerCpu(0) ?? []).reduce((sum, n) => sum + Number(n), 0);
    // What was lost before this agent started is not its news.
    if (this.#lostBefore !== undefined) this.#flows.lostInKernel(total - this.#lostBefore);
    this.#lostBefore = total;
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#ring.close();
    this.#lost.close();
  }
}
