// SPDX-License-Identifier: Apache-2.0
// The CNI result of an ADD, in the version of the runtime's configuration, from the pod's interface and the result of
// the plugins before us; and what a CHECK compares. Pure. For the CNI handler.
import type { PodInterface } from "../agent/pods.ts";
import { type Address, parseAddress } from "../base/addr.ts";
import { POD_GATEWAY } from "../engine/endpoint/spec.ts";
import { CNI_VERSIONS, type CniConfig } from "./cni-protocol.ts";

export type { PodInterface };

interface Interface {
  readonly name: string;
  readonly mac?: string;
  readonly sandbox?: string;
  readonly mtu?: number;
}

interface Ip {
  readonly address: string;
  readonly gateway?: string;
  readonly interface?: number;
  readonly version?: "4" | "6";
}

/** A result in the fields of version 1.1.0 that we write. Unknown fields of other plugins are dropped. */
export interface CniResult {
  readonly cniVersion: string;
  readonly interfaces: readonly Interface[];
  readonly ips: readonly Ip[];
  readonly routes: readonly unknown[];
  readonly dns: unknown;
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

function before(version: string, other: string): boolean {
  return CNI_VERSIONS.indexOf(version) < CNI_VERSIONS.indexOf(other);
}

/** Interface MTU came with 1.1.0; ips[].version went with 1.0.0. */
function toVersion(result: CniResult): CniResult {
  const { cniVersion } = result;
  const interfaces = before(cniVersion, "1.1.0")
    ? result.interfaces.map(({ mtu: _, ...rest }) => rest)
    : result.interfaces;
  const ips = result.ips.map(({ version: _, ...ip }): Ip => {
    if (!before(cniVersion, "1.0.0")) return ip;
    return { version: ip.address.includes(":") ? "6" : "4", ...ip };
  });
  return { ...result, interfaces, ips };
}

/** The result of ADD: what earlier plugins of the chain reported, then the pod's device and its end on the node. */
export function cniResult(config: CniConfig, prevResult: unknown, pod: PodInterface): CniResult {
  const earlier = list(field(prevResult, "interfaces")) as Interface[];
  const index = earlier.length + 1;
  const ips: Ip[] = [];
  const routes: unknown[] = [];
  if (pod.ipv4 !== undefined) {
    ips.push({ interface: index, address: `${pod.ipv4}/32`, gateway: POD_GATEWAY[4] });
    routes.push({ dst: "0.0.0.0/0", gw: POD_GATEWAY[4] });
  }
  if (pod.ipv6 !== undefined) {
    ips.push({ interface: index, address: `${pod.ipv6}/128`, gateway: POD_GATEWAY[6] });
    routes.push({ dst: "::/0", gw: POD_GATEWAY[6] });
  }
  return toVersion({
    cniVersion: config.cniVersion,
    interfaces: [
      ...earlier,
      { name: pod.hostIfName, mac: pod.hostMac },
      { name: pod.ifName, mac: pod.mac, mtu: pod.mtu, sandbox: pod.netns },
    ],
    ips: [...(list(field(prevResult, "ips")) as Ip[]), ...ips],
    routes: [...list(field(prevResult, "routes")), ...routes],
    dns: field(prevResult, "dns") ?? config.dns ?? {},
  });
}

/** What of `prevResult` is not so: a sentence per difference between the result of ADD and the pod's interface. */
export function resultDifferences(prevResult: unknown, pod: PodInterface): string[] {
  const differences: string[] = [];
  const interfaces = list(field(prevResult, "interfaces"));
  const index = interfaces.findIndex(
    (i) => field(i, "name") === pod.ifName && field(i, "sandbox") === pod.netns,
  );
  if (index < 0) return [`the result of ADD lists no interface ${pod.ifName} in ${pod.netns}`];
  const mac = field(interfaces[index], "mac");
  if (typeof mac === "string" && mac.toLowerCase() !== pod.mac) {
    differences.push(`${pod.ifName} has MAC address ${pod.mac}, the result of ADD says ${mac}`);
  }
  const listed = list(field(prevResult, "ips")).filter((ip) => field(ip, "interface") === index);
  const held = [pod.ipv4, pod.ipv6].filter((a) => a !== undefined);
  for (const ip of listed) {
    const text = String(field(ip, "address"));
    if (!held.includes(plainAddress(text))) differences.push(`${text} is not held by this container`);
  }
  return differences;
}

function plainAddress(cidr: string): Address {
  try {
    return parseAddress(cidr.replace(/\/\d+$/, ""));
  } catch {
    return cidr;
  }
}
