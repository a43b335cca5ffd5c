// SPDX-License-Identifier: Apache-2.0
// The structural schema (OpenAPI v3 with the x-kubernetes extensions) that built-in kinds and custom resources share:
// what conform.ts, the patches, kubectl explain and the OpenAPI documents read.

export interface Schema {
  /** Name in the definitions; built-in schemas only, CRDs are written out. */
  $ref?: string;
  type?: string;
  format?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  nullable?: boolean;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  items?: Schema;
  required?: string[];
  pattern?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: boolean;
  exclusiveMaximum?: boolean;
  multipleOf?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  minProperties?: number;
  maxProperties?: number;
  allOf?: Schema[];
  anyOf?: Schema[];
  oneOf?: Schema[];
  not?: Schema;
  "x-kubernetes-int-or-string"?: boolean;
  "x-kubernetes-preserve-unknown-fields"?: boolean;
  "x-kubernetes-embedded-resource"?: boolean;
  "x-kubernetes-list-type"?: string;
  "x-kubernetes-list-map-keys"?: string[];
  "x-kubernetes-patch-merge-key"?: string;
  "x-kubernetes-patch-strategy"?: string;
  "x-kubernetes-validations"?: unknown[];
}

/** Named schemas that `$ref` means. */
export type Definitions = ReadonlyMap<string, Schema>;

/** The schema itself, a reference followed. */
export function resolve(schema: Schema | undefined, definitions: Definitions): Schema | undefined {
  return schema?.$ref === undefined ? schema : definitions.get(schema.$ref);
}

/** The schema of one field of an object, or undefined when the schema does not know the field. */
export function fieldSchema(schema: Schema | undefined, field: string): Schema | undefined {
  if (schema?.properties && Object.hasOwn(schema.properties, field)) return schema.properties[field];
  return typeof schema?.additionalProperties === "object" ? schema.additionalProperties : undefined;
}
