// SPDX-License-Identifier: Apache-2.0
// Verdicts, rules and flags: names spelt as in C, numbers and texts.
// Generated from the BTF of the data plane by `npm run gen`; the source is bpf/abi.

/** enum drop_reason. */
export const DropReason = {
  /** Forwarded. */
  FORWARDED: 0,
  /** Invalid source ip. */
  DROP_INVALID_SOURCE_IP: 132,
  /** Invalid packet. */
  DROP_INVALID: 134,
  /** CT: Truncated or invalid header. */
  DROP_CT_INVALID_HDR: 135,
  /** CT: Can't create entry from packet. */
  DROP_CT_CANT_CREATE: 138,
  /** Unsupported L3 protocol. */
  DROP_UNSUPPORTED_L3: 139,
  /** Error writing to packet. */
  DROP_WRITE_ERROR: 141,
  /** Unknown L4 protocol. */
  DROP_UNKNOWN_L4: 142,
  /** Error while correcting L3 checksum. */
  DROP_CSUM_L3: 153,
  /** Error while correcting L4 checksum. */
  DROP_CSUM_L4: 154,
  /** CT: Map insertion failed. */
  DROP_CT_INSERT_FAILED: 155,
  /** Invalid IPv6 extension header. */
  DROP_INVALID_EXTHDR: 156,
  /** IP fragmentation not supported. */
  DROP_FRAG_NOSUPPORT: 157,
  /** No mapping for NAT masquerade. */
  DROP_NAT_NO_MAPPING: 167,
  /** Unsupported protocol for NAT masquerade. */
  DROP_NAT_UNSUPP_PROTO: 168,
  /** FIB lookup failed. */
  DROP_NO_FIB: 169,
  /** First logical datagram fragment not found. */
  DROP_FRAG_NOT_FOUND: 175,
  /** Policy denied by denylist. */
  DROP_POLICY_DENY: 181,
} as const;
export type DropReason = (typeof DropReason)[keyof typeof DropReason];

/** Texts of enum drop_reason by number. */
export const dropReasonText: Readonly<Record<number, string>> = {
  0: "Forwarded",
  132: "Invalid source ip",
  134: "Invalid packet",
  135: "CT: Truncated or invalid header",
  138: "CT: Can't create entry from packet",
  139: "Unsupported L3 protocol",
  141: "Error writing to packet",
  142: "Unknown L4 protocol",
  153: "Error while correcting L3 checksum",
  154: "Error while correcting L4 checksum",
  155: "CT: Map insertion failed",
  156: "Invalid IPv6 extension header",
  157: "IP fragmentation not supported",
  167: "No mapping for NAT masquerade",
  168: "Unsupported protocol for NAT masquerade",
  169: "FIB lookup failed",
  175: "First logical datagram fragment not found",
  181: "Policy denied by denylist",
};

/** enum masquerade_rule. */
export const MasqueradeRule = {
  /** Masquerading is off for this family. */
  MASQ_OFF: 0,
  /** Own tunnel, link-local, neighbour discovery or multicast: never translated. */
  MASQ_NEVER: 1,
  /** The node's own traffic. */
  MASQ_HOST: 2,
  /** Reply to a flow that the other side opened. */
  MASQ_REPLY: 3,
  /** Egress gateway policy. */
  MASQ_EGRESS_GATEWAY: 4,
  /** Destination in the native-routing CIDR. */
  MASQ_NATIVE_CIDR: 5,
  /** Endpoint is exempt. */
  MASQ_ENDPOINT_EXEMPT: 6,
  /** Destination in nonMasqueradeCIDRs. */
  MASQ_NONMASQ_CIDR: 7,
  /** Destination is a node of the cluster. */
  MASQ_REMOTE_NODE: 8,
  /** Pod traffic that leaves the cluster: masqueraded. */
  MASQ_POD: 9,
  /** Forwarded traffic that is not ours. */
  MASQ_FORWARDED: 10,
  /** Stays on this node. */
  MASQ_LOCAL: 11,
  /** Leaves by a device without our programs. */
  MASQ_UNMANAGED: 12,
  /** Netfilter masquerades: its rules decide. */
  MASQ_NETFILTER: 13,
} as const;
export type MasqueradeRule = (typeof MasqueradeRule)[keyof typeof MasqueradeRule];

/** Texts of enum masquerade_rule by number. */
export const masqueradeRuleText: Readonly<Record<number, string>> = {
  0: "masquerading is off for this family",
  1: "own tunnel, link-local, neighbour discovery or multicast: never translated",
  2: "the node's own traffic",
  3: "reply to a flow that the other side opened",
  4: "egress gateway policy",
  5: "destination in the native-routing CIDR",
  6: "endpoint is exempt",
  7: "destination in nonMasqueradeCIDRs",
  8: "destination is a node of the cluster",
  9: "pod traffic that leaves the cluster: masqueraded",
  10: "forwarded traffic that is not ours",
  11: "stays on this node",
  12: "leaves by a device without our programs",
  13: "netfilter masquerades: its rules decide",
};

/** enum hook. */
export const Hook = {
  /** From_pod. */
  HOOK_FROM_POD: 1,
  /** To_pod. */
  HOOK_TO_POD: 2,
  /** From_net. */
  HOOK_FROM_NET: 3,
  /** To_net. */
  HOOK_TO_NET: 4,
} as const;
export type Hook = (typeof Hook)[keyof typeof Hook];

/** Texts of enum hook by number. */
export const hookText: Readonly<Record<number, string>> = {
  1: "from_pod",
  2: "to_pod",
  3: "from_net",
  4: "to_net",
};

/** enum flow_state. */
export const FlowState = {
  /** The other side has answered. */
  FLOW_REPLIED: 1,
  /** The opener has sent FIN. */
  FLOW_OPENER_FIN: 2,
  /** The other side has sent FIN. */
  FLOW_REPLIER_FIN: 4,
  /** One side has sent RST. */
  FLOW_RESET: 8,
  /** Opened from outside towards a local pod. */
  FLOW_INBOUND: 16,
  /** The source is translated: replies holds its index entry. */
  FLOW_XSOURCE: 32,
  /** The destination is translated. */
  FLOW_XDEST: 64,
  /** A policy verdict let it in: established packets skip the lookup. */
  FLOW_ALLOWED: 128,
} as const;
export type FlowState = (typeof FlowState)[keyof typeof FlowState];

/** Texts of enum flow_state by number. */
export const flowStateText: Readonly<Record<number, string>> = {
  1: "the other side has answered",
  2: "the opener has sent FIN",
  4: "the other side has sent FIN",
  8: "one side has sent RST",
  16: "opened from outside towards a local pod",
  32: "the source is translated: replies holds its index entry",
  64: "the destination is translated",
  128: "a policy verdict let it in: established packets skip the lookup",
};

/** enum endpoint_flag. */
export const EndpointFlag = {
  /** Never masquerade this pod. */
  ENDPOINT_NO_MASQUERADE: 1,
} as const;
export type EndpointFlag = (typeof EndpointFlag)[keyof typeof EndpointFlag];

/** Texts of enum endpoint_flag by number. */
export const endpointFlagText: Readonly<Record<number, string>> = {
  1: "never masquerade this pod",
};

/** enum device_flag. */
export const DeviceFlag = {
  /** No link header (tun, WireGuard). */
  DEVICE_L3: 1,
  /** The node has routing rules: what the stack sends here by a pod's address may be due elsewhere. */
  DEVICE_BY_SOURCE: 2,
  /** The only native device, and no route depends on a source port: flows to one port of a destination go one way, under one address. */
  DEVICE_ONE_WAY: 4,
} as const;
export type DeviceFlag = (typeof DeviceFlag)[keyof typeof DeviceFlag];

/** Texts of enum device_flag by number. */
export const deviceFlagText: Readonly<Record<number, string>> = {
  1: "no link header (tun, WireGuard)",
  2: "the node has routing rules: what the stack sends here by a pod's address may be due elsewhere",
  4: "the only native device, and no route depends on a source port: flows to one port of a destination go one way, under one address",
};

/** enum remote_flag. */
export const RemoteFlag = {
  /** Address of another node. */
  REMOTE_NODE: 1,
  /** Reached without the tunnel. */
  REMOTE_SKIP_TUNNEL: 2,
} as const;
export type RemoteFlag = (typeof RemoteFlag)[keyof typeof RemoteFlag];

/** Texts of enum remote_flag by number. */
export const remoteFlagText: Readonly<Record<number, string>> = {
  1: "address of another node",
  2: "reached without the tunnel",
};

/** enum sweep_mode. */
export const SweepMode = {
  /** Through the index too, for entries that lost their record. */
  SWEEP_INDEX: 1,
  /** Nothing but to move what is in the table that is being drained. */
  SWEEP_MOVE: 2,
  /** Also flows under an address that the node has lost. */
  SWEEP_ADDRESSES: 4,
  /** Nothing but fragments whose first has not come. */
  SWEEP_FRAGMENTS: 8,
} as const;
export type SweepMode = (typeof SweepMode)[keyof typeof SweepMode];

/** Texts of enum sweep_mode by number. */
export const sweepModeText: Readonly<Record<number, string>> = {
  1: "through the index too, for entries that lost their record",
  2: "nothing but to move what is in the table that is being drained",
  4: "also flows under an address that the node has lost",
  8: "nothing but fragments whose first has not come",
};

/** enum fragment_fate. */
export const FragmentFate = {
  /** Held until the first fragment of its datagram comes. */
  FRAGMENT_HELD: 0,
  /** Sent on its way after the first. */
  FRAGMENT_RELEASED: 1,
  /** Given up: the first did not come. */
  FRAGMENT_ENDED: 2,
} as const;
export type FragmentFate = (typeof FragmentFate)[keyof typeof FragmentFate];

/** Texts of enum fragment_fate by number. */
export const fragmentFateText: Readonly<Record<number, string>> = {
  0: "held until the first fragment of its datagram comes",
  1: "sent on its way after the first",
  2: "given up: the first did not come",
};

/** enum event_kind. */
export const EventKind = {
  /** Drop. */
  EVENT_DROP: 1,
  /** New-flow. */
  EVENT_NEW_FLOW: 2,
} as const;
export type EventKind = (typeof EventKind)[keyof typeof EventKind];

/** Texts of enum event_kind by number. */
export const eventKindText: Readonly<Record<number, string>> = {
  1: "drop",
  2: "new-flow",
};
