// SPDX-License-Identifier: Apache-2.0
// OpenAPI v2 as the protobuf message that kubectl insists on (openapi.v2.Document of the gnostic project): only the
// fields that our documents have, written by their numbers in OpenAPIv2.proto. kubectl before 1.27 reads nothing else.
import type { Schema } from "../schema/types.ts";

/**
 * The media type of the answer. Older clients ask for it with "@v1.0", which newer Go libraries refuse to parse: answers
 * have "." since.
 */
export const OPENAPI_V2_PROTO = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}

/** A length-delimited field (wire type 2): string or message. */
function field(number: number, content: string | Buffer | Buffer[]): Buffer {
  const body =
    typeof content === "string"
      ? Buffer.from(content)
      : Array.isArray(content)
        ? Buffer.concat(content)
        : content;
  return Buffer.concat([varint((number << 3) | 2), varint(body.length), body]);
}

/** A boolean field (wire type 0). */
function flag(number: number, value: boolean): Buffer {
  return Buffer.concat([varint(number << 3), varint(value ? 1 : 0)]);
}

/** NamedAny { name = 1, value = 2: Any { yaml = 2 } }: a vendor extension, its value as YAML (JSON is YAML). */
function extension(name: string, value: unknown): Buffer[] {
  return [field(1, name), field(2, [field(2, JSON.stringify(value))])];
}

const EXTENSIONS = [
  "x-kubernetes-group-version-kind",
  "x-kubernetes-patch-merge-key",
  "x-kubernetes-patch-strategy",
  "x-kubernetes-int-or-string",
  "x-kubernetes-preserve-unknown-fields",
] as const;

/** message Schema: _ref 1, format 2, description 4, required 19, additional_properties 21, type 22, items 23, properties 25, vendor_extension 31. */
function schemaMessage(schema: Schema & Record<string, unknown>): Buffer[] {
  const out: Buffer[] = [];
  if (schema.$ref) out.push(field(1, schema.$ref));
  if (schema.format) out.push(field(2, schema.format));
  if (schema.description) out.push(field(4, schema.description));
  for (const name of schema.required ?? []) out.push(field(19, name));
  if (typeof schema.additionalProperties === "boolean")
    out.push(field(21, [flag(2, schema.additionalProperties)]));
  else if (schema.additionalProperties) {
    out.push(
      field(21, [field(1, schemaMessage(schema.additionalProperties as Schema & Record<string, unknown>))]),
    );
  }
  if (schema.type) out.push(field(22, [field(1, schema.type)]));
  if (schema.items)
    out.push(field(23, [field(1, schemaMessage(schema.items as Schema & Record<string, unknown>))]));
  const properties = Object.entries(schema.properties ?? {});
  if (properties.length > 0)
    out.push(
      field(
        25,
        properties.map(([name, s]) => namedSchema(name, s)),
      ),
    );
  for (const name of EXTENSIONS) {
    if (schema[name] !== undefined) out.push(field(31, extension(name, schema[name])));
  }
  return out;
}

function namedSchema(name: string, schema: Schema): Buffer {
  return field(1, [field(1, name), field(2, schemaMessage(schema as Schema & Record<string, unknown>))]);
}

/** message Document: swagger 1, info 2 { title 1, version 2 }, paths 8, definitions 9. */
export function encodeOpenApiV2(definitions: Record<string, Schema>, version: string): Buffer {
  const named = Object.entries(definitions).map(([name, schema]) => namedSchema(name, schema));
  return Buffer.concat([
    field(1, "2.0"),
    field(2, [field(1, "Kubernetes"), field(2, version)]),
    field(8, []),
    field(9, named),
  ]);
}
