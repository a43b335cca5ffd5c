// SPDX-License-Identifier: Apache-2.0
// Which container holds which addresses on this node: leases keyed by container and interface, both families or none,
// saved and restored with the endpoints, leaks collected by the runtime's list. For the CNI handler and the status.
import * as z from "zod";
import { type Address, familyOf, parseAddress } from "../../base/addr.ts";
import { formatPrefix } from "../../base/prefix.ts";
import { faults } from "./faults.ts";
import { AddressPool, type CidrCounts, type PoolCounts, type PoolState } from "./plan.ts";
import { type IpamSpec, type Lease, leaseAddresses, type Owner, ownerKey } from "./spec.ts";

/** What `snapshot` gives and `Ipam.restore` takes: plain JSON. */
export interface IpamState {
  readonly version: 1;
  readonly leases: readonly Lease[];
  readonly pools: { readonly ipv4: PoolState; readonly ipv6: PoolState };
}

/** Fill per family, for status and metrics. */
export interface IpamStatus {
  readonly cidrs: readonly string[];
  readonly ipv4: PoolCounts;
  readonly ipv6: PoolCounts;
}

/** Node-wide address management. Not persistent by itself: the owner saves `snapshot()` after a change. */
export class Ipam {
  readonly #leases = new Map<string, Lease>();
  readonly #v4: AddressPool;
  readonly #v6: AddressPool;
  readonly #now: () => number;
  #cidrs: string[];

  constructor(spec: IpamSpec, options: { state?: IpamState; now?: () => number } = {}) {
    this.#now = options.now ?? Date.now;
    this.#v4 = new AddressPool(4, spec.cidrs[4], options.state?.pools.ipv4);
    this.#v6 = new AddressPool(6, spec.cidrs[6], options.state?.pools.ipv6);
    this.#cidrs = cidrTexts(spec);
    for (const lease of options.state?.leases ?? []) this.adopt(lease);
  }

  /** Follows a change of the node's pod CIDRs. Leases outside the new ones stay until they are released. */
  setSpec(spec: IpamSpec): void {
    this.#v4.setCidrs(spec.cidrs[4]);
    this.#v6.setCidrs(spec.cidrs[6]);
    this.#cidrs = cidrTexts(spec);
  }

  /**
   * One address per family that has a CIDR; the same owner gets the same lease again.
   * @throws Fault IPAM_NO_CIDR, IPAM_EXHAUSTED; nothing is taken then
   */
  allocate(owner: Owner): Lease {
    const key = ownerKey(owner);
    const known = this.#leases.get(key);
    if (known) return known;
    if (!this.#v4.enabled && !this.#v6.enabled) throw faults.IPAM_NO_CIDR();
    const ipv4 = this.#v4.enabled ? this.#v4.allocate(key) : undefined;
    let ipv6: Address | undefined;
    try {
      ipv6 = this.#v6.enabled ? this.#v6.allocate(key) : undefined;
    } catch (thrown) {
      if (ipv4 !== undefined) this.#v4.release(ipv4, this.#now());
      throw thrown;
    }
    const lease: Lease = {
      owner,
      ...(ipv4 === undefined ? {} : { ipv4 }),
      ...(ipv6 === undefined ? {} : { ipv6 }),
    };
    this.#leases.set(key, lease);
    return lease;
  }

  /**
   * Takes over a lease that exists already, e.g. from an endpoint restored after a restart.
   * @throws Fault IPAM_ADDRESS_TAKEN if an address is held by another owner
   */
  adopt(lease: Lease): void {
    const key = ownerKey(lease.owner);
    for (const address of leaseAddresses(lease)) this.#pool(address).adopt(address, key);
    this.#leases.set(key, lease);
  }

  /** The lease of an owner, if it has one. */
  lease(owner: Pick<Owner, "containerId" | "ifName">): Lease | undefined {
    return this.#leases.get(ownerKey(owner));
  }

  /** All leases, in the order in which they were taken. */
  leases(): Lease[] {
    return [...this.#leases.values()];
  }

  /** Gives an owner's addresses back. Returns what was released; undefined if it held nothing. */
  release(owner: Pick<Owner, "containerId" | "ifName">): Lease | undefined {
    const key = ownerKey(owner);
    const lease = this.#leases.get(key);
    if (!lease) return undefined;
    this.#leases.delete(key);
    for (const address of leaseAddresses(lease)) this.#pool(address).release(address, this.#now());
    return lease;
  }

  /** Leases of a network whose attachment is not in the runtime's list: leaks. Nothing is released yet. */
  leaked(network: string, valid: readonly Pick<Owner, "containerId" | "ifName">[]): Lease[] {
    const keep = new Set(valid.map(ownerKey));
    return this.leases().filter((l) => l.owner.network === network && !keep.has(ownerKey(l.owner)));
  }

  snapshot(): IpamState {
    return { version: 1, leases: this.leases(), pools: { ipv4: this.#v4.state(), ipv6: this.#v6.state() } };
  }

  status(): IpamStatus {
    return { cidrs: this.#cidrs, ipv4: this.#v4.counts(), ipv6: this.#v6.counts() };
  }

  /** Fill of each of the node's CIDRs, IPv4 first. */
  cidrCounts(): CidrCounts[] {
    return [...this.#v4.cidrCounts(), ...this.#v6.cidrCounts()];
  }

  #pool(address: Address): AddressPool {
    return familyOf(address) === 4 ? this.#v4 : this.#v6;
  }
}

function cidrTexts(spec: IpamSpec): string[] {
  return [...spec.cidrs[4], ...spec.cidrs[6]].map(formatPrefix);
}

const addressSchema = z.string().transform((text, context) => {
  try {
    return parseAddress(text);
  } catch {
    context.addIssue({ code: "custom", message: `"${text}": not an address` });
    return z.NEVER;
  }
});

const poolSchema = z.object({
  cursors: z.record(z.string(), z.string().regex(/^\d{1,39}$/)),
  resting: z.array(z.object({ address: addressSchema, releasedAtMs: z.number() })),
});

const stateSchema = z.object({
  version: z.literal(1),
  leases: z.array(
    z.object({
      owner: z.object({ containerId: z.string().min(1), ifName: z.string().min(1), network: z.string() }),
      ipv4: z.exactOptional(addressSchema),
      ipv6: z.exactOptional(addressSchema),
    }),
  ),
  pools: z.object({ ipv4: poolSchema, ipv6: poolSchema }),
});

/**
 * Checks what a file held before it is restored.
 * @throws Fault IPAM_STATE with the path of the first wrong value
 */
export function readIpamState(value: unknown): IpamState {
  const result = stateSchema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw faults.IPAM_STATE({ path: issue?.path.join(".") || "(document)", why: issue?.message }, result.error);
}
