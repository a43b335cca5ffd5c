// SPDX-License-Identifier: Apache-2.0
// Which addresses count as the node's, for rule 2 and for the flows under them: those that it has, and for a while those of a
// device that has lost all of a family. A link that goes down and comes up loses its IPv6 addresses in between (Linux), and a
// DHCP client may take an address away to give it again: flows that would live on must not end for that.
import { type Address, familyOf } from "../base/addr.ts";

/** How long such an address is waited for; the review that follows ends the wait. */
export const RETURN_MS = 5_000;

/** What the node has now. */
export interface NodeAddresses {
  /** Each with the index of its device. */
  readonly addresses: ReadonlyMap<Address, number>;
  /** Indexes of all devices. */
  readonly devices: ReadonlySet<number>;
}

/** What counts, and whether addresses have stopped to count, so that flows under them must end. */
export interface Counting {
  readonly addresses: ReadonlyMap<Address, number>;
  readonly lost: boolean;
}

/** The node's addresses from one moment to the next. */
export class OwnAddresses {
  #counting: ReadonlyMap<Address, number> | undefined;
  readonly #missingSince = new Map<Address, number>();

  /** At the first call nothing is known of before: then something may have been lost. */
  update({ addresses, devices }: NodeAddresses, nowMs: number): Counting {
    const families = new Set([...addresses].map(([address, device]) => `${device} ${familyOf(address)}`));
    const counting = new Map(addresses);
    let lost = this.#counting === undefined;
    for (const [address, device] of this.#counting ?? []) {
      const since = this.#missingSince.get(address) ?? nowMs;
      this.#missingSince.delete(address);
      if (addresses.has(address)) continue;
      const mayReturn = devices.has(device) && !families.has(`${device} ${familyOf(address)}`);
      if (mayReturn && nowMs - since < RETURN_MS) {
        this.#missingSince.set(address, since);
        counting.set(address, device);
      } else {
        lost = true;
      }
    }
    this.#counting = counting;
    return { addresses: counting, lost };
  }
}
