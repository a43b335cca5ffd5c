// SPDX-License-Identifier: Apache-2.0
// What an endpoint is: one interface of one pod (or container) on this node, with its addresses.
import type { Address } from "../../base/addr.ts";

/** What is asked for. */
export interface EndpointSpec {
  readonly containerId: string;
  /** Name of the device inside the pod. */
  readonly ifName: string;
  /** Path of the pod's network namespace. */
  readonly netns: string;
  /** `name` of the CNI network configuration. */
  readonly network: string;
  /** "" outside Kubernetes. */
  readonly podNamespace: string;
  readonly podName: string;
  readonly podUid: string;
  readonly ipv4?: Address;
  readonly ipv6?: Address;
  /** Bytes. */
  readonly mtu: number;
}

/** What exists: the spec, and what the engine gave it. As it is stored in the state folder. */
export interface Endpoint extends EndpointSpec {
  /** 1-65535. */
  readonly id: number;
  /** Name and index of the device on the node. */
  readonly device: string;
  readonly ifindex: number;
  /** MAC address inside the pod, and of the device on the node. */
  readonly mac: string;
  readonly hostMac: string;
  /** Security identity, 0 unknown. */
  readonly identity: number;
  /** RFC 3339. */
  readonly createdAt: string;
}

/** Next hops inside every pod; they exist on no wire, the device on the node answers for them. */
export const POD_GATEWAY = { 4: "169.254.1.1", 6: "fe80::1" } as const;

/** Key of an endpoint in messages and tables: one interface of one container. */
export function attachmentKey(of: { readonly containerId: string; readonly ifName: string }): string {
  return `${of.containerId}/${of.ifName}`;
}

/** The addresses of an endpoint, IPv4 first. */
export function endpointAddresses(of: Pick<EndpointSpec, "ipv4" | "ipv6">): Address[] {
  return [of.ipv4, of.ipv6].filter((address) => address !== undefined);
}
