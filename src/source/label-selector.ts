// SPDX-License-Identifier: Apache-2.0
// Label selectors of the Kubernetes API: matchLabels and matchExpressions, all of which must hold. An empty selector
// matches everything.
import * as z from "zod";

export interface LabelRequirement {
  readonly key: string;
  readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
  readonly values: readonly string[];
}

export type LabelSelector = readonly LabelRequirement[];

export const selectorSchema = z
  .object({
    matchLabels: z.record(z.string(), z.string()).optional(),
    matchExpressions: z
      .array(
        z.object({
          key: z.string().min(1),
          operator: z.enum(["In", "NotIn", "Exists", "DoesNotExist"]),
          values: z.array(z.string()).optional(),
        }),
      )
      .optional(),
  })
  .nullish()
  .transform((value) => value ?? {});

/** The requirements of a selector that has passed `selectorSchema`. */
export function decodeSelector(selector: z.infer<typeof selectorSchema>): LabelSelector {
  return [
    ...Object.entries(selector.matchLabels ?? {}).map(
      ([key, value]): LabelRequirement => ({
        key,
        operator: "In",
        values: [value],
      }),
    ),
    ...(selector.matchExpressions ?? []).map((e) => ({ ...e, values: e.values ?? [] })),
  ];
}

/** Kubernetes' rules: NotIn holds for an object that lacks the label. */
export function matchesLabels(selector: LabelSelector, labels: Readonly<Record<string, string>>): boolean {
  return selector.every(({ key, operator, values }) => {
    const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
    if (operator === "Exists") return value !== undefined;
    if (operator === "DoesNotExist") return value === undefined;
    const within = value !== undefined && values.includes(value);
    return operator === "In" ? within : !within;
  });
}
