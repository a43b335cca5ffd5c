// SPDX-License-Identifier: Apache-2.0
// Addresses of the traffic benchmark's world, for those who build it and those who send through it.

export const POD = { 4: "10.244.1.5", 6: "fd00:10:244:1::5" } as const;
export const POD_CIDR = { 4: "10.244.1.0/24", 6: "fd00:10:244:1::/64" } as const;
/** Native-routing ranges: what pods reach under their own addresses. */
export const CLUSTER_CIDR = { 4: "10.244.0.0/16", 6: "fd00:10:244::/48" } as const;
export const NODE = { 4: "172.20.0.11", 6: "fd00:20::11" } as const;
export const GATEWAY = { 4: "172.20.0.254", 6: "fd00:20::fe" } as const;
const EIGHT = Array.from({ length: 8 }, (_, i) => 10 + i);
/** Addresses of the outside; new connections go to each in turn. */
export const INTERNET = {
  4: EIGHT.map((n) => `198.51.100.${n}`),
  6: EIGHT.map((n) => `2001:db8:100::${n}`),
} as const;

export const MAC = { pod: "02:00:0a:f4:01:05", host: "02:00:0a:f4:ff:05" } as const;
