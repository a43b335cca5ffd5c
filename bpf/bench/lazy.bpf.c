/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The shapes again with hash tables that allocate each entry when it is made (the LRU hash cannot). */
#define TABLE_FLAGS BPF_F_NO_PREALLOC
#include "shapes.bpf.c"
