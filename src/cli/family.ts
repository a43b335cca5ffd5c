// SPDX-License-Identifier: Apache-2.0
// `-4` and `-6` of the lists: which family is asked for. Neither or both is all.
import type { Command } from "commander";
import type { Family } from "../base/addr.ts";

export interface FamilyFilter {
  readonly ipv4?: boolean;
  readonly ipv6?: boolean;
}

/** Adds both options. */
export function withFamilies(command: Command): Command {
  return command.option("-4, --ipv4", "only IPv4").option("-6, --ipv6", "only IPv6");
}

/** Whether what is of this family is asked for. */
export function isFamilyWanted(family: Family, { ipv4, ipv6 }: FamilyFilter): boolean {
  return ipv4 === ipv6 || family === (ipv4 ? 4 : 6);
}
