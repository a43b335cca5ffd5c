// SPDX-License-Identifier: Apache-2.0
// The writes of the API: create, update, patch. One write is one synchronous step from reading to storing, so nothing can
// come in between; optimistic concurrency is for what clients read earlier.
import { randomInt, randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { faults } from "../faults.ts";
import { at, cloneJson, type JsonObject, type KubeObject, own, textAt } from "../json.ts";
import type { World } from "../kinds/kind.ts";
import type { Limits } from "../limits.ts";
import { qualifiedPlural, type Registry, type Resource } from "../registry.ts";
import type { Definitions } from "../schema/types.ts";
import { allocateService } from "../service-addresses.ts";
import type { Item } from "../store/collection.ts";
import { acceptBody, completeObject, invalid, matchUrl, type WriteOptions } from "./accept.ts";
import { type Address, Owners } from "./owners.ts";

const NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789";

/** What the writer and the remover share. */
export interface Core {
  registry: Registry;
  limits: Limits;
  owners: Owners;
  /** Loaded before the first write; see schema/builtin.ts. */
  definitions: Definitions;
}

export function newCore(registry: Registry, limits: Limits): Core {
  return { registry, limits, owners: new Owners(), definitions: new Map() };
}

/** RFC 3339 to the second, as timestamps of metadata are. */
export function timestamp(): string {
  return `${new Date().toISOString().slice(0, 19)}Z`;
}

export function notFound(resource: Resource, name: string) {
  return faults.API_NOT_FOUND({ resource: resource.plural, group: resource.group, name });
}

export class Writer {
  readonly #core: Core;
  readonly #world: World;
  /** Finishes the removal of an object whose last finalizer went. */
  readonly #remove: (resource: Resource, item: Item) => void;

  constructor(core: Core, remove: (resource: Resource, item: Item) => void) {
    this.#core = core;
    this.#remove = remove;
    this.#world = {
      allocateService: (service, old) => {
        const all = core.registry.builtin("services").collection.items();
        return allocateService(
          service,
          old,
          all.map((item) => item.object),
        );
      },
    };
  }

  /** @throws Fault API_NOT_FOUND */
  current({ resource, namespace, name }: Address): Item {
    const item = resource.collection.get(namespace, name);
    if (!item) throw notFound(resource, name);
    return item;
  }

  /**
   * Stores a new object.
   * @throws Fault API_EXISTS, API_INVALID, API_BAD_REQUEST, API_NOT_FOUND (namespace), API_FORBIDDEN, API_TOO_LARGE
   */
  create(
    resource: Resource,
    namespace: string | undefined,
    body: unknown,
    options: WriteOptions,
  ): KubeObject {
    const { definitions } = this.#core;
    const accepted = acceptBody(resource, body, definitions, options);
    const { metadata } = accepted;
    matchUrl(resource, metadata, { namespace, name: undefined });
    if (!metadata.name && metadata.generateName)
      metadata.name = this.#generate(resource, namespace, metadata);
    this.#checkNamespace(resource, namespace);
    for (const field of ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"]) {
      delete metadata[field];
    }
    Object.assign(metadata, { uid: randomUUID(), creationTimestamp: timestamp(), resourceVersion: "" });
    if (resource.generation) metadata.generation = 1;
    const mayBringStatus = options.withStatus || resource.builtin?.statusOnCreate;
    if (resource.status && !mayBringStatus) delete accepted.status;
    const object = accepted as unknown as KubeObject;
    const name = String(metadata.name ?? "");
    const { kind, group, plural } = resource;
    if (resource.collection.get(namespace, name))
      throw faults.API_EXISTS({ resource: plural, group, name, kind });
    this.#checkCount(resource, name);
    this.#complete(resource, object, undefined, options);
    return options.dryRun ? object : this.#store(resource, object, undefined);
  }

  /**
   * Replaces an object, or with subresource "status" its status only.
   * @throws as create, and Fault API_CONFLICT when the body's resourceVersion or uid is not the stored one
   */
  update(address: Address, subresource: string, body: unknown, options: WriteOptions): KubeObject {
    const old = this.current(address);
    return this.#replace({ ...address, old, subresource }, body, options);
  }

  /** Replaces an object by what `patch` makes of a copy of it, which carries the apiVersion of the URL. */
  patch(
    address: Address,
    subresource: string,
    patch: (current: KubeObject) => unknown,
    options: WriteOptions,
  ): KubeObject {
    const old = this.current(address);
    const copy = cloneJson(old.object);
    copy.apiVersion = address.resource.apiVersion;
    return this.#replace({ ...address, old, subresource }, patch(copy), options);
  }

  /**
   * Binds a pod to the node that a Binding names.
   * @throws Fault API_CONFLICT when it is bound already
   */
  bind(address: Address, body: unknown, options: WriteOptions): void {
    const node = textAt(body, "target", "name");
    if (!node) throw faults.API_BAD_REQUEST({ why: "a Binding needs target.name" });
    const old = this.current(address);
    const bound = textAt(old.object, "spec", "nodeName");
    if (bound) throw this.#conflict(address, `pod ${address.name} is already assigned to node "${bound}"`);
    const object = cloneJson(old.object);
    (object.spec as JsonObject).nodeName = node;
    const condition = { type: "PodScheduled", status: "True", lastTransitionTime: timestamp() };
    const others = (at(object, "status", "conditions") as JsonObject[] | undefined) ?? [];
    const status = (object.status ?? {}) as JsonObject;
    object.status = {
      ...status,
      conditions: [...others.filter((c) => c.type !== "PodScheduled"), condition],
    };
    this.#complete(address.resource, object, old.object, options);
    if (!options.dryRun) this.#store(address.resource, object, old);
  }

  /** Stores an object of our own making as it is, without checks: what the server is born with. */
  plant(resource: Resource, object: Omit<KubeObject, "metadata"> & { metadata: { name: string } }): void {
    const metadata = {
      ...object.metadata,
      uid: randomUUID(),
      creationTimestamp: timestamp(),
      resourceVersion: "",
    };
    const whole = { ...object, metadata } as KubeObject;
    if (resource.generation) whole.metadata.generation = 1;
    resource.builtin?.prepare?.(whole, undefined, this.#world);
    this.#store(resource, whole, undefined);
  }

  #replace(target: Replacement, body: unknown, options: WriteOptions): KubeObject {
    const { resource, namespace, name, old } = target;
    const accepted = acceptBody(resource, body, this.#core.definitions, options);
    matchUrl(resource, accepted.metadata, { namespace, name });
    this.#checkVersion(target, accepted.metadata);
    const object = merged(target, accepted as unknown as KubeObject, options);
    this.#complete(resource, object, old.object, options);
    // A write that changes nothing makes no version and no event: clients that apply in a loop stay silent.
    if (isDeepStrictEqual(object, old.object)) return old.object;
    if (resource.generation && specChanged(old.object, object)) {
      object.metadata.generation = (old.object.metadata.generation ?? 0) + 1;
    }
    if (options.dryRun) return object;
    const item = this.#store(resource, object, old);
    const finished = object.metadata.deletionTimestamp && !object.metadata.finalizers?.length;
    if (finished && old.object.metadata.finalizers?.length) {
      this.#remove(resource, resource.collection.get(namespace, name) as Item);
    }
    return item;
  }

  #complete(
    resource: Resource,
    object: KubeObject,
    old: KubeObject | undefined,
    options: WriteOptions,
  ): void {
    completeObject(resource, object, old, { world: this.#world, limits: this.#core.limits });
    if (resource.builtin?.plural !== "customresourcedefinitions") return;
    const clash = this.#core.registry.conflict(object);
    if (clash) {
      throw invalid(resource, object.metadata.name, [
        { field: "spec.names", reason: "FieldValueInvalid", message: clash },
      ]);
    }
    if (JSON.stringify(object.spec).includes('"x-kubernetes-validations"')) {
      options.warnings.push("x-kubernetes-validations are kept but not evaluated by this server");
    }
  }

  #store(resource: Resource, object: KubeObject, old: Item | undefined): KubeObject {
    const { namespace, name } = object.metadata;
    const { owners, registry } = this.#core;
    owners.stored({ resource, namespace, name }, object.metadata, old?.object.metadata);
    const item = resource.collection.put(object);
    if (resource.builtin?.plural === "customresourcedefinitions") registry.establish(item.object);
    return item.object;
  }

  #generate(resource: Resource, namespace: string | undefined, metadata: JsonObject): string {
    const base = String(metadata.generateName).slice(0, 58);
    for (let attempt = 0; attempt < 8; attempt++) {
      const suffix = Array.from({ length: 5 }, () => NAME_ALPHABET[randomInt(NAME_ALPHABET.length)]);
      const name = base + suffix.join("");
      if (!resource.collection.get(namespace, name)) return name;
    }
    throw faults.API_TOO_MANY({ why: `no free name for ${base}` });
  }

  #checkNamespace(resource: Resource, namespace: string | undefined): void {
    if (!resource.namespaced || namespace === undefined) return;
    const namespaces = this.#core.registry.builtin("namespaces");
    const found = namespaces.collection.get(undefined, namespace);
    if (!found) throw notFound(namespaces, namespace);
    if (found.object.metadata.deletionTimestamp) {
      const why = `namespace ${namespace} is being terminated`;
      throw faults.API_FORBIDDEN({ resource: resource.plural, name: namespace, why });
    }
  }

  #checkCount(resource: Resource, name: string): void {
    const limit = this.#core.limits.objectsPerKind;
    if (resource.collection.size < limit) return;
    const why = `there are ${limit} ${qualifiedPlural(resource)} already, the limit of this server`;
    throw faults.API_FORBIDDEN({ resource: resource.plural, name, why });
  }

  #checkVersion(target: Replacement, metadata: JsonObject): void {
    const { metadata: old } = target.old.object;
    const version = own(metadata, "resourceVersion");
    if (version && version !== old.resourceVersion) {
      const why =
        "the object has been modified; please apply your changes to the latest version and try again";
      throw this.#conflict(target, why);
    }
    const uid = own(metadata, "uid");
    if (uid && uid !== old.uid) {
      throw this.#conflict(target, `the uid is ${old.uid}, not ${uid}: it is another object of that name`);
    }
  }

  #conflict({ resource, name }: Address, why: string) {
    return faults.API_CONFLICT({ resource: resource.plural, group: resource.group, name, why });
  }
}

/** What is being replaced: an object, or one subresource of it. */
interface Replacement extends Address {
  old: Item;
  subresource: string;
}

/** The new state: what the server owns comes from the old object, status only from writers of status. */
function merged(target: Replacement, incoming: KubeObject, options: WriteOptions): KubeObject {
  const { resource, subresource } = target;
  const old = target.old.object;
  if (subresource === "status") {
    const object = cloneJson(old);
    object.apiVersion = incoming.apiVersion;
    if (incoming.status === undefined) delete object.status;
    else object.status = incoming.status;
    return object;
  }
  const { metadata } = incoming as unknown as { metadata: JsonObject };
  for (const field of ["selfLink", "managedFields"]) delete metadata[field];
  for (const field of [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "generateName",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
  ] as const) {
    if (old.metadata[field] === undefined) delete metadata[field];
    else metadata[field] = old.metadata[field];
  }
  if (resource.status && !(options.withStatus && incoming.status !== undefined)) {
    if (old.status === undefined) delete incoming.status;
    else incoming.status = cloneJson(old.status);
  }
  return incoming;
}

function specChanged(old: KubeObject, object: KubeObject): boolean {
  const { metadata: _m, status: _s, apiVersion: _a, ...before } = old;
  const { metadata: _n, status: _t, apiVersion: _b, ...after } = object;
  return !isDeepStrictEqual(before, after);
}
