// SPDX-License-Identifier: Apache-2.0
// `hookline bpf ...`: what is in the kernel now, read from the pinned maps, with or without an agent.
import type { Command } from "commander";
import { addBpfEndpoint } from "./bpf-endpoint.ts";
import { addBpfFlow } from "./bpf-flow.ts";
import { addBpfFrag } from "./bpf-frag.ts";
import { addBpfIpmasq } from "./bpf-ipmasq.ts";
import { addBpfMap } from "./bpf-map.ts";
import { addBpfMetrics } from "./bpf-metrics.ts";
import { addBpfNat } from "./bpf-nat.ts";

export function addBpf(program: Command): void {
  const group = program
    .command("bpf")
    .description("the data plane's maps, read from the kernel (no agent needed)");
  addBpfNat(group);
  addBpfFlow(group);
  addBpfFrag(group);
  addBpfIpmasq(group);
  addBpfEndpoint(group);
  addBpfMap(group);
  addBpfMetrics(group);
}
