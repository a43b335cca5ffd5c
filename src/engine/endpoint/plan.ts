// SPDX-License-Identifier: Apache-2.0
// Names, ids and map entries of endpoints, from their specs. Pure.
import { createHash } from "node:crypto";
import { type Address, NO_ADDRESS } from "../../base/addr.ts";
import { faults } from "./faults.ts";
import { type Endpoint, endpointAddresses } from "./spec.ts";

/** `hl` and ten hex digits: 12 characters of the 15 that a device name may have. */
export function hostDeviceName(containerId: string, ifName: string): string {
  return `hl${createHash("sha256").update(`${containerId}/${ifName}`).digest("hex").slice(0, 10)}`;
}

/** Whether a device carries a name that hostDeviceName could have given. */
export function isPodDevice(name: string): boolean {
  return /^hl[0-9a-f]{10}$/.test(name);
}

/** A random unicast, locally administered MAC address from six random bytes. */
export function macFrom(random: Uint8Array): string {
  const bytes = [0x02, ...random.subarray(1, 6)];
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

const FIRST_ID = 1;
const LAST_ID = 65535;

/**
 * Endpoint ids, given out in turn: an id comes back only after all others, so that a flow record of a removed endpoint
 * is swept long before its owner's number has a new meaning.
 */
export class EndpointIds {
  readonly #used = new Set<number>();
  #next: number;

  constructor(next = FIRST_ID) {
    this.#next = next >= FIRST_ID && next <= LAST_ID ? next : FIRST_ID;
  }

  /** Where the search goes on, for the state folder. */
  get next(): number {
    return this.#next;
  }

  /** Marks an id of the state folder as taken. */
  adopt(id: number): void {
    this.#used.add(id);
  }

  /** @throws Fault ENDPOINT_IDS_EXHAUSTED */
  allocate(): number {
    for (let tries = 0; tries < LAST_ID; tries++) {
      const id = this.#next;
      this.#next = id === LAST_ID ? FIRST_ID : id + 1;
      if (this.#used.has(id)) continue;
      this.#used.add(id);
      return id;
    }
    throw faults.ENDPOINT_IDS_EXHAUSTED({ count: LAST_ID });
  }

  release(id: number): void {
    this.#used.delete(id);
  }
}

/** Value of `endpoints` and `endpoint_addrs`. */
export interface EndpointEntry {
  readonly addr4: Address;
  readonly addr6: Address;
  readonly ifindex: number;
  readonly identity: number;
  readonly id: number;
  readonly flags: number;
  readonly mac: string;
  readonly hostMac: string;
}

export interface EndpointMaps {
  /** By device index. */
  readonly endpoints: Map<number, EndpointEntry>;
  /** By address. */
  readonly addresses: Map<Address, EndpointEntry>;
  /** Words of 64 ids. */
  readonly ids: Map<number, bigint>;
}

/** What the three maps must hold for these endpoints. */
export function planEndpoints(endpoints: Iterable<Endpoint>): EndpointMaps {
  const maps: EndpointMaps = { endpoints: new Map(), addresses: new Map(), ids: new Map() };
  for (const endpoint of endpoints) {
    const entry: EndpointEntry = {
      addr4: endpoint.ipv4 ?? NO_ADDRESS,
      addr6: endpoint.ipv6 ?? NO_ADDRESS,
      ifindex: endpoint.ifindex,
      identity: endpoint.identity,
      id: endpoint.id,
      flags: 0,
      mac: endpoint.mac,
      hostMac: endpoint.hostMac,
    };
    maps.endpoints.set(endpoint.ifindex, entry);
    for (const address of endpointAddresses(endpoint)) maps.addresses.set(address, entry);
    const word = Math.floor(endpoint.id / 64);
    maps.ids.set(word, (maps.ids.get(word) ?? 0n) | (1n << BigInt(endpoint.id % 64)));
  }
  return maps;
}
