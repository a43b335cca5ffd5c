// SPDX-License-Identifier: Apache-2.0
// The OpenAPI documents: v3 per group and version (kubectl explain and apply since 1.27), v2 of everything (older kubectl).
// Both come from the schemas that writes are checked with, so what explain shows is what the server accepts.
import { VERSION } from "../discovery.ts";
import type { Registry, Resource } from "../registry.ts";
import { definitionName } from "../schema/builtin.ts";
import { type Definitions, resolve, type Schema } from "../schema/types.ts";

type Document = Record<string, unknown>;

const PATCH_TYPES = ["application/json-patch+json", "application/merge-patch+json"];
const STRATEGIC = "application/strategic-merge-patch+json";

/** Name of a kind's definition: built-in ones share io.k8s, custom ones begin with their group reversed. */
function kindName(resource: Resource): string {
  if (resource.builtin) return definitionName(resource.builtin.model);
  return [...resource.group.split(".").reverse(), resource.version, resource.kind].join(".");
}

function identity({ group, version, kind }: Resource): Document {
  return { group, version, kind };
}

/** A copy of a schema with references rewritten, and without what a document version cannot say. */
function rewrite(schema: Schema, prefix: string, v2: boolean): Schema {
  if (schema.$ref !== undefined) {
    const reference: Schema = { $ref: prefix + schema.$ref };
    // OpenAPI v3 ignores what stands beside a reference; the merge keys stand on lists and maps, never on one.
    return reference;
  }
  const open = schema["x-kubernetes-preserve-unknown-fields"] === true;
  const out: Schema = {};
  for (const [key, value] of Object.entries(schema) as [keyof Schema, never][]) {
    if (key === "properties" || key === "items" || key === "additionalProperties") continue;
    if (v2 && !/^(type|format|description|required|x-kubernetes-.*)$/.test(key)) continue;
    if (key === "allOf" || key === "anyOf" || key === "oneOf" || key === "not") continue;
    out[key] = value;
  }
  if (v2 && schema["x-kubernetes-int-or-string"]) return { ...out, type: "string", format: "int-or-string" };
  // kubectl before 1.27 refuses fields that a v2 object with properties does not list: open objects have none there.
  if (v2 && open) return out.description ? { description: out.description } : {};
  if (schema.properties) {
    out.properties = Object.fromEntries(
      Object.entries(schema.properties).map(([name, s]) => [name, rewrite(s, prefix, v2)]),
    );
  }
  if (schema.items) out.items = rewrite(schema.items, prefix, v2);
  if (typeof schema.additionalProperties === "object") {
    out.additionalProperties = rewrite(schema.additionalProperties, prefix, v2);
  } else if (schema.additionalProperties !== undefined)
    out.additionalProperties = schema.additionalProperties;
  return out;
}

function kindSchema(resource: Resource, definitions: Definitions, prefix: string, v2: boolean): Schema {
  const schema = resolve(resource.schema, definitions) ?? { type: "object" };
  const described = resource.builtin ? { description: resource.builtin.description, ...schema } : schema;
  return {
    ...rewrite(described, prefix, v2),
    "x-kubernetes-group-version-kind": [identity(resource)],
  } as Schema;
}

/** All definitions under their names: those of built-in models, then the kinds themselves. */
function allDefinitions(resources: Resource[], definitions: Definitions, prefix: string, v2: boolean) {
  const out: Record<string, Schema> = {};
  for (const [name, schema] of definitions) out[name] = rewrite(schema, prefix, v2);
  for (const resource of resources) out[kindName(resource)] = kindSchema(resource, definitions, prefix, v2);
  return out;
}

/** Definitions for the v2 document. */
export function openApiV2Definitions(registry: Registry, definitions: Definitions): Record<string, Schema> {
  return allDefinitions(registry.all(), definitions, "#/definitions/", true);
}

/** The index of /openapi/v3. */
export function openApiV3Index(registry: Registry): Document {
  const paths: Document = {};
  for (const { group, version } of registry.all()) {
    const path = group ? `apis/${group}/${version}` : `api/${version}`;
    paths[path] = { serverRelativeURL: `/openapi/v3/${path}?hash=${registry.generation}` };
  }
  return { paths };
}

/** The document of one group and version, or undefined when nothing of it is served. */
export function openApiV3(registry: Registry, definitions: Definitions, group: string, version: string) {
  const resources = registry.all().filter((r) => r.group === group && r.version === version);
  if (resources.length === 0) return undefined;
  const paths = Object.assign({}, ...resources.map(resourcePaths)) as Document;
  const schemas = allDefinitions(resources, definitions, "#/components/schemas/", false);
  return {
    openapi: "3.0.0",
    info: { title: "Kubernetes", version: VERSION.gitVersion },
    paths,
    components: { schemas },
  };
}

function operation(resource: Resource, action: string, more: Document = {}): Document {
  return {
    "x-kubernetes-action": action,
    "x-kubernetes-group-version-kind": identity(resource),
    responses: {},
    ...more,
  };
}

function resourcePaths(resource: Resource): Document {
  const { group, version, plural, namespaced } = resource;
  const root = group ? `/apis/${group}/${version}` : `/api/${version}`;
  const list = namespaced ? `${root}/namespaces/{namespace}/${plural}` : `${root}/${plural}`;
  // kubectl leaves the checking of unknown fields to servers whose patch takes this parameter.
  const parameters = [
    { name: "fieldValidation", in: "query", schema: { type: "string", uniqueItems: true } },
  ];
  const types = resource.builtin ? [...PATCH_TYPES, STRATEGIC] : PATCH_TYPES;
  const content = Object.fromEntries(types.map((type) => [type, { schema: { type: "object" } }]));
  return {
    [list]: { get: operation(resource, "list"), post: operation(resource, "post", { parameters }) },
    [`${list}/{name}`]: {
      get: operation(resource, "get"),
      put: operation(resource, "put", { parameters }),
      patch: operation(resource, "patch", { parameters, requestBody: { content } }),
      delete: operation(resource, "delete"),
    },
  };
}
