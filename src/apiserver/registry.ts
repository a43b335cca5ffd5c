// SPDX-License-Identifier: Apache-2.0
// The kinds being served: built-in ones from kinds.ts, custom ones from the CRDs in the store, each version with its
// schema, columns and the collection that all versions of a kind share.
import { at, isObject, type JsonObject, type KubeObject, listAt, own, textAt } from "./json.ts";
import type { Kind } from "./kinds/kind.ts";
import { KINDS } from "./kinds/kinds.ts";
import type { Limits } from "./limits.ts";
import { subdomainName } from "./names.ts";
import { definitionName, METADATA } from "./schema/builtin.ts";
import { type Constraints, compileConstraints } from "./schema/constraints.ts";
import type { Schema } from "./schema/types.ts";
import { type Clock, Collection } from "./store/collection.ts";
import { type Column, printerColumns } from "./table/columns.ts";

/** One kind in one version, as requests meet it. */
export interface Resource {
  readonly group: string;
  readonly version: string;
  /** `v1`, `cilium.io/v2`. */
  readonly apiVersion: string;
  readonly kind: string;
  readonly listKind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly namespaced: boolean;
  readonly status: boolean;
  readonly generation: boolean;
  /** Rules of a built-in kind; undefined for custom resources. */
  readonly builtin: Kind | undefined;
  readonly schema: Schema;
  readonly constraints: Constraints | undefined;
  /** Fields that field selectors may use. */
  readonly fields: readonly string[];
  readonly columns: readonly Column[];
  readonly nameRule: (name: string) => string | undefined;
  readonly collection: Collection;
  /** Whether the version is listed and accepts requests. */
  readonly served: boolean;
}

const COMMON_FIELDS = ["metadata.name", "metadata.namespace"];

/** `pods`, `ciliumnodes.cilium.io`: names a kind in messages and limits. */
export function qualifiedPlural(resource: { plural: string; group: string }): string {
  return resource.group ? `${resource.plural}.${resource.group}` : resource.plural;
}

export class Registry {
  readonly #clock: Clock;
  readonly #limits: Limits;
  readonly #resources = new Map<string, Resource>();
  readonly #collections = new Map<string, Collection>();
  readonly #listeners = new Set<() => void>();
  /** Grows with every change of what is served: caches of documents compare it. */
  generation = 0;

  constructor(clock: Clock, limits: Limits) {
    this.#clock = clock;
    this.#limits = limits;
    for (const kind of KINDS) this.#addBuiltin(kind);
  }

  /** @returns undefined when nothing of that name is served */
  find(group: string, version: string, plural: string): Resource | undefined {
    const found = this.#resources.get(`${group}/${version}/${plural}`);
    return found?.served ? found : undefined;
  }

  findKind(apiVersion: string, kind: string): Resource | undefined {
    return this.all().find((r) => r.apiVersion === apiVersion && r.kind === kind);
  }

  /** Every served version of every kind, in order of addition. */
  all(): Resource[] {
    return [...this.#resources.values()].filter((r) => r.served);
  }

  /** One resource per kind. */
  kinds(): Resource[] {
    const seen = new Set<Collection>();
    return [...this.#resources.values()].filter((r) => !seen.has(r.collection) && seen.add(r.collection));
  }

  /** A built-in kind, which is always there. */
  builtin(plural: string): Resource {
    return this.kinds().find((r) => r.builtin?.plural === plural) as Resource;
  }

  /** Called after each change of what is served. Returns what ends it. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Another CRD that has taken the kind or a name that `crd` asks for, or undefined. */
  conflict(crd: KubeObject): string | undefined {
    const group = textAt(crd, "spec", "group");
    const wanted = namesOf(crd);
    for (const other of this.kinds()) {
      if (other.group !== group || `${other.plural}.${group}` === crd.metadata.name) continue;
      const taken = [other.kind, other.listKind, other.plural, other.singular, ...other.shortNames];
      const clash = wanted.find((name) => taken.includes(name));
      if (clash) return `"${clash}" is in use by ${qualifiedPlural(other)}`;
    }
    return undefined;
  }

  /** Serves a CRD, new or changed. It has been validated. */
  establish(crd: KubeObject): void {
    const collection = this.#collections.get(crd.metadata.name) ?? new Collection(this.#clock, this.#limits);
    this.#collections.set(crd.metadata.name, collection);
    this.#drop(collection);
    for (const version of listAt(crd, "spec", "versions")) this.#addCustom(crd, version, collection);
    this.#changed();
  }

  /** Stops serving a CRD; its watches end. */
  remove(crd: KubeObject): void {
    const collection = this.#collections.get(crd.metadata.name);
    if (!collection) return;
    this.#collections.delete(crd.metadata.name);
    this.#drop(collection);
    collection.close();
    this.#changed();
  }

  #drop(collection: Collection): void {
    for (const [key, resource] of this.#resources) {
      if (resource.collection === collection) this.#resources.delete(key);
    }
  }

  #changed(): void {
    this.generation += 1;
    for (const listener of [...this.#listeners]) listener();
  }

  #addBuiltin(kind: Kind): void {
    const { group, version, plural } = kind;
    this.#resources.set(`${group}/${version}/${plural}`, {
      group,
      version,
      apiVersion: group ? `${group}/${version}` : version,
      kind: kind.kind,
      listKind: `${kind.kind}List`,
      plural,
      singular: kind.singular,
      shortNames: kind.shortNames ?? [],
      categories: kind.categories ?? [],
      namespaced: kind.namespaced,
      status: kind.status ?? false,
      generation: kind.generation ?? false,
      builtin: kind,
      schema: { $ref: definitionName(kind.model) },
      constraints: undefined,
      fields: [...COMMON_FIELDS, ...(kind.fields ?? [])],
      columns: kind.columns,
      nameRule: kind.name ?? subdomainName,
      collection: new Collection(this.#clock, this.#limits),
      served: true,
    });
  }

  #addCustom(crd: KubeObject, version: unknown, collection: Collection): void {
    const group = textAt(crd, "spec", "group");
    const name = textAt(version, "name");
    const names = own(crd.spec, "names");
    const kind = textAt(names, "kind");
    const schema = (at(version, "schema", "openAPIV3Schema") ?? { type: "object" }) as Schema;
    const selectable = listAt(version, "selectableFields").map((f) =>
      textAt(f, "jsonPath").replace(/^\./, ""),
    );
    this.#resources.set(`${group}/${name}/${textAt(names, "plural")}`, {
      group,
      version: name,
      apiVersion: `${group}/${name}`,
      kind,
      listKind: textAt(names, "listKind") || `${kind}List`,
      plural: textAt(names, "plural"),
      singular: textAt(names, "singular") || kind.toLowerCase(),
      shortNames: listAt(names, "shortNames").map(String),
      categories: listAt(names, "categories").map(String),
      namespaced: textAt(crd, "spec", "scope") === "Namespaced",
      status: isObject(at(version, "subresources", "status")),
      generation: true,
      builtin: undefined,
      schema: withEnvelope(schema),
      constraints: compileConstraints(withoutMetadata(schema)),
      fields: [...COMMON_FIELDS, ...selectable],
      columns: printerColumns(version),
      nameRule: subdomainName,
      collection,
      served: own(version, "served") === true,
    });
  }
}

function withEnvelope(schema: Schema): Schema {
  const text: Schema = { type: "string" };
  return {
    ...schema,
    properties: { ...schema.properties, apiVersion: text, kind: text, metadata: METADATA },
  };
}

/** apiVersion, kind and metadata are the server's matter, whatever a CRD says of them. */
function withoutMetadata(schema: Schema): Schema {
  const { apiVersion: _a, kind: _k, metadata: _m, ...properties } = schema.properties ?? {};
  const required = (schema.required ?? []).filter(
    (field) => !["apiVersion", "kind", "metadata"].includes(field),
  );
  return { ...schema, properties, required };
}

function namesOf(crd: KubeObject): string[] {
  const names = own(crd.spec, "names") as JsonObject;
  return [
    ...["kind", "listKind", "plural", "singular"].map((field) => textAt(names, field)),
    ...listAt(names, "shortNames").map(String),
  ].filter((name) => name !== "");
}
