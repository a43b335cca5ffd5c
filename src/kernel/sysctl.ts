// SPDX-License-Identifier: Apache-2.0
// Kernel settings below /proc/sys (proc_sys(5)). Those of `net` belong to the network namespace of whoever opens them.
import { readFileSync, writeFileSync } from "node:fs";
import { type Netns, withNetns } from "./netns.ts";

/**
 * `net.ipv4.ip_forward` to its file. With slashes dots stay, for devices whose names have some:
 * `net/ipv4/conf/eth0.7/rp_filter`.
 */
export function sysctlPath(name: string): string {
  return `/proc/sys/${name.includes("/") ? name : name.replaceAll(".", "/")}`;
}

/** A setting's value, without the closing newline. Throws ENOENT of node:fs if the kernel does not have it. */
export function readSysctl(name: string, netns?: Netns | string): string {
  const read = (): string => readFileSync(sysctlPath(name), "latin1").trim();
  return netns === undefined ? read() : withNetns(netns, read);
}

/** Sets a value; false if it was there already, and then nothing is written. */
export function writeSysctl(name: string, value: string | number, netns?: Netns | string): boolean {
  const write = (): boolean => {
    if (readSysctl(name) === String(value)) return false;
    writeFileSync(sysctlPath(name), String(value));
    return true;
  };
  return netns === undefined ? write() : withNetns(netns, write);
}
