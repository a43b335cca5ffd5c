// SPDX-License-Identifier: Apache-2.0
// Which way a packet goes at a hook, from the pods' point of view and in Cilium's words; for metrics and lists.
import { Hook } from "./gen/verdict.ts";

export type Direction = "EGRESS" | "INGRESS";

/** By the number of enum hook. */
export const directionOf: ReadonlyMap<number, Direction> = new Map([
  [Hook.HOOK_FROM_POD, "EGRESS"],
  [Hook.HOOK_TO_NET, "EGRESS"],
  [Hook.HOOK_FROM_NET, "INGRESS"],
  [Hook.HOOK_TO_POD, "INGRESS"],
] as const);
