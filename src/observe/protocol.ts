// SPDX-License-Identifier: Apache-2.0
// What an IP protocol is called, for events, lists and filters. Pure.

/** Those that pods may be met with; names as people write them. */
const NAMES: Readonly<Record<number, string>> = {
  1: "ICMP",
  2: "IGMP",
  4: "IPIP",
  6: "TCP",
  17: "UDP",
  33: "DCCP",
  41: "IPv6",
  47: "GRE",
  50: "ESP",
  51: "AH",
  58: "ICMPv6",
  89: "OSPF",
  112: "VRRP",
  115: "L2TP",
  132: "SCTP",
  136: "UDPLite",
};

/** Numbers by name in lower case. */
export const PROTOCOL_NUMBERS: Readonly<Record<string, number>> = Object.fromEntries(
  Object.entries(NAMES).map(([number, name]) => [name.toLowerCase(), Number(number)]),
);

/** `TCP`, or `IP protocol 253`. */
export function protocolName(proto: number): string {
  return NAMES[proto] ?? `IP protocol ${proto}`;
}

/** Whether its flows are told apart by ports or an identifier (bpf/lib/parse.h); of any other all between two addresses is one. */
export function hasPorts(proto: number): boolean {
  return ["TCP", "UDP", "ICMP", "ICMPv6"].includes(protocolName(proto));
}
