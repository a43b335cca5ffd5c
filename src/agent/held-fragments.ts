// SPDX-License-Identifier: Apache-2.0
// Ends fragments that wait in vain for the first of their datagram: once a second, if any waits. The data plane makes room
// without it, but tells nobody, and counts a fragment as dropped only when its place is needed.
import type { Log } from "../base/log.ts";
import type { Datapath } from "../loader/datapath.ts";
import { type FragmentFates, readFates, waitingFragments } from "../maps/fragments.ts";
import type { TableOf } from "../maps/table.ts";

/** As long as a fragment waits (HELD_TICKS, bpf/stage/fragment.h). */
const LOOK_MS = 1_000;

export class HeldFragments {
  readonly #datapath: Datapath;
  readonly #log: Log;
  readonly #counts: TableOf<"frag_counts">;
  readonly #timer: NodeJS.Timeout;
  #busy = false;

  constructor(options: { datapath: Datapath; log: Log }) {
    this.#datapath = options.datapath;
    this.#log = options.log;
    this.#counts = options.datapath.table("frag_counts");
    this.#timer = setInterval(() => void this.#look(), LOOK_MS);
  }

  /** What has become of all that had to wait. */
  get fates(): FragmentFates {
    return readFates(this.#counts);
  }

  async #look(): Promise<void> {
    if (this.#busy || waitingFragments(this.fates) <= 0) return;
    this.#busy = true;
    try {
      await this.#datapath.sweepFragments();
    } catch (thrown) {
      this.#log.error({ err: thrown }, "fragments that wait in vain cannot be ended");
    }
    this.#busy = false;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#counts.close();
  }
}
