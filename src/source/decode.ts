// SPDX-License-Identifier: Apache-2.0
// How every kind is read: by a zod schema that knows only the fields that are used, with a refusal that names the object
// and the path in it. Decoders never change what they read.
import * as z from "zod";
import { type Address, parseAddress } from "../base/addr.ts";
import { Fault } from "../base/fault.ts";
import { type Prefix, parsePrefix } from "../base/prefix.ts";
import type { ApiObject } from "./client.ts";
import { faults } from "./faults.ts";

/** `status.addresses[0].address`. */
export function formatPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === "number") return `${text}[${part}]`;
    return text === "" ? String(part) : `${text}.${String(part)}`;
  }, "");
}

/** `ConfigMap kube-system/cilium-config`. */
export function describe(object: ApiObject, kind = object.kind ?? "object"): string {
  const { namespace, name } = object.metadata ?? {};
  return `${kind} ${namespace ? `${namespace}/` : ""}${name ?? "(no name)"}`;
}

/**
 * The object through `schema`.
 * @throws Fault OBJECT_INVALID with object and path of the first thing wrong
 */
export function decodeObject<T extends z.ZodType>(schema: T, object: ApiObject, kind: string): z.infer<T> {
  const result = schema.safeParse(object);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw faults.OBJECT_INVALID(
    {
      object: describe(object, kind),
      path: formatPath(issue?.path ?? []),
      why: issue?.message ?? "not as expected",
    },
    result.error,
  );
}

const why = (thrown: unknown): string => {
  const fault = Fault.from(thrown);
  return String(fault.context.why ?? fault.detail);
};

/** A string that is an address, in canonical form. */
export const addressText = z.string().transform((text, context): Address => {
  try {
    return parseAddress(text);
  } catch (thrown) {
    context.addIssue({ code: "custom", message: why(thrown) });
    return z.NEVER;
  }
});

/** A string that is a prefix, host bits cleared. */
export const prefixText = z.string().transform((text, context): Prefix => {
  try {
    return parsePrefix(text);
  } catch (thrown) {
    context.addIssue({ code: "custom", message: `"${text}": ${why(thrown)}` });
    return z.NEVER;
  }
});

/** Names that become keys, file names and log lines: what Kubernetes allows at most, and no path separators. */
export const nameText = z
  .string()
  .min(1)
  .max(253)
  .regex(/^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/, "not a name");

const labels = z.record(z.string(), z.string()).optional();

/** The part of metadata that decoders use. */
export const metadata = z.looseObject({
  name: nameText,
  namespace: nameText.optional(),
  uid: z.string().max(128).optional(),
  labels,
  annotations: labels,
});

/** A list that many objects write as null or leave away. */
export const listOf = <T extends z.ZodType>(item: T) =>
  z
    .array(item)
    .nullish()
    .transform((value) => value ?? []);
