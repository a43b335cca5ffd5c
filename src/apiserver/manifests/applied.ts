// SPDX-License-Identifier: Apache-2.0
// Brings the store to what the files of a folder say. A file counts as one: if any of its objects is refused, all of them
// stay as they were. Objects whose kind or namespace is not there yet wait for it. What leaves a file is deleted.
import { Fault } from "../../base/fault.ts";
import type { WriteOptions } from "../core/accept.ts";
import type { Address } from "../core/owners.ts";
import { PLAIN_DELETE, type Remover } from "../core/remover.ts";
import type { Writer } from "../core/writer.ts";
import { fieldErrors } from "../faults.ts";
import { cloneJson, isObject, type JsonObject, type KubeObject, own, textAt } from "../json.ts";
import type { Registry } from "../registry.ts";
import { describeObject, join, type ManifestDocument, type ManifestFault, manifestFault } from "./read.ts";
import { threeWay } from "./three-way.ts";

/** Names the file that an object comes from. */
export const MANIFEST_ANNOTATION = "hookline.io/manifest";

interface Entry {
  document: ManifestDocument;
  /** The manifest as it was last applied; undefined while the object waits. */
  applied: JsonObject | undefined;
}

/** The objects of each file, by identity. */
type Files = Map<string, Map<string, Entry>>;

const FIRST = ["CustomResourceDefinition", "Namespace"];

export class AppliedManifests {
  readonly #registry: Registry;
  readonly #writer: Writer;
  readonly #remover: Remover;
  readonly #files: Files = new Map();
  readonly #faults = new Map<string, ManifestFault[]>();

  constructor(registry: Registry, writer: Writer, remover: Remover) {
    this.#registry = registry;
    this.#writer = writer;
    this.#remover = remover;
  }

  get faults(): ManifestFault[] {
    return [...this.#faults.values()].flat();
  }

  faultsOf(file: string): readonly ManifestFault[] {
    return this.#faults.get(file) ?? [];
  }

  /** A file that cannot be read: what it said before stays in force. */
  refuse(file: string, found: ManifestFault[]): void {
    this.#faults.set(file, found);
  }

  /** Puts a file in force, or refuses it whole. */
  apply(file: string, documents: readonly ManifestDocument[]): void {
    const before = this.#files.get(file) ?? new Map<string, Entry>();
    const found: ManifestFault[] = [];
    const entries = new Map<string, Entry>();
    for (const document of documents) {
      const identity = identityOf(document.object);
      const fault =
        this.#duplicate(file, identity, entries, document) ?? this.#try(file, document, before, true);
      if (fault && !fault.waiting) found.push(fault);
      entries.set(identity, { document, applied: before.get(identity)?.applied });
    }
    this.#faults.delete(file);
    if (found.length > 0) {
      this.#faults.set(file, found);
      return;
    }
    this.#files.set(file, entries);
    for (const [identity, entry] of before) if (!entries.has(identity)) this.#delete(file, entry);
    this.#put(file, [...entries.values()]);
  }

  /** A file is gone: so are its objects. */
  remove(file: string): void {
    const entries = this.#files.get(file);
    this.#files.delete(file);
    this.#faults.delete(file);
    // What came first goes last: objects before their namespace and their CRD.
    for (const entry of inOrder([...(entries?.values() ?? [])]).reverse()) this.#delete(file, entry);
  }

  /** Tries again what waits for a kind or a namespace. Returns whether anything changed. */
  retry(): boolean {
    let changed = false;
    for (const [file, entries] of this.#files) {
      const waiting = [...entries.values()].filter((entry) => entry.applied === undefined);
      if (waiting.length === 0) continue;
      this.#faults.set(
        file,
        this.faultsOf(file).filter((fault) => !fault.waiting),
      );
      this.#put(file, waiting);
      changed ||= waiting.some((entry) => entry.applied !== undefined);
    }
    return changed;
  }

  #put(file: string, entries: Entry[]): void {
    const found = [...this.faultsOf(file)];
    const applied = this.#files.get(file) ?? new Map<string, Entry>();
    for (const entry of inOrder(entries)) {
      const fault = this.#try(file, entry.document, applied, false);
      if (fault) found.push(fault);
      else entry.applied = entry.document.object;
    }
    if (found.length > 0) this.#faults.set(file, found);
    else this.#faults.delete(file);
  }

  #duplicate(
    file: string,
    identity: string,
    here: Map<string, Entry>,
    { document, path, object }: ManifestDocument,
  ): ManifestFault | undefined {
    const other = here.has(identity)
      ? file
      : [...this.#files].find(([f, e]) => f !== file && e.has(identity))?.[0];
    if (other === undefined) return undefined;
    const where = other === file ? "this file" : other;
    return manifestFault(file, {
      document,
      path,
      object: describeObject(object),
      why: `is in ${where} already`,
    });
  }

  /** Creates or changes one object; a dry run only checks. Returns what is wrong. */
  #try(
    file: string,
    { document, path, object }: ManifestDocument,
    before: Map<string, Entry>,
    dryRun: boolean,
  ): ManifestFault | undefined {
    const at = { document, object: describeObject(object) };
    const address = this.#address(object);
    if (!address) {
      const why = `no kind ${textAt(object, "kind")} in ${textAt(object, "apiVersion")}; waiting for its CustomResourceDefinition`;
      return manifestFault(file, { ...at, path: join(path, "kind"), why, waiting: true });
    }
    const options: WriteOptions = { dryRun, validation: "Strict", warnings: [], withStatus: true };
    try {
      this.#write(address, labelled(object, file), before.get(identityOf(object))?.applied, options);
      return undefined;
    } catch (thrown) {
      const fault = Fault.from(thrown);
      const waiting = fault.code === "API_NOT_FOUND" && fault.context.resource === "namespaces";
      const [error] = fieldErrors(fault);
      if (error) return manifestFault(file, { ...at, path: join(path, error.field), why: error.message });
      const field =
        typeof fault.context.path === "string" ? fault.context.path : waiting ? "metadata.namespace" : "";
      return manifestFault(file, { ...at, path: join(path, field), why: fault.detail, waiting });
    }
  }

  #write(address: Address, object: JsonObject, last: JsonObject | undefined, options: WriteOptions): void {
    const { resource, namespace, name } = address;
    if (!resource.collection.get(namespace, name)) {
      this.#writer.create(resource, namespace, object, options);
      return;
    }
    const change = (current: KubeObject) => threeWay(last, object, current);
    this.#writer.patch(address, "", change, options);
  }

  #delete(file: string, entry: Entry): void {
    if (!entry.applied) return;
    const address = this.#address(entry.document.object);
    const item = address?.resource.collection.get(address.namespace, address.name);
    // An object that somebody replaced by one of another origin is not ours to delete.
    if (!address || !item || item.object.metadata.annotations?.[MANIFEST_ANNOTATION] !== file) return;
    try {
      this.#remover.delete(address, PLAIN_DELETE);
    } catch (thrown) {
      const { document, object } = entry.document;
      const why = `cannot be deleted: ${Fault.from(thrown).detail}`;
      const fault = manifestFault(file, { document, object: describeObject(object), why });
      this.#faults.set(file, [...this.faultsOf(file), fault]);
    }
  }

  #address(object: JsonObject): Address | undefined {
    const resource = this.#registry.findKind(textAt(object, "apiVersion"), textAt(object, "kind"));
    if (!resource) return undefined;
    const namespace = resource.namespaced ? textAt(object, "metadata", "namespace") || "default" : undefined;
    return { resource, namespace, name: textAt(object, "metadata", "name") };
  }
}

function inOrder(entries: Entry[]): Entry[] {
  const rank = (entry: Entry) => {
    const index = FIRST.indexOf(textAt(entry.document.object, "kind"));
    return index < 0 ? FIRST.length : index;
  };
  return [...entries].sort((a, b) => rank(a) - rank(b));
}

function identityOf(object: JsonObject): string {
  const group = textAt(object, "apiVersion").split("/").slice(0, -1).join("/");
  const namespace = textAt(object, "metadata", "namespace") || "default";
  return [group, textAt(object, "kind"), namespace, textAt(object, "metadata", "name")].join("|");
}

/** A copy that names its file, without what only a server can know. */
function labelled(object: JsonObject, file: string): JsonObject {
  const copy = cloneJson(object);
  const metadata = copy.metadata as JsonObject;
  const annotations = own(metadata, "annotations") ?? {};
  for (const field of ["uid", "resourceVersion", "generation", "creationTimestamp", "selfLink"])
    delete metadata[field];
  // Anything else than an object is left for the schema to refuse.
  if (isObject(annotations)) metadata.annotations = { ...annotations, [MANIFEST_ANNOTATION]: file };
  return copy;
}
