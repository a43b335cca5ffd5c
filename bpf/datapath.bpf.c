/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The data plane: everything in packet order, the table of contents. One object, one BTF, one set of maps. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "abi/types.h"
#include "abi/verdict.h"
#include "abi/config.h"
#include "abi/event.h"
#include "abi/maps.h"
#include "abi/export.h"

const volatile struct node_config CONFIG SEC(".rodata.config");
const volatile struct texts TEXTS SEC(".rodata.texts");

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

SEC("tc")
int from_net(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

SEC("tc")
int to_net(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
