/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The data plane: everything in packet order, the table of contents. One object, one BTF, one set of maps. */
#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* What user space sees. */
#include "abi/types.h"
#include "abi/verdict.h"
#include "abi/config.h"
#include "abi/event.h"
#include "abi/maps.h"
#include "abi/export.h"

const volatile struct node_config CONFIG SEC(".rodata.config");
const volatile struct machine MACHINE SEC(".rodata.machine");
const volatile struct texts TEXTS SEC(".rodata.texts");

/* The packet itself: no maps. */
#include "lib/addr.h"
#include "lib/pkt.h"
#include "lib/parse.h"
#include "lib/rewrite.h"
#include "lib/icmp_error.h"

/* One decision each, in the order in which a packet meets them. To come: service after flow, then identity, policy, proxy and
 * egress before masquerade. */
#include "stage/recent.h"
#include "stage/endpoint.h"
#include "stage/fragment.h"
#include "stage/tell.h"
#include "stage/crowd.h"
#include "stage/record.h"
#include "stage/table.h"
#include "stage/flow.h"
#include "stage/held.h"
#include "stage/reply.h"
#include "stage/related.h"
#include "stage/port.h"
#include "stage/search.h"
#include "stage/masquerade.h"
#include "stage/open.h"
#include "stage/route.h"
#include "stage/move.h"
#include "stage/refuse.h"

/* One story per attach point. */
#include "hook/finish.h"
#include "hook/from_pod.h"
#include "hook/to_pod.h"
#include "hook/from_net.h"
#include "hook/to_net.h"
#include "hook/datapath.h"
#include "hook/sweep.h"
#include "hook/flush.h"
#include "hook/adopt.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
