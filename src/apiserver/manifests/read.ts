// SPDX-License-Identifier: Apache-2.0
// Reads one manifest file: YAML with several documents or JSON, List kinds taken apart. Every fault names the document by
// its number and, where there is one, the path inside it.
import { LineCounter, parseAllDocuments } from "yaml";
import { faults } from "../faults.ts";
import { isObject, type JsonObject, own, textAt, unfit } from "../json.ts";
import type { Limits } from "../limits.ts";

/** What is wrong with a manifest, for people and programs. */
export interface ManifestFault {
  /** File name inside the folder. */
  file: string;
  /** Number of the document in the file, from 1; 0 when the file as a whole is meant. */
  document: number;
  /** `ConfigMap kube-system/cilium-config`, or "" when the document does not tell. */
  object: string;
  /** Path inside the document, or "". */
  path: string;
  why: string;
  /** Whether it needs nothing but another object to appear (its CRD, its namespace). */
  waiting: boolean;
}

export interface ManifestDocument {
  document: number;
  /** `items[3]` for an object of a List, else "". */
  path: string;
  object: JsonObject;
}

/** Aliases that one document may resolve; the library counts what they expand to. */
const MAX_ALIASES = 100;

/** `Pod default/web`, for messages. */
export function describeObject(object: unknown): string {
  const kind = textAt(object, "kind");
  const namespace = textAt(object, "metadata", "namespace");
  const name = textAt(object, "metadata", "name");
  return kind ? `${kind} ${namespace ? `${namespace}/` : ""}${name}`.trim() : "";
}

export function manifestFault(file: string, at: Partial<ManifestFault> & { why: string }): ManifestFault {
  return { file, document: 0, object: "", path: "", waiting: false, ...at };
}

/** The fault as one line. */
export function faultText(fault: ManifestFault): string {
  return faults.MANIFEST({ ...fault }).detail;
}

/** All objects of a file, and all that is wrong with it. With a fault, the objects are not to be used. */
export function readManifest(
  file: string,
  text: string,
  limits: Limits,
): { documents: ManifestDocument[]; faults: ManifestFault[] } {
  const found: ManifestFault[] = [];
  const documents: ManifestDocument[] = [];
  for (const { document, value, why } of parse(file, text)) {
    if (why !== undefined) found.push(manifestFault(file, { document, why }));
    else if (value !== null && value !== undefined) {
      const bad = unfit(value, limits);
      const object = describeObject(value);
      if (bad) found.push(manifestFault(file, { document, object, ...bad }));
      else expand(file, { document, path: "", object: value as JsonObject }, documents, found);
    }
    if (documents.length > limits.manifestDocuments) {
      const tooMany = `more than ${limits.manifestDocuments} objects in one file`;
      return { documents: [], faults: [manifestFault(file, { why: tooMany })] };
    }
  }
  return { documents, faults: found };
}

interface Parsed {
  document: number;
  value?: unknown;
  why?: string;
}

function parse(file: string, text: string): Parsed[] {
  try {
    if (file.endsWith(".json")) return [{ document: 1, value: JSON.parse(text) }];
    return parseYaml(text);
  } catch (thrown) {
    // Nesting that exhausts the parser's stack ends here as well (RangeError).
    return [{ document: 1, why: (thrown as Error).message.slice(0, 300) }];
  }
}

function parseYaml(text: string): Parsed[] {
  const lines = new LineCounter();
  const parsed = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, logLevel: "silent" });
  const list = Array.isArray(parsed) ? parsed : [];
  return list.map((yaml, i) => {
    const [error] = yaml.errors;
    if (error) {
      const { line, col } = lines.linePos(error.pos[0]);
      return { document: i + 1, why: `line ${line} column ${col}: ${error.message}` };
    }
    try {
      return { document: i + 1, value: yaml.toJS({ maxAliasCount: MAX_ALIASES }) as unknown };
    } catch (thrown) {
      return { document: i + 1, why: (thrown as Error).message.slice(0, 300) };
    }
  });
}

function expand(
  file: string,
  { document, path, object }: ManifestDocument,
  documents: ManifestDocument[],
  found: ManifestFault[],
): void {
  const refuse = (where: string, why: string) =>
    found.push(
      manifestFault(file, { document, object: describeObject(object), path: join(path, where), why }),
    );
  if (!isObject(object)) {
    refuse("", "is not an object");
    return;
  }
  const items = own(object, "items");
  if (textAt(object, "kind").endsWith("List") && Array.isArray(items)) {
    for (const [i, item] of items.entries()) {
      expand(
        file,
        { document, path: join(path, `items[${i}]`), object: item as JsonObject },
        documents,
        found,
      );
    }
    return;
  }
  for (const field of ["apiVersion", "kind"])
    if (!textAt(object, field)) return void refuse(field, "Required value");
  if (!textAt(object, "metadata", "name")) return void refuse("metadata.name", "Required value");
  documents.push({ document, path, object });
}

export function join(path: string, rest: string): string {
  return path && rest ? `${path}.${rest}` : path || rest;
}
