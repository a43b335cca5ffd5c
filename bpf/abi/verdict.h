/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What can happen to a packet and why: verdicts, drop reasons, rules, flags. Each list is written once, as rows of
 * (number, name, text); the texts travel in BTF (struct texts, event.h) and reach the CLI, the metrics and docs/reference.
 * Drop numbers and texts are Cilium's (pkg/monitor/api/drop.go): users grep for them.
 */
#pragma once

#define ENUM_ROW(number, name, text) name = number,
#define TEXT_ROW(number, name, text) __u8 name##_TEXT DOC(text);

#define DROP_REASONS(X)                                                        \
	X(0, FORWARDED, "Forwarded")                                           \
	X(132, DROP_INVALID_SOURCE_IP, "Invalid source ip")                    \
	X(134, DROP_INVALID, "Invalid packet")                                 \
	X(135, DROP_CT_INVALID_HDR, "CT: Truncated or invalid header")         \
	X(138, DROP_CT_CANT_CREATE, "CT: Can't create entry from packet")      \
	X(139, DROP_UNSUPPORTED_L3, "Unsupported L3 protocol")                 \
	X(141, DROP_WRITE_ERROR, "Error writing to packet")                    \
	X(142, DROP_UNKNOWN_L4, "Unknown L4 protocol")                         \
	X(153, DROP_CSUM_L3, "Error while correcting L3 checksum")             \
	X(154, DROP_CSUM_L4, "Error while correcting L4 checksum")             \
	X(155, DROP_CT_INSERT_FAILED, "CT: Map insertion failed")              \
	X(156, DROP_INVALID_EXTHDR, "Invalid IPv6 extension header")           \
	X(157, DROP_FRAG_NOSUPPORT, "IP fragmentation not supported")          \
	X(167, DROP_NAT_NO_MAPPING, "No mapping for NAT masquerade")           \
	X(168, DROP_NAT_UNSUPP_PROTO, "Unsupported protocol for NAT masquerade") \
	X(169, DROP_NO_FIB, "FIB lookup failed")                               \
	X(175, DROP_FRAG_NOT_FOUND, "First logical datagram fragment not found") \
	X(181, DROP_POLICY_DENY, "Policy denied by denylist")

enum drop_reason { DROP_REASONS(ENUM_ROW) };

/* Rules 1-10 are the decision order of docs/user/masquerade.md; stage/masquerade.h walks them in this order. */
#define MASQUERADE_RULES(X)                                                    \
	X(0, MASQ_OFF, "masquerading is off for this family")                  \
	X(1, MASQ_NEVER, "own tunnel, link-local, neighbour discovery or multicast: never translated") \
	X(2, MASQ_HOST, "the node's own traffic")                              \
	X(3, MASQ_REPLY, "reply to a flow that the other side opened")         \
	X(4, MASQ_EGRESS_GATEWAY, "egress gateway policy")                     \
	X(5, MASQ_NATIVE_CIDR, "destination in the native-routing CIDR")       \
	X(6, MASQ_ENDPOINT_EXEMPT, "endpoint is exempt")                       \
	X(7, MASQ_NONMASQ_CIDR, "destination in nonMasqueradeCIDRs")           \
	X(8, MASQ_REMOTE_NODE, "destination is a node of the cluster")         \
	X(9, MASQ_POD, "pod traffic that leaves the cluster: masqueraded")     \
	X(10, MASQ_FORWARDED, "forwarded traffic that is not ours")            \
	X(11, MASQ_LOCAL, "stays on this node")                                \
	X(12, MASQ_UNMANAGED, "leaves by a device without our programs")       \
	X(13, MASQ_NETFILTER, "netfilter masquerades: its rules decide")

enum masquerade_rule { MASQUERADE_RULES(ENUM_ROW) };

#define HOOKS(X)                                                               \
	X(1, HOOK_FROM_POD, "from_pod")                                        \
	X(2, HOOK_TO_POD, "to_pod")                                            \
	X(3, HOOK_FROM_NET, "from_net")                                        \
	X(4, HOOK_TO_NET, "to_net")

enum hook { HOOKS(ENUM_ROW) };

#define FLOW_STATES(X)                                                         \
	X(1, FLOW_REPLIED, "the other side has answered")                      \
	X(2, FLOW_OPENER_FIN, "the opener has sent FIN")                       \
	X(4, FLOW_REPLIER_FIN, "the other side has sent FIN")                  \
	X(8, FLOW_RESET, "one side has sent RST")                              \
	X(16, FLOW_INBOUND, "opened from outside towards a local pod")         \
	X(32, FLOW_XSOURCE, "the source is translated: replies holds its index entry") \
	X(64, FLOW_XDEST, "the destination is translated")                     \
	X(128, FLOW_ALLOWED, "a policy verdict let it in: established packets skip the lookup")

enum flow_state { FLOW_STATES(ENUM_ROW) };

#define ENDPOINT_FLAGS(X) X(1, ENDPOINT_NO_MASQUERADE, "never masquerade this pod")

enum endpoint_flag { ENDPOINT_FLAGS(ENUM_ROW) };

#define DEVICE_FLAGS(X)                                                        \
	X(1, DEVICE_L3, "no link header (tun, WireGuard)")                     \
	X(2, DEVICE_BY_SOURCE, "the node has routing rules: what the stack sends here by a pod's address may be due elsewhere") \
	X(4, DEVICE_ONE_WAY, "the only native device, and no route depends on a source port: flows to one port of a destination go one way, under one address")

enum device_flag { DEVICE_FLAGS(ENUM_ROW) };

#define REMOTE_FLAGS(X)                                                        \
	X(1, REMOTE_NODE, "address of another node")                           \
	X(2, REMOTE_SKIP_TUNNEL, "reached without the tunnel")

enum remote_flag { REMOTE_FLAGS(ENUM_ROW) };

#define SWEEP_MODES(X)                                                         \
	X(1, SWEEP_INDEX, "through the index too, for entries that lost their record") \
	X(2, SWEEP_MOVE, "nothing but to move what is in the table that is being drained") \
	X(4, SWEEP_ADDRESSES, "also flows under an address that the node has lost") \
	X(8, SWEEP_FRAGMENTS, "nothing but fragments whose first has not come")

enum sweep_mode { SWEEP_MODES(ENUM_ROW) };

#define FRAGMENT_FATES(X)                                                      \
	X(0, FRAGMENT_HELD, "held until the first fragment of its datagram comes") \
	X(1, FRAGMENT_RELEASED, "sent on its way after the first")             \
	X(2, FRAGMENT_ENDED, "given up: the first did not come")

enum fragment_fate { FRAGMENT_FATES(ENUM_ROW) };

#define EVENT_KINDS(X)                                                         \
	X(1, EVENT_DROP, "drop")                                               \
	X(2, EVENT_NEW_FLOW, "new-flow")

enum event_kind { EVENT_KINDS(ENUM_ROW) };
