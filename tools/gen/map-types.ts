// SPDX-License-Identifier: Apache-2.0
// Names of enum bpf_map_type (include/uapi/linux/bpf.h) by number, spelt as bpftool prints them.

export const MAP_TYPES: readonly string[] = [
  "unspec",
  ..."hash array prog_array perf_event_array percpu_hash percpu_array stack_trace cgroup_array".split(" "),
  ..."lru_hash lru_percpu_hash lpm_trie array_of_maps hash_of_maps devmap sockmap cpumap xskmap".split(" "),
  ..."sockhash cgroup_storage reuseport_sockarray percpu_cgroup_storage queue stack sk_storage".split(" "),
  ..."devmap_hash struct_ops ringbuf inode_storage task_storage bloom_filter user_ringbuf".split(" "),
  ..."cgrp_storage arena".split(" "),
];
