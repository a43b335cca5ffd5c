// SPDX-License-Identifier: Apache-2.0
// Which address of one family the next pod gets, from its CIDRs, the addresses in use and those released lately.
// Pure: the caller passes the time. For the address engine.
//   1. A fresh address: the next one after the cursor that is neither in use nor resting, CIDRs in their order.
//   2. Else the resting address that was released first: peers, caches and DNS had the longest time to forget it.
//   3. Else the pool is exhausted.
import { type Address, addressAfter, addressBytes, type Family } from "../../base/addr.ts";
import { formatPrefix, type Prefix, prefixContains } from "../../base/prefix.ts";
import { faults } from "./faults.ts";
import { usableRange } from "./spec.ts";

/**
 * Addresses that rest after release, per family. Beyond it the one that rested longest counts as fresh again, so that
 * churn in an IPv6 /64 needs no more memory than this.
 */
export const RESTING_LIMIT = 1024;

/** CIDRs whose cursor is remembered. */
const CURSORS_LIMIT = 64;

/** Fill of a pool. `usable` is a bigint because an IPv6 CIDR exceeds 2^53. */
export interface PoolCounts {
  readonly usable: bigint;
  readonly inUse: number;
  readonly resting: number;
  /** In use, but in none of today's CIDRs: kept until released. */
  readonly outside: number;
}

/** Fill of one CIDR. */
export interface CidrCounts {
  readonly cidr: string;
  readonly usable: bigint;
  readonly inUse: number;
}

/** What a restart needs besides the leases. */
export interface PoolState {
  /** Per CIDR: offset at which the search for a fresh address goes on, in decimal. */
  readonly cursors: { readonly [cidr: string]: string };
  /** Released addresses, the one released first at the front. */
  readonly resting: readonly { readonly address: Address; readonly releasedAtMs: number }[];
}

interface Segment {
  readonly prefix: Prefix;
  readonly first: bigint;
  readonly last: bigint;
  cursor: bigint;
}

/** How far an address of the prefix's family lies after the prefix's own address. */
function offsetIn(prefix: Prefix, address: Address): bigint {
  const number = (a: Address): bigint => BigInt(`0x${Buffer.from(addressBytes(a)).toString("hex")}`);
  return number(address) - number(prefix.address);
}

/** Whether pods can have the address: it is in the CIDR and neither its first nor otherwise kept free. */
function within(segment: Segment, address: Address): boolean {
  if (!prefixContains(segment.prefix, address)) return false;
  const offset = offsetIn(segment.prefix, address);
  return offset >= segment.first && offset <= segment.last;
}

/** The addresses of one family on this node. */
export class AddressPool {
  readonly family: Family;
  #segments: Segment[] = [];
  #cursors = new Map<string, bigint>();
  readonly #holders = new Map<Address, string>();
  /** Insertion order is release order. */
  readonly #resting = new Map<Address, number>();

  constructor(family: Family, cidrs: readonly Prefix[], state?: PoolState) {
    this.family = family;
    for (const [cidr, cursor] of Object.entries(state?.cursors ?? {}))
      this.#cursors.set(cidr, BigInt(cursor));
    for (const { address, releasedAtMs } of state?.resting ?? []) this.#rest(address, releasedAtMs);
    this.setCidrs(cidrs);
  }

  /**
   * Takes new CIDRs. Addresses in use stay in use wherever they lie; cursors and resting addresses of CIDRs that go are
   * remembered, because they come back: after a restart the CIDRs are known later than the state.
   */
  setCidrs(cidrs: readonly Prefix[]): void {
    this.#cursors = this.#allCursors();
    this.#segments = cidrs.map((prefix) => {
      const { first, last } = usableRange(prefix);
      const saved = this.#cursors.get(formatPrefix(prefix)) ?? first;
      return { prefix, first, last, cursor: saved >= first && saved <= last ? saved : first };
    });
  }

  /** Whether the pool has any CIDR, i.e. whether pods get an address of this family. */
  get enabled(): boolean {
    return this.#segments.length > 0;
  }

  /**
   * Takes an address for `holder`.
   * @throws Fault IPAM_EXHAUSTED with the CIDRs and the counts
   */
  allocate(holder: string): Address {
    const address = this.#fresh() ?? this.#restedLongest();
    if (address === undefined) {
      const { usable, inUse, outside } = this.counts();
      const cidrs = this.#segments.map((s) => formatPrefix(s.prefix)).join(", ");
      throw faults.IPAM_EXHAUSTED({ family: this.family, cidrs, inUse: inUse - outside, usable, outside });
    }
    this.#resting.delete(address);
    this.#holders.set(address, holder);
    return address;
  }

  /**
   * Marks an address as held, whether it lies in today's CIDRs or not: for what survived a restart.
   * @throws Fault IPAM_ADDRESS_TAKEN if someone else holds it
   */
  adopt(address: Address, holder: string): void {
    const held = this.#holders.get(address);
    if (held !== undefined && held !== holder) {
      throw faults.IPAM_ADDRESS_TAKEN({ address, wanted: holder, held });
    }
    this.#resting.delete(address);
    this.#holders.set(address, holder);
  }

  /** Gives an address back; it rests from `nowMs`. An address that is not in use is ignored. */
  release(address: Address, nowMs: number): void {
    if (!this.#holders.delete(address)) return;
    this.#rest(address, nowMs);
  }

  counts(): PoolCounts {
    let usable = 0n;
    for (const s of this.#segments) usable += s.last - s.first + 1n;
    const count = (of: Map<Address, unknown>): number => [...of.keys()].filter((a) => this.#usable(a)).length;
    const inUse = this.#holders.size;
    return {
      usable,
      inUse,
      resting: count(this.#resting),
      outside: inUse - count(this.#holders),
    };
  }

  /** Fill of each CIDR, in their order. */
  cidrCounts(): CidrCounts[] {
    const held = [...this.#holders.keys()];
    return this.#segments.map((segment) => ({
      cidr: formatPrefix(segment.prefix),
      usable: segment.last - segment.first + 1n,
      inUse: held.filter((address) => within(segment, address)).length,
    }));
  }

  state(): PoolState {
    return {
      cursors: Object.fromEntries(Array.from(this.#allCursors(), ([cidr, cursor]) => [cidr, String(cursor)])),
      resting: Array.from(this.#resting, ([address, releasedAtMs]) => ({ address, releasedAtMs })),
    };
  }

  /** Remembered and present cursors, the CIDRs of today last; the oldest are forgotten. */
  #allCursors(): Map<string, bigint> {
    const all = new Map(this.#cursors);
    for (const { prefix, cursor } of this.#segments) {
      all.delete(formatPrefix(prefix));
      all.set(formatPrefix(prefix), cursor);
    }
    return new Map([...all].slice(-CURSORS_LIMIT));
  }

  #usable(address: Address): boolean {
    return this.#segments.some((segment) => within(segment, address));
  }

  #restedLongest(): Address | undefined {
    for (const address of this.#resting.keys()) if (this.#usable(address)) return address;
    return undefined;
  }

  #rest(address: Address, nowMs: number): void {
    if (this.#holders.has(address)) return;
    this.#resting.delete(address);
    this.#resting.set(address, nowMs);
    if (this.#resting.size > RESTING_LIMIT) {
      const oldest = this.#resting.keys().next().value;
      if (oldest !== undefined) this.#resting.delete(oldest);
    }
  }

  /** At most one step per address in use or resting, so a full search of a /64 ends. */
  #fresh(): Address | undefined {
    const taken = BigInt(this.#holders.size + this.#resting.size);
    for (const segment of this.#segments) {
      const size = segment.last - segment.first + 1n;
      const steps = size < taken + 1n ? size : taken + 1n;
      for (let i = 0n; i < steps; i++) {
        const offset = segment.first + ((segment.cursor - segment.first + i) % size);
        const address = addressAfter(segment.prefix.address, offset);
        if (this.#holders.has(address) || this.#resting.has(address)) continue;
        segment.cursor = offset === segment.last ? segment.first : offset + 1n;
        return address;
      }
    }
    return undefined;
  }
}
