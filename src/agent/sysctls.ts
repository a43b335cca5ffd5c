// SPDX-License-Identifier: Apache-2.0
// What the node's stack must allow: forwarding in both families, router advertisements still heard where they were (a
// forwarding host ignores them otherwise), and no reverse-path filter on our devices, whose packets come and go by
// redirect. Written in the agent's own network namespace.
import { readFileSync, writeFileSync } from "node:fs";
import { Fault } from "../base/fault.ts";

const path = (key: string): string => `/proc/sys/net/${key}`;

function read(key: string): string | undefined {
  try {
    return readFileSync(path(key), "latin1").trim();
  } catch {
    return undefined;
  }
}

function ensure(key: string, value: string): string | undefined {
  const now = read(key);
  if (now === undefined || now === value) return undefined;
  try {
    writeFileSync(path(key), value);
    return undefined;
  } catch (thrown) {
    return `${key.replaceAll("/", ".")} is ${now}, must be ${value}: ${Fault.from(thrown).detail}`;
  }
}

/** Sets what must be for these native devices. Gives a sentence for each key that could not be written. */
export function applySysctls(
  families: { ipv4: boolean; ipv6: boolean },
  devices: readonly string[],
): string[] {
  const problems: (string | undefined)[] = [];
  if (families.ipv4) {
    problems.push(ensure("ipv4/ip_forward", "1"));
    // The filter in force on a device is the stricter one of its own and `all`.
    for (const name of ["all", ...devices]) problems.push(ensure(`ipv4/conf/${name}/rp_filter`, "0"));
  }
  if (families.ipv6) {
    for (const name of devices) {
      if (read(`ipv6/conf/${name}/accept_ra`) === "1")
        problems.push(ensure(`ipv6/conf/${name}/accept_ra`, "2"));
    }
    problems.push(ensure("ipv6/conf/all/forwarding", "1"));
  }
  return problems.filter((problem) => problem !== undefined);
}
