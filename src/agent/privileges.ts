// SPDX-License-Identifier: Apache-2.0
// What the agent may still do after its start: what BPF, rtnetlink, mounts, pods' namespaces and its own files need.
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { type CapabilityName, dropCapabilities } from "../kernel/capabilities.ts";

/**
 * sysAdmin: setns(2), mounts, and BPF ids; netAdmin: links, routes, attaching; bpf and perfmon: maps and programs;
 * sysPtrace: /proc/PID/ns/net of pods that run as other users; dacOverride: namespaces and files that runtimes own;
 * netRaw: iptables asks the kernel about sets, and the legacy kind about everything, through a raw socket.
 */
const KEPT: readonly CapabilityName[] = [
  "sysAdmin",
  "netAdmin",
  "netRaw",
  "bpf",
  "perfmon",
  "sysPtrace",
  "dacOverride",
];

/** Gives up the rest, for good. An agent that may not is told so and works all the same. */
export function dropPrivileges(log: Log): void {
  try {
    const threads = dropCapabilities(KEPT);
    log.debug({ kept: KEPT, threads }, "capabilities dropped; threads of the JavaScript engine keep theirs");
  } catch (thrown) {
    log.warn({ error: Fault.from(thrown).detail }, "capabilities could not be dropped");
  }
}
