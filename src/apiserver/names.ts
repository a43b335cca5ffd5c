// SPDX-License-Identifier: Apache-2.0
// What names, labels, annotations and finalizers may look like (Kubernetes documentation "Object Names and IDs", RFC 1123
// and RFC 1035), as error texts: undefined means valid. Names become paths and keys, so nothing else may pass.
import { type FieldError, invalidValue, requiredValue } from "./faults.ts";
import { isObject, type JsonObject, own, step } from "./json.ts";

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const LABEL_1035 = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const QUALIFIED = /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;
const ANNOTATION_BYTES = 256 * 1024;

/** RFC 1123 label: at most 63 of lower-case letters, digits, "-". */
export function labelName(name: string): string | undefined {
  if (name.length > 63) return "must be no more than 63 characters";
  return LABEL.test(name)
    ? undefined
    : "must be a lower-case RFC 1123 label: letters, digits and '-', beginning and ending with a letter or digit";
}

/** RFC 1035 label: as above, beginning with a letter. */
export function label1035Name(name: string): string | undefined {
  if (name.length > 63) return "must be no more than 63 characters";
  return LABEL_1035.test(name)
    ? undefined
    : "must be an RFC 1035 label: lower-case letters, digits and '-', beginning with a letter";
}

/** RFC 1123 subdomain: labels joined by ".", at most 253 characters. */
export function subdomainName(name: string): string | undefined {
  if (name.length > 253) return "must be no more than 253 characters";
  return name.split(".").every((part) => LABEL.test(part))
    ? undefined
    : "must be a lower-case RFC 1123 subdomain: letters, digits, '-' and '.', each part beginning and ending with a letter or digit";
}

/** `prefix/name` of labels and annotations; the prefix is a DNS subdomain and may be absent. */
export function qualifiedName(key: string): string | undefined {
  const parts = key.split("/");
  if (parts.length > 2) return "must be a name with at most one '/'";
  const name = parts.at(-1) as string;
  if (parts.length === 2 && subdomainName(parts[0] as string)) return "the prefix must be a DNS subdomain";
  if (name.length > 63) return "the name must be no more than 63 characters";
  return QUALIFIED.test(name)
    ? undefined
    : "must consist of letters, digits, '-', '_' and '.', beginning and ending with a letter or digit";
}

/** Value of a label. Empty is valid. */
export function labelValue(value: string): string | undefined {
  if (value === "") return undefined;
  if (value.length > 63) return "must be no more than 63 characters";
  return QUALIFIED.test(value)
    ? undefined
    : "must consist of letters, digits, '-', '_' and '.', beginning and ending with a letter or digit";
}

/** Key of a ConfigMap or Secret: what may be a file name. */
export function dataKey(key: string): string | undefined {
  if (key.length > 253) return "must be no more than 253 characters";
  return /^[-._a-zA-Z0-9]+$/.test(key) && key !== "." && !key.startsWith("..")
    ? undefined
    : "must consist of letters, digits, '-', '_' and '.', and not begin with '..'";
}

/** Checks the parts of metadata that clients write. `nameRule` is the kind's rule for names. */
export function metadataErrors(
  metadata: JsonObject,
  nameRule: (name: string) => string | undefined,
): FieldError[] {
  const errors: FieldError[] = [];
  const name = own(metadata, "name");
  if (typeof name !== "string" || name === "") {
    errors.push(requiredValue("metadata.name", "name or generateName is required"));
  } else {
    const why = nameRule(name);
    if (why) errors.push(invalidValue("metadata.name", name, why));
  }
  for (const [key, value] of fields(metadata, "labels")) {
    const field = step("metadata.labels", key);
    const why = qualifiedName(key) ?? labelValue(String(value));
    if (why) errors.push(invalidValue(field, qualifiedName(key) ? key : value, why));
  }
  let bytes = 0;
  for (const [key, value] of fields(metadata, "annotations")) {
    bytes += key.length + String(value).length;
    const why = qualifiedName(key.toLowerCase());
    if (why) errors.push(invalidValue(step("metadata.annotations", key), key, why));
  }
  if (bytes > ANNOTATION_BYTES) {
    errors.push(
      invalidValue("metadata.annotations", bytes, `must be no more than ${ANNOTATION_BYTES} bytes`),
    );
  }
  const finalizers = own(metadata, "finalizers");
  for (const [i, finalizer] of (Array.isArray(finalizers) ? finalizers : []).entries()) {
    const why = qualifiedName(String(finalizer));
    if (why) errors.push(invalidValue(`metadata.finalizers[${i}]`, finalizer, why));
  }
  return errors.slice(0, 20);
}

function fields(metadata: JsonObject, name: string): [string, unknown][] {
  const value = own(metadata, name);
  return isObject(value) ? Object.entries(value) : [];
}
