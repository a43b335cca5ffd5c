// SPDX-License-Identifier: Apache-2.0
// Codes of the kernel layer. A refused system call keeps its errno name, the operation and the object, in that order:
// `map.update ENOSPC nonmasq_cidrs (16384 of 16384 entries)`.
import { defineFaults } from "../base/fault.ts";

function refusal(c: Record<string, unknown>): string {
  const object = c.object === "" || c.object === undefined ? "" : ` ${c.object}`;
  return `${c.op} ${c.errno}${object}${c.why ? `: ${c.why}` : ""}`;
}

export const faults = defineFaults({
  KERNEL_REFUSED: { text: refusal },
  KERNEL_BUSY: { text: refusal, retriable: true },
  NETLINK_REPLY: { text: (c) => `${c.op} ${c.object}: ${c.why}` },
  NETNS_STUCK: { text: (c) => `cannot return to the network namespace that this thread came from: ${c.why}` },
  NO_CGROUP2: { text: () => "no cgroup2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup" },
  NO_LIBBPF: {
    text: (c) =>
      `libbpf.so.1 cannot be loaded (${c.why}): install the package libbpf1 (Debian, Ubuntu) or libbpf`,
  },
  COMMAND_FAILED: { text: (c) => `${c.command}: ${c.why}`, retriable: true },
  LINE_REFUSED: { text: (c) => `${c.detail}: ${c.line}`, retriable: true },
  PROGRAM_MISSING: {
    text: (c) => `${c.program} is not installed: install the package ${c.package}`,
    retriable: true,
  },
  NO_FD_POLLING: { text: () => "this build of koffi cannot watch file descriptors" },
  UNSUPPORTED_MACHINE: { text: (c) => `processor ${c.arch}: only x64 and arm64 are supported` },
});
