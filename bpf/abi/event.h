/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the data plane tells user space of one packet, through the ring buffer `events`; and the texts of all enums. */
#pragma once

struct flow_event {
	__u64 time DOC("CLOCK_MONOTONIC at the last timer interrupt, ns");
	struct addr saddr DOC("source address as the packet arrived");
	struct addr daddr DOC("destination address as the packet arrived");
	struct addr xsaddr DOC("source address after translation");
	struct addr xdaddr DOC("destination address after translation");
	__be16 sport DOC("source port or ICMP identifier as it arrived");
	__be16 dport DOC("destination port as it arrived");
	__be16 xsport DOC("source port after translation");
	__be16 xdport DOC("destination port after translation");
	__u32 ifindex DOC("device of the hook");
	__u32 identity DOC("security identity of the source, 0 unknown");
	__u32 remote_identity DOC("security identity of the destination, 0 unknown");
	__u32 rule_arg DOC("what the rule matched: prefix_rule.source for rules 5 and 7, else 0");
	__u32 len DOC("bytes of the packet, link header included");
	__u16 endpoint DOC("local endpoint id, 0 none");
	__u8 kind DOC("enum event_kind");
	__u8 hook DOC("enum hook");
	__u8 reason DOC("enum drop_reason, 0 for a forwarded packet");
	__u8 rule DOC("enum masquerade_rule");
	__u8 proto DOC("IP protocol");
	__u8 tcp_flags DOC("TCP flags byte, 0 if not TCP");
	__u32 pad DOC("always 0");
};

struct texts {
	DROP_REASONS(TEXT_ROW)
	MASQUERADE_RULES(TEXT_ROW)
	HOOKS(TEXT_ROW)
	FLOW_STATES(TEXT_ROW)
	ENDPOINT_FLAGS(TEXT_ROW)
	DEVICE_FLAGS(TEXT_ROW)
	REMOTE_FLAGS(TEXT_ROW)
	SWEEP_MODES(TEXT_ROW)
	FRAGMENT_FATES(TEXT_ROW)
	EVENT_KINDS(TEXT_ROW)
};
