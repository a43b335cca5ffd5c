// SPDX-License-Identifier: Apache-2.0
// Mounts: reading /proc/self/mountinfo (proc_pid_mountinfo(5)), bpffs, and the cgroup v2 hierarchy.
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statfsSync,
  writeFileSync,
} from "node:fs";
import { waitFor } from "../base/async.ts";
import { isErrno } from "./errno.ts";
import { faults } from "./faults.ts";
import { checked, errno, libc } from "./ffi.ts";

/** include/uapi/linux/magic.h. */
const BPF_FS_MAGIC = 0xcafe4a11;

const MNT_DETACH = 2;

export interface Mount {
  readonly id: number;
  readonly parent: number;
  /** Path inside the file system that is mounted. */
  readonly root: string;
  readonly target: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/** Space, tab, newline and backslash are written as \ooo in mountinfo. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

/** The mounts of a mountinfo file's text, in order: a later one covers an earlier one with the same target. */
export function parseMountInfo(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split("\n")) {
    const [left, right] = line.split(" - ");
    if (left === undefined || right === undefined) continue;
    const [id = "", parent = "", , root = "", target = "", options = ""] = left.split(" ");
    const [type = "", source = ""] = right.split(" ");
    mounts.push({
      id: Number(id),
      parent: Number(parent),
      root: unescapeOctal(root),
      target: unescapeOctal(target),
      type,
      source: unescapeOctal(source),
      options: options.split(","),
    });
  }
  return mounts;
}

/** The mounts that this process sees. */
export function listMounts(): Mount[] {
  return parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8"));
}

/** Where the cgroup v2 hierarchy is mounted: /sys/fs/cgroup, or a folder in it on hybrid hosts. */
export function findCgroup2(): string {
  const mount = listMounts().find((m) => m.type === "cgroup2" && m.root === "/");
  if (!mount) throw faults.NO_CGROUP2();
  return mount.target;
}

/** Whether `path` lies in a bpffs. */
export function isBpffs(path: string): boolean {
  return existsSync(path) && statfsSync(path).type === BPF_FS_MAGIC;
}

/** Mounts a bpffs at `path`, which is made if need be, with mode 0700; nothing happens if one is there already. */
export function mountBpffs(path: string): void {
  mkdirSync(path, { recursive: true });
  if (listMounts().some((m) => m.target === path && m.type === "bpf")) return;
  checked("mount.bpffs", path, libc.mount("bpf", path, "bpf", 0, "mode=0700"));
}

/** Unmounts what is mounted last at `path`; false if nothing is. `lazy` detaches it also while in use. */
export function unmount(path: string, { lazy = false } = {}): boolean {
  if (libc.umount2(path, lazy ? MNT_DETACH : 0) === 0) return true;
  if (["EINVAL", "ENOENT"].includes(errno())) return false;
  checked("mount.remove", path, -1);
  return false;
}

/** Makes a cgroup and those above it. */
export function makeCgroup(path: string): void {
  mkdirSync(path, { recursive: true });
}

/** Ids of the processes in a cgroup and in those below it. */
export function cgroupProcesses(path: string): number[] {
  const own = readFileSync(`${path}/cgroup.procs`, "latin1").split("\n").filter(Boolean).map(Number);
  return own.concat(...children(path).map(cgroupProcesses));
}

function children(path: string): string[] {
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => `${path}/${entry.name}`);
}

function removeTree(path: string): void {
  for (const child of children(path)) removeTree(child);
  rmdirSync(path);
}

/**
 * Removes a cgroup and those below it. `kill` first kills every process in them, at once (cgroup.kill, Linux 5.14);
 * without it a cgroup in use stays and is reported. Nothing happens if there is no such cgroup.
 */
export async function removeCgroup(path: string, { kill = false } = {}): Promise<void> {
  if (!existsSync(path)) return;
  if (kill) writeFileSync(`${path}/cgroup.kill`, "1");
  await waitFor(`cgroup ${path} to be empty`, () => {
    try {
      removeTree(path);
    } catch (thrown) {
      if (!isErrno(thrown, "ENOENT")) throw thrown;
    }
    return true;
  });
}
