// SPDX-License-Identifier: Apache-2.0
// Giving up capabilities that the process does not need (capabilities(7)): from what it may use, what it may regain
// and what its children may gain. They belong to threads, and threads inherit them when they are made.
import { readdirSync, readFileSync } from "node:fs";
import { allocate, checked, libc } from "./ffi.ts";

/** include/uapi/linux/capability.h. */
export const Capability = {
  chown: 0,
  dacOverride: 1,
  dacReadSearch: 2,
  fowner: 3,
  kill: 5,
  setgid: 6,
  setuid: 7,
  setpcap: 8,
  netBindService: 10,
  netAdmin: 12,
  netRaw: 13,
  ipcLock: 14,
  sysModule: 16,
  sysPtrace: 19,
  sysAdmin: 21,
  sysNice: 23,
  sysResource: 24,
  syslog: 34,
  perfmon: 38,
  bpf: 39,
} as const;

export type CapabilityName = keyof typeof Capability;

const PR_CAPBSET_DROP = 24;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_CLEAR_ALL = 4;
const CAPABILITY_VERSION_3 = 0x2008_0522;

/** Number of the last capability that this kernel has. */
function lastCapability(): number {
  return Number(readFileSync("/proc/sys/kernel/cap_last_cap", "latin1"));
}

function maskOf(capabilities: readonly CapabilityName[]): bigint {
  return capabilities.reduce((mask, name) => mask | (1n << BigInt(Capability[name])), 0n);
}

/** The bits of a line of /proc/PID/status: CapEff, CapPrm, CapBnd. */
function statusMask(status: string, field: string): bigint {
  return BigInt(`0x${new RegExp(`^${field}:\\s*([0-9a-f]+)`, "m").exec(status)?.[1] ?? "0"}`);
}

/** Whether the calling thread may use a capability now. */
export function hasCapability(name: CapabilityName): boolean {
  const mask = statusMask(readFileSync("/proc/thread-self/status", "latin1"), "CapEff");
  return (mask & (1n << BigInt(Capability[name]))) !== 0n;
}

/** Sets effective and permitted to `mask` less what is not permitted now, inheritable to nothing. */
function setThreadCapabilities(mask: bigint): void {
  const header = allocate(8);
  new DataView(header.buffer).setUint32(0, CAPABILITY_VERSION_3, true);
  const data = allocate(24);
  checked("capabilities.get", "", libc.capget(header, data));
  const view = new DataView(data.buffer);
  // struct __user_cap_data_struct twice: low and high 32 bits of effective, permitted, inheritable.
  for (const [at, half] of [
    [0, Number(mask & 0xffff_ffffn)],
    [12, Number(mask >> 32n)],
  ] as const) {
    const kept = view.getUint32(at + 4, true) & half;
    view.setUint32(at, kept >>> 0, true);
    view.setUint32(at + 4, kept >>> 0, true);
    view.setUint32(at + 8, 0, true);
  }
  checked("capabilities.set", "", libc.capset(header, data));
}

/**
 * Gives up all capabilities but `keep`, for good, also for programs that this process starts. It holds for the calling
 * thread and for threads made after it: call it before anything uses libuv's thread pool. Gives the number of threads
 * that still have more (V8's compiler and collector threads, made before JavaScript runs).
 * @throws Fault KERNEL_REFUSED if the process may not change its own (no CAP_SETPCAP)
 */
export function dropCapabilities(keep: readonly CapabilityName[]): number {
  const mask = maskOf(keep);
  checked("capabilities.clear_ambient", "", libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
  for (let number = 0; number <= lastCapability(); number++) {
    if (mask & (1n << BigInt(number))) continue;
    checked("capabilities.drop", `${number}`, libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0));
  }
  setThreadCapabilities(mask);
  return readdirSync("/proc/self/task").filter((thread) => {
    const status = readFileSync(`/proc/self/task/${thread}/status`, "latin1");
    return (statusMask(status, "CapEff") & ~mask) !== 0n;
  }).length;
}
