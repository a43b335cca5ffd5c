// SPDX-License-Identifier: Apache-2.0
// Deletion: preconditions, finalizers, the grace period of pods where a pod runner asked for it, namespaces with all that
// is in them, CRDs with all their objects, and what loses its owner.
import { faults } from "../faults.ts";
import { at, cloneJson, isObject, type KubeObject, own, textAt } from "../json.ts";
import type { Resource } from "../registry.ts";
import type { Item } from "../store/collection.ts";
import type { Address } from "./owners.ts";
import { type Core, notFound, timestamp } from "./writer.ts";

/** Namespaces that the server cannot do without. */
export const OWN_NAMESPACES = ["default", "kube-system", "kube-public", "kube-node-lease"] as const;

export interface DeleteOptions {
  dryRun: boolean;
  gracePeriodSeconds: number | undefined;
  /** Leave what the object owns. */
  orphan: boolean;
  uid: string | undefined;
  resourceVersion: string | undefined;
}

export const PLAIN_DELETE: Readonly<DeleteOptions> = Object.freeze({
  dryRun: false,
  gracePeriodSeconds: undefined,
  orphan: false,
  uid: undefined,
  resourceVersion: undefined,
});

/**
 * Reads DeleteOptions from a body and the query; the query wins, as in the real server.
 * @throws Fault API_BAD_REQUEST
 */
export function readDeleteOptions(body: unknown, query: URLSearchParams): DeleteOptions {
  if (body !== undefined && !isObject(body))
    throw faults.API_BAD_REQUEST({ why: "DeleteOptions are an object" });
  const grace = query.get("gracePeriodSeconds") ?? own(body, "gracePeriodSeconds");
  const seconds = grace === undefined || grace === null ? undefined : Number(grace);
  if (seconds !== undefined && !(Number.isInteger(seconds) && seconds >= 0)) {
    throw faults.API_BAD_REQUEST({ why: `gracePeriodSeconds: ${String(grace)} is not a number of seconds` });
  }
  const policy = query.get("propagationPolicy") ?? own(body, "propagationPolicy");
  const orphan = policy === "Orphan" || own(body, "orphanDependents") === true;
  const dryRun = query.has("dryRun") || own(body, "dryRun") !== undefined;
  return {
    dryRun,
    gracePeriodSeconds: seconds,
    orphan,
    uid: textAt(body, "preconditions", "uid") || undefined,
    resourceVersion: textAt(body, "preconditions", "resourceVersion") || undefined,
  };
}

export class Remover {
  readonly #core: Core;
  readonly #podGrace: boolean;

  /** `podGrace`: pods on a node stay, marked, until their runner deletes them with a grace period of 0. */
  constructor(core: Core, podGrace: boolean) {
    this.#core = core;
    this.#podGrace = podGrace;
  }

  /**
   * Deletes an object. Returns its last state, and whether it is gone or waits for finalizers, a pod runner or the
   * contents of a namespace.
   * @throws Fault API_NOT_FOUND, API_CONFLICT, API_FORBIDDEN
   */
  delete(address: Address, options: DeleteOptions): { object: KubeObject; gone: boolean } {
    const { resource, namespace, name } = address;
    const item = resource.collection.get(namespace, name);
    if (!item) throw notFound(resource, name);
    this.#checkPreconditions(address, item.object, options);
    const isNamespace = resource.builtin?.plural === "namespaces";
    if (isNamespace && (OWN_NAMESPACES as readonly string[]).includes(name)) {
      throw faults.API_FORBIDDEN({ resource: "namespaces", name, why: "this namespace may not be deleted" });
    }
    if (options.dryRun) return { object: item.object, gone: true };
    const grace = this.#graceOf(resource, item.object, options);
    const waits = isNamespace || grace > 0 || (item.object.metadata.finalizers?.length ?? 0) > 0;
    if (!waits) return { object: this.remove(resource, item, options.orphan), gone: true };
    const marked = item.object.metadata.deletionTimestamp ? item.object : this.#mark(resource, item, grace);
    if (isNamespace) this.#empty(name);
    const left = resource.collection.get(namespace, name);
    return { object: left?.object ?? marked, gone: left === undefined };
  }

  /** Removes an object now, then what it owned, its kind if it is a CRD, its namespace if that waited for it. */
  remove(resource: Resource, item: Item, orphan = false): KubeObject {
    const { registry, owners } = this.#core;
    if (resource.builtin?.plural === "customresourcedefinitions") this.#removeKind(item.object);
    const last = resource.collection.remove(item).object;
    const dependents = owners.removed(last.metadata);
    if (!orphan) for (const dependent of dependents) this.#collect(dependent);
    const { namespace } = last.metadata;
    const holder = namespace
      ? registry.builtin("namespaces").collection.get(undefined, namespace)
      : undefined;
    if (namespace && holder?.object.metadata.deletionTimestamp) this.#finishNamespace(namespace);
    return last;
  }

  #checkPreconditions({ resource, name }: Address, object: KubeObject, options: DeleteOptions): void {
    const conflict = (field: string, wanted: string, found: string) =>
      faults.API_CONFLICT({
        resource: resource.plural,
        group: resource.group,
        name,
        why: `the precondition says ${field} ${wanted}, the object has ${found}`,
      });
    const { uid, resourceVersion } = object.metadata;
    if (options.uid && options.uid !== uid) throw conflict("uid", options.uid, uid);
    if (options.resourceVersion && options.resourceVersion !== resourceVersion) {
      throw conflict("resourceVersion", options.resourceVersion, resourceVersion);
    }
  }

  #graceOf(resource: Resource, object: KubeObject, options: DeleteOptions): number {
    if (!this.#podGrace || resource.builtin?.plural !== "pods" || !textAt(object, "spec", "nodeName"))
      return 0;
    const phase = textAt(object, "status", "phase");
    if (phase === "Succeeded" || phase === "Failed") return 0;
    return options.gracePeriodSeconds ?? Number(at(object, "spec", "terminationGracePeriodSeconds") ?? 30);
  }

  #mark(resource: Resource, item: Item, grace: number): KubeObject {
    const object = cloneJson(item.object);
    object.metadata.deletionTimestamp = timestamp();
    object.metadata.deletionGracePeriodSeconds = grace;
    if (resource.builtin?.plural === "namespaces") object.status = { phase: "Terminating" };
    return resource.collection.put(object).object;
  }

  /** Deletes all objects of a namespace, then the namespace unless something stays behind. */
  #empty(namespace: string): void {
    for (const resource of this.#core.registry.kinds()) {
      if (!resource.namespaced) continue;
      for (const { object } of [...resource.collection.items()]) {
        if (object.metadata.namespace !== namespace) continue;
        this.#deleteIfThere({ resource, namespace, name: object.metadata.name });
      }
    }
    this.#finishNamespace(namespace);
  }

  #finishNamespace(namespace: string): void {
    const namespaces = this.#core.registry.builtin("namespaces");
    const item = namespaces.collection.get(undefined, namespace);
    if (!item || item.object.metadata.finalizers?.length) return;
    const prefix = `${namespace}/`;
    const left = this.#core.registry
      .kinds()
      .some((r) => r.namespaced && r.collection.items().some((i) => i.key.startsWith(prefix)));
    if (!left) this.remove(namespaces, item);
  }

  #collect(dependent: Address): void {
    const item = dependent.resource.collection.get(dependent.namespace, dependent.name);
    if (item && !this.#core.owners.owned(item.object.metadata)) this.#deleteIfThere(dependent);
  }

  #deleteIfThere(address: Address): void {
    if (address.resource.collection.get(address.namespace, address.name)) this.delete(address, PLAIN_DELETE);
  }

  /** A CRD takes its objects along, finalizers or not: nothing could remove those later. */
  #removeKind(crd: KubeObject): void {
    const group = textAt(crd, "spec", "group");
    const plural = textAt(crd, "spec", "names", "plural");
    const resource = this.#core.registry.kinds().find((r) => r.group === group && r.plural === plural);
    for (const item of [...(resource?.collection.items() ?? [])]) {
      if (resource) this.remove(resource, item);
    }
    this.#core.registry.remove(crd);
  }
}
