/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Runs a hook again and again on the packet as it first was: a test run with a repeat count keeps what the hook rewrote, so
 * that without this all runs but the first would see a translated packet. It can number the packets, so that each belongs
 * to another flow. What it costs itself is measured with `nothing` in the place of the hook.
 */
#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PACKET_BYTES 84
#define FIRST_PORT 1024
#define PORTS 60000
#define FIRST_SERVICE 80

struct original {
	__u32 next;  /* number of the next packet */
	__u32 flows; /* packets are numbered modulo this; 0: all are the same */
	__u32 ports; /* offset of the source port */
	__u32 mode;  /* 1: answers, with the ports the other way round; 2: each packet to another port of the destination */
	__u8 packet[PACKET_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct original);
} original SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} hooks SEC(".maps");

SEC("tc")
int restore(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct original *o = bpf_map_lookup_elem(&original, &zero);

	if (!o)
		return TC_ACT_SHOT;
	skb->mark = 0;
	bpf_skb_store_bytes(skb, 0, o->packet, PACKET_BYTES, 0);
	if (o->flows) {
		__u32 n = o->next++ % o->flows;
		__u32 low = n % PORTS, high = n / PORTS;
		__be16 opener = bpf_htons(FIRST_PORT + (o->mode == 2 ? high : low));
		__be16 service = bpf_htons(FIRST_SERVICE + (o->mode == 2 ? low : high));
		__be16 ports[2] = { o->mode == 1 ? service : opener, o->mode == 1 ? opener : service };

		bpf_skb_store_bytes(skb, o->ports, ports, sizeof(ports), 0);
	}
	bpf_tail_call(skb, &hooks, 0);
	return TC_ACT_SHOT;
}

SEC("tc")
int nothing(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
