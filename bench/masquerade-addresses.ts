// SPDX-License-Identifier: Apache-2.0
// Addresses of the masquerade benchmark's world, for those who build it and those who send through it.

export const POD = "10.244.1.5";
export const POD_CIDR = "10.244.1.0/24";
export const NODE = "172.20.0.11";
export const GATEWAY = "172.20.0.254";
/** Addresses of the outside; new connections go to each in turn. */
export const INTERNET = Array.from({ length: 8 }, (_, i) => `198.51.100.${10 + i}`);

export const MAC = { pod: "02:00:0a:f4:01:05", host: "02:00:0a:f4:ff:05" } as const;
