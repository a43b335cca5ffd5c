// SPDX-License-Identifier: Apache-2.0
// Why this machine cannot run a data plane at all: no root, an old kernel, no BTF, no bpffs, no cgroup v2. Nothing
// that an installation could change.
import { existsSync, readFileSync } from "node:fs";
import { release } from "node:os";

/** What is asked of the machine, so that a test can be another one. */
export interface Host {
  uid: number;
  /** Bits of the effective capabilities. */
  capabilities: bigint;
  /** `uname -r`. */
  kernel: string;
  btf: boolean;
  /** Names in /proc/filesystems. */
  filesystems: readonly string[];
}

const KERNEL_MIN = [6, 1] as const;
const CAP_NET_ADMIN = 12n;
const CAP_SYS_ADMIN = 21n;

/** This machine. */
export function thisHost(): Host {
  const status = readFileSync("/proc/self/status", "latin1");
  return {
    uid: process.geteuid?.() ?? -1,
    capabilities: BigInt(`0x${/^CapEff:\s*(\w+)/m.exec(status)?.[1] ?? "0"}`),
    kernel: release(),
    btf: existsSync("/sys/kernel/btf/vmlinux"),
    filesystems: readFileSync("/proc/filesystems", "latin1")
      .split("\n")
      .map((line) => line.split("\t").at(-1) ?? ""),
  };
}

function tooOld(kernel: string): boolean {
  const [major = 0, minor = 0] = kernel.split(/[.-]/).map(Number);
  return major < KERNEL_MIN[0] || (major === KERNEL_MIN[0] && minor < KERNEL_MIN[1]);
}

/** One line for each thing that is wrong: what, and what to do. Empty if the machine will do. */
export function obstacles(host: Host): string[] {
  const lines: string[] = [];
  const has = (bit: bigint): boolean => ((host.capabilities >> bit) & 1n) === 1n;
  if (host.uid !== 0) lines.push("not root: run it again as root, for example with sudo");
  else if (!has(CAP_SYS_ADMIN) || !has(CAP_NET_ADMIN)) {
    lines.push(
      "root without CAP_SYS_ADMIN and CAP_NET_ADMIN: leave the container, or run it with --privileged",
    );
  }
  if (tooOld(host.kernel)) {
    lines.push(
      `kernel ${host.kernel} is too old: boot ${KERNEL_MIN.join(".")} or newer (Debian 12, Ubuntu 24.04)`,
    );
  }
  if (!host.btf) {
    lines.push(
      "the kernel has no BTF (/sys/kernel/btf/vmlinux): boot one with CONFIG_DEBUG_INFO_BTF=y, as distributions ship",
    );
  }
  if (!host.filesystems.includes("bpf")) {
    lines.push("the kernel has no bpffs: boot one with CONFIG_BPF_SYSCALL=y, as distributions ship");
  }
  if (!host.filesystems.includes("cgroup2")) {
    lines.push("the kernel has no cgroup v2: boot one with CONFIG_CGROUPS=y, as distributions ship");
  }
  return lines;
}
