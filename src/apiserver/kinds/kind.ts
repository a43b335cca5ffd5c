// SPDX-License-Identifier: Apache-2.0
// What the server knows of a built-in kind: its names, its columns, and the rules that its objects follow on a write.
import type { FieldError } from "../faults.ts";
import type { KubeObject } from "../json.ts";
import type { Column } from "../table/columns.ts";

/** What rules may see of the rest of the store. */
export interface World {
  /** Cluster addresses and ports of Services. */
  allocateService: (service: KubeObject, old: KubeObject | undefined) => FieldError[];
}

export interface Kind {
  group: string;
  version: string;
  kind: string;
  plural: string;
  singular: string;
  shortNames?: string[];
  categories?: string[];
  namespaced: boolean;
  /** Class in the client library whose field table is the schema. */
  model: string;
  /** One sentence for kubectl explain. */
  description: string;
  /** Has a status subresource: writes to the object leave status alone, writes to /status change nothing else. */
  status?: boolean;
  /** Status may be given at creation (Nodes). */
  statusOnCreate?: boolean;
  /** metadata.generation counts changes of the spec. */
  generation?: boolean;
  /** Fields beyond metadata.name and metadata.namespace that field selectors may use. */
  fields?: string[];
  /** Rule for names; default RFC 1123 subdomain. */
  name?: (name: string) => string | undefined;
  columns: Column[];
  /** Fills in what clients rely on; `old` is absent at creation. Changes the object in place. */
  prepare?: (object: KubeObject, old: KubeObject | undefined, world: World) => FieldError[] | undefined;
  /** Checks beyond types. */
  validate?: (object: KubeObject, old: KubeObject | undefined) => FieldError[];
}
