// SPDX-License-Identifier: Apache-2.0
// A place for pins: the folder of --bpf-root in a BPF file system, which is mounted where there is none.
import { Fault } from "../base/fault.ts";
import { isBpffs, mountBpffs } from "../kernel/mount.ts";
import { faults } from "./faults.ts";

/** Where systemd and container runtimes mount it. */
const STANDARD = "/sys/fs/bpf";

/** @throws Fault NO_BPFFS */
export function prepareBpffs(bpfRoot: string): void {
  const target = bpfRoot.startsWith(`${STANDARD}/`) ? STANDARD : bpfRoot;
  if (isBpffs(target)) return;
  try {
    mountBpffs(target);
  } catch (thrown) {
    throw faults.NO_BPFFS({ path: target, why: Fault.from(thrown).detail }, thrown);
  }
}
