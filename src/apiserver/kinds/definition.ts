// SPDX-License-Identifier: Apache-2.0
// CustomResourceDefinition: checks what a CRD must say to be served, and writes the status that clients wait for
// (Established). Conversion is "None" only; CEL rules are kept but not evaluated.
import { type FieldError, forbiddenValue, invalidValue, requiredValue } from "../faults.ts";
import { isObject, type JsonObject, type KubeObject, listAt, own, textAt } from "../json.ts";
import { label1035Name, subdomainName } from "../names.ts";
import { compileConstraints, patternError } from "../schema/constraints.ts";
import type { Schema } from "../schema/types.ts";
import { column, NAME, printerColumns } from "../table/columns.ts";
import type { Kind } from "./kind.ts";

/** Groups of the built-in kinds: a CRD cannot add to them. */
const RESERVED = new Set(["", "discovery.k8s.io", "coordination.k8s.io", "apiextensions.k8s.io"]);

function nameErrors(crd: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const group = textAt(crd, "spec", "group");
  const plural = textAt(crd, "spec", "names", "plural");
  const kind = textAt(crd, "spec", "names", "kind");
  const groupWhy = RESERVED.has(group) ? "is a group of built-in kinds" : subdomainName(group);
  if (groupWhy) errors.push(invalidValue("spec.group", group, groupWhy));
  const pluralWhy = label1035Name(plural);
  if (pluralWhy) errors.push(invalidValue("spec.names.plural", plural, pluralWhy));
  if (!/^[A-Z][A-Za-z0-9]{0,62}$/.test(kind)) {
    errors.push(
      invalidValue(
        "spec.names.kind",
        kind,
        "must be letters and digits, beginning with an upper-case letter",
      ),
    );
  }
  if (crd.metadata.name !== `${plural}.${group}`) {
    errors.push(
      invalidValue(
        "metadata.name",
        crd.metadata.name,
        `must be spec.names.plural+"."+spec.group: ${plural}.${group}`,
      ),
    );
  }
  const scope = textAt(crd, "spec", "scope");
  if (scope !== "Namespaced" && scope !== "Cluster") {
    errors.push(invalidValue("spec.scope", scope, "must be Namespaced or Cluster"));
  }
  const strategy = textAt(crd, "spec", "conversion", "strategy");
  if (strategy !== "" && strategy !== "None") {
    errors.push(invalidValue("spec.conversion.strategy", strategy, "only None is served"));
  }
  return errors;
}

function versionErrors(crd: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const versions = listAt(crd, "spec", "versions");
  if (versions.length === 0) return [requiredValue("spec.versions")];
  const stored = versions.filter((v) => own(v, "storage") === true).length;
  if (stored !== 1)
    errors.push(invalidValue("spec.versions", stored, "exactly one version must have storage: true"));
  const seen = new Set<string>();
  for (const [i, version] of versions.entries()) {
    const path = `spec.versions[${i}]`;
    const name = textAt(version, "name");
    const why = label1035Name(name) ?? (seen.has(name) ? "is there twice" : undefined);
    if (why) errors.push(invalidValue(`${path}.name`, name, why));
    seen.add(name);
    try {
      printerColumns(version);
    } catch (thrown) {
      errors.push(invalidValue(`${path}.additionalPrinterColumns`, null, (thrown as Error).message));
    }
    const schema = own(own(version, "schema"), "openAPIV3Schema");
    if (!isObject(schema))
      errors.push(requiredValue(`${path}.schema.openAPIV3Schema`, "schemas are required"));
    else errors.push(...schemaErrors(schema as Schema, `${path}.schema.openAPIV3Schema`));
  }
  return errors;
}

function schemaErrors(schema: Schema, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (schema.type !== "object")
    errors.push(invalidValue(`${path}.type`, schema.type ?? null, "must be object at the root"));
  const walk = (node: unknown, here: string): void => {
    if (!isObject(node)) return;
    const { $ref, pattern } = node as Schema;
    if ($ref !== undefined) errors.push(forbiddenValue(`${here}.$ref`, "references are not supported"));
    const why = pattern === undefined ? undefined : patternError(pattern);
    if (why) errors.push(invalidValue(`${here}.pattern`, pattern, why));
    const properties = own(node, "properties");
    for (const [key, child] of Object.entries(isObject(properties) ? properties : {})) {
      walk(child, `${here}.properties[${key}]`);
    }
    for (const field of ["items", "additionalProperties", "not"]) walk(own(node, field), `${here}.${field}`);
    for (const field of ["allOf", "anyOf", "oneOf"]) {
      for (const [i, child] of listAt(node, field).entries()) walk(child, `${here}.${field}[${i}]`);
    }
  };
  walk(schema, path);
  if (errors.length === 0) {
    try {
      compileConstraints(schema);
    } catch (thrown) {
      errors.push(invalidValue(path, null, (thrown as Error).message));
    }
  }
  return errors.slice(0, 20);
}

/** Names and status that the server fills in, as clients read them back. */
function prepare(crd: KubeObject, old: KubeObject | undefined): undefined {
  const spec = crd.spec as JsonObject;
  const names = own(spec, "names");
  if (!isObject(names)) return undefined;
  if (typeof names.kind === "string") {
    names.singular ??= names.kind.toLowerCase();
    names.listKind ??= `${names.kind}List`;
  }
  spec.conversion ??= { strategy: "None" };
  const before = own(own(old, "status"), "conditions") as
    | { type: string; lastTransitionTime: string }[]
    | undefined;
  const condition = (type: string, reason: string, message: string) => ({
    type,
    status: "True",
    reason,
    message,
    lastTransitionTime: before?.find((c) => c.type === type)?.lastTransitionTime ?? new Date().toISOString(),
  });
  const storage = listAt(spec, "versions").find((v) => own(v, "storage") === true);
  const stored = new Set([...listAt(old, "status", "storedVersions").map(String), textAt(storage, "name")]);
  crd.status = {
    acceptedNames: { ...names },
    conditions: [
      condition("NamesAccepted", "NoConflicts", "no conflicts found"),
      condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ],
    storedVersions: [...stored],
  };
  return undefined;
}

export const DEFINITION: Kind = {
  group: "apiextensions.k8s.io",
  version: "v1",
  kind: "CustomResourceDefinition",
  plural: "customresourcedefinitions",
  singular: "customresourcedefinition",
  shortNames: ["crd", "crds"],
  categories: ["api-extensions"],
  namespaced: false,
  model: "V1CustomResourceDefinition",
  description: "CustomResourceDefinition adds a kind to the API.",
  status: true,
  generation: true,
  columns: [NAME, column("Created At", (o) => o.metadata.creationTimestamp, { type: "date" })],
  prepare,
  validate: (crd) => [...nameErrors(crd), ...versionErrors(crd)],
};
