/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Types that no map mentions: clang writes a type to BTF only if a variable needs it, and the generator reads BTF.
 * Each enum whose numbers and texts user space shows, and each struct that travels outside of maps, stands here;
 * so do the keys and values of inner maps, of which clang else writes forward declarations, that libbpf refuses.
 */
#pragma once

struct types {
	enum drop_reason drop_reason;
	enum masquerade_rule masquerade_rule;
	enum hook hook;
	enum flow_state flow_state;
	enum endpoint_flag endpoint_flag;
	enum device_flag device_flag;
	enum remote_flag remote_flag;
	enum sweep_mode sweep_mode;
	enum fragment_fate fragment_fate;
	enum event_kind event_kind;
	struct flow_key flow_key;
	struct flow flow;
	struct reply reply;
	struct flow_event flow_event;
	struct adoption adoption;
	struct sweep_result sweep_result;
	struct flush flush;
};

const volatile struct types TYPES SEC(".rodata.texts");
