// SPDX-License-Identifier: Apache-2.0
// Who owns whom by ownerReferences: what a removed object leaves behind without any living owner is to be removed too,
// as the garbage collector of a real cluster does.
import type { ObjectMeta } from "../json.ts";
import type { Resource } from "../registry.ts";

/** Where an object is. */
export interface Address {
  resource: Resource;
  namespace: string | undefined;
  name: string;
}

export class Owners {
  readonly #living = new Set<string>();
  readonly #dependents = new Map<string, Map<string, Address>>();

  /** Notes a stored object in place of its earlier state. */
  stored(address: Address, metadata: ObjectMeta, before: ObjectMeta | undefined): void {
    this.#living.add(metadata.uid);
    if (before) this.#unlink(before);
    for (const { uid } of metadata.ownerReferences ?? []) {
      const dependents = this.#dependents.get(uid) ?? new Map<string, Address>();
      dependents.set(metadata.uid, address);
      this.#dependents.set(uid, dependents);
    }
  }

  /** Notes a removal. Returns the objects that lost their owner with it. */
  removed(metadata: ObjectMeta): Address[] {
    this.#living.delete(metadata.uid);
    this.#unlink(metadata);
    const dependents = [...(this.#dependents.get(metadata.uid)?.values() ?? [])];
    this.#dependents.delete(metadata.uid);
    return dependents;
  }

  /** Whether any of an object's owners still lives. */
  owned(metadata: ObjectMeta): boolean {
    return (metadata.ownerReferences ?? []).some(({ uid }) => this.#living.has(uid));
  }

  #unlink(metadata: ObjectMeta): void {
    for (const { uid } of metadata.ownerReferences ?? []) {
      const dependents = this.#dependents.get(uid);
      dependents?.delete(metadata.uid);
      if (dependents?.size === 0) this.#dependents.delete(uid);
    }
  }
}
