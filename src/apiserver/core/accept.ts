// SPDX-License-Identifier: Apache-2.0
// Turns what a client sent into an object that may be stored: the right kind, of its schema's form, with valid metadata,
// complete and checked by the rules of its kind. Everything refused becomes one Status with all paths.
import { type FieldError, faults, invalidValue } from "../faults.ts";
import { isObject, type JsonObject, type KubeObject, own } from "../json.ts";
import type { World } from "../kinds/kind.ts";
import type { Limits } from "../limits.ts";
import { metadataErrors } from "../names.ts";
import type { Resource } from "../registry.ts";
import { conform } from "../schema/conform.ts";
import type { Definitions } from "../schema/types.ts";

/** How strictly unknown fields are taken, and where warnings for the client go. */
export interface WriteOptions {
  /** All checks, nothing stored. */
  dryRun: boolean;
  validation: "Strict" | "Warn" | "Ignore";
  /** Texts for the Warning header. */
  warnings: string[];
  /** The object comes from a folder of manifests: it may bring its status. */
  withStatus: boolean;
}

export const PLAIN_WRITE: Readonly<WriteOptions> = Object.freeze({
  dryRun: false,
  validation: "Ignore",
  warnings: [],
  withStatus: false,
});

export function invalid(resource: Resource, name: unknown, errors: FieldError[]) {
  return faults.API_INVALID({ kind: resource.kind, group: resource.group, name: name || "", errors });
}

/**
 * Checks kind and form of a body and drops what is not in its schema. Changes the body.
 * @throws Fault API_BAD_REQUEST, API_INVALID
 */
export function acceptBody(
  resource: Resource,
  body: unknown,
  definitions: Definitions,
  options: WriteOptions,
): JsonObject & { metadata: JsonObject } {
  if (!isObject(body)) throw faults.API_BAD_REQUEST({ why: "the body is not an object" });
  const { apiVersion, kind } = resource;
  // Clients of one kind may leave out what the URL says.
  const found = { apiVersion: own(body, "apiVersion") ?? apiVersion, kind: own(body, "kind") ?? kind };
  if (found.apiVersion !== apiVersion || found.kind !== kind) {
    const why = `the object is ${found.apiVersion} ${found.kind}, this URL takes ${apiVersion} ${kind}`;
    throw faults.API_BAD_REQUEST({ why });
  }
  Object.assign(body, found);
  if (own(body, "metadata") === undefined || body.metadata === null) body.metadata = {};
  const { errors, unknown } = conform(body, resource.schema, definitions);
  if (errors.length > 0) throw invalid(resource, own(own(body, "metadata"), "name"), errors.slice(0, 20));
  const texts = unknown.map((path) => `unknown field "${path}"`);
  if (texts.length > 0 && options.validation === "Strict") {
    const why = `${kind} in version "${resource.version}" cannot be handled as a ${kind}: strict decoding error: `;
    throw faults.API_BAD_REQUEST({ why: why + texts.join(", "), path: unknown[0] });
  }
  if (options.validation === "Warn") options.warnings.push(...texts);
  return body as JsonObject & { metadata: JsonObject };
}

/**
 * Completes an object by the rules of its kind and checks everything that its form does not say.
 * @throws Fault API_INVALID, API_TOO_LARGE
 */
export function completeObject(
  resource: Resource,
  object: KubeObject,
  old: KubeObject | undefined,
  context: { world: World; limits: Limits },
): void {
  const { builtin } = resource;
  const errors = metadataErrors(object.metadata as unknown as JsonObject, resource.nameRule);
  if (errors.length === 0) errors.push(...(builtin?.prepare?.(object, old, context.world) ?? []));
  if (errors.length === 0) errors.push(...(builtin?.validate?.(object, old) ?? []));
  if (errors.length === 0 && resource.constraints) errors.push(...resource.constraints(object));
  if (errors.length > 0) throw invalid(resource, object.metadata.name, errors);
  const size = Buffer.byteLength(JSON.stringify(object));
  if (size > context.limits.objectBytes) {
    const what = `${resource.kind} ${object.metadata.name}`;
    throw faults.API_TOO_LARGE({ what, size, limit: context.limits.objectBytes });
  }
}

/** Checks that the name and namespace of a body agree with the URL; fills them in. */
export function matchUrl(
  resource: Resource,
  metadata: JsonObject,
  url: { namespace: string | undefined; name: string | undefined },
): void {
  for (const field of ["name", "namespace"] as const) {
    const wanted = url[field];
    const found = metadata[field];
    if (wanted === undefined) {
      if (field === "namespace") delete metadata.namespace;
      continue;
    }
    if (found === undefined || found === "") metadata[field] = wanted;
    else if (found !== wanted) {
      if (field === "name")
        throw invalid(resource, wanted, [invalidValue("metadata.name", found, `is not ${wanted}`)]);
      throw faults.API_BAD_REQUEST({ why: `metadata.namespace is ${found}, the URL says ${wanted}` });
    }
  }
}
