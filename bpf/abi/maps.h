/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every map: what an entry means, who writes it, who reads it. Names have at most 15 characters and are pin names.
 * flows and replies are arrays of maps: slot 0 takes new records, slot 1 holds those of a smaller table that is
 * being drained after growth, and is empty otherwise. Sizes here are defaults; the loader sets them from the options.
 */
#pragma once

/* The program behind the hooks stands in this slot of `programs`. */
#define PROGRAM_SLOT 0

#define FLOWS_DEFAULT 65536
#define TABLE_SLOTS 2
/* Entries of table_use. */
#define USE_RECORDS 0
#define USE_SIZE 1
#define USE_ORPHAN 2
/* Entries of resets. */
#define RESETS_ALLOWED 0
#define RESETS_IPV4 1
#define RESETS_IPV6 2
/* 64 KiB on each processor. */
#define RECENT_SLOTS 512
/* 20 KiB on each processor. */
#define WAY_SLOTS 256
/* As Cilium's: 0 to 31, and more. */
#define RETRY_SLOTS 33
/* 2.3 MiB, of which half is one sender's at most: two datagrams of 64 KiB at an MTU of 1500. */
#define HELD_SLOTS 256

struct flow_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FLOWS_DEFAULT);
	__type(key, struct flow_key);
	__type(value, struct flow);
};

struct reply_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FLOWS_DEFAULT);
	__type(key, struct flow_key);
	__type(value, struct reply);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TABLE_SLOTS);
	__type(key, __u32);
	__array(values, struct flow_table);
} flows SEC(".maps") DOC("The flow table: one record per flow under the opener's tuple. Written by the data plane, read by the CLI.");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TABLE_SLOTS);
	__type(key, __u32);
	__array(values, struct reply_table);
} replies SEC(".maps") DOC("Index of translated flows by the tuple of their replies. Means nothing without its record in flows.");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct owner);
} owners SEC(".maps") DOC("How many flows each endpoint has, by its id; 0 is the node. Written by the data plane, read by the agent and the CLI.");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} endpoint_ids SEC(".maps") DOC("Ids of the local pods: bit id % 64 of word id / 64. The sweep ends the flows of all others. Written by the agent.");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} table_use SEC(".maps") DOC("Use of the flow table: 0 its records, written by the data plane; 1 the records that the table in use has room for, written by the agent; 2 not 0 once an index entry without a record was met, which the next sweep looks for.");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct endpoint);
} endpoints SEC(".maps") DOC("Local pods by the index of their device on the node. Written by the agent.");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct addr);
	__type(value, struct endpoint);
} endpoint_addrs SEC(".maps") DOC("Local pods by each of their addresses. Written by the agent.");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct device);
} devices SEC(".maps") DOC("Native devices that carry our programs, by index, with their masquerade addresses. Written by the agent.");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct addr);
	__type(value, __u32);
} node_addrs SEC(".maps") DOC("Addresses of this node, each with the index of the device that has it. Written by the agent.");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	/* 16384 of each family for the ip-masq-agent, and as many for native ranges, which can be every node's. */
	__uint(max_entries, 65536);
	__type(key, struct prefix);
	__type(value, struct prefix_rule);
} nonmasq_cidrs SEC(".maps") DOC("Destinations that keep the pod's address, with the rule that says so. Written by the agent.");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 512000);
	__type(key, struct prefix);
	__type(value, struct remote);
} ipcache SEC(".maps") DOC("Who an address is: this node, other nodes, pods. Written by the agent from Kubernetes objects.");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2048);
	__type(key, __u32);
	__type(value, __u64);
} reserved_ports SEC(".maps") DOC("Ports that masquerading must not choose: bit port % 64 of word port / 64; words 0-1023 TCP, 1024-2047 UDP. Written by the agent.");

/* 0.5 MiB. An endpoint gets here when hundreds of ports in a row are held, so a table of 1 Mi flows cannot fill it usefully. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 128);
	__type(key, struct flow_key);
	__type(value, struct crowd);
} crowded SEC(".maps") DOC("Remote endpoints with few or no free ports, by the tuple of their replies, port 0: where to look and where not. A hint, never the truth. Written by the data plane.");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct crowd);
} crowd_blank SEC(".maps") DOC("What an entry of crowded begins as; marked is the last tick in which any of them was. Written by the data plane.");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct scratch);
} searches SEC(".maps") DOC("The search for a port that goes on at this moment. Only the data plane uses it.");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RETRY_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} nat_retries_v4 SEC(".maps") DOC("IPv4 flows that looked for a port, by the ports refused before one was found; the last is for more, and for none found. Written by the data plane.");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RETRY_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} nat_retries_v6 SEC(".maps") DOC("IPv6 flows that looked for a port, by the ports refused before one was found; the last is for more, and for none found. Written by the data plane.");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1280);
	__type(key, __u32);
	__type(value, struct counter);
} counters SEC(".maps") DOC("Packets and bytes; the index is 256 * enum hook + enum drop_reason. Written by the data plane.");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RECENT_SLOTS);
	__type(key, __u32);
	__type(value, struct recent);
} recent SEC(".maps") DOC("What packets of the busiest flows were told in this tick, by a hash of their tuple. Only the data plane uses it.");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WAY_SLOTS);
	__type(key, __u32);
	__type(value, struct way);
} ways SEC(".maps") DOC("What first packets found out about their destinations in this tick, by a hash of the tuple without its source port. Only the data plane uses it.");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct datagram_key);
	__type(value, struct datagram);
} frag_datagrams SEC(".maps") DOC("Ports of fragmented datagrams whose first fragment came by lately. Only the data plane uses it.");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HELD_SLOTS);
	__type(key, __u32);
	__type(value, struct held);
} frag_held SEC(".maps") DOC("Later fragments that came before the first of their datagram and wait for it. Written by the data plane.");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HELD_SLOTS);
	__type(key, __u32);
	__type(value, struct held_bytes);
} frag_bytes SEC(".maps") DOC("The packets of frag_held, under the same numbers. Only the data plane uses it.");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} frag_counts SEC(".maps") DOC("What became of fragments that had to wait; the index is enum fragment_fate. Written by the data plane, read by the agent.");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4194304);
} events SEC(".maps") DOC("struct flow_event records of drops and new flows. Written by the data plane, drained by the agent.");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} events_lost SEC(".maps") DOC("Events that found the ring buffer full. Written by the data plane, read by the agent and the CLI.");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} resets SEC(".maps") DOC("TCP RSTs with which pods are told that nobody knows their connection: 0 whether any may be sent, 0 no, written by the loader and the agent; 1 those sent over IPv4 and 2 over IPv6, written by the data plane.");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} programs SEC(".maps") DOC("The one program behind all hooks, in slot 0: a write here swaps it on every device at once. Written by the loader.");
