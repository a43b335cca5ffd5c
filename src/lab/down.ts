// SPDX-License-Identifier: Apache-2.0
// Taking a lab away, whatever state it is in: running, half started, its processes killed. Nothing is looked up in what
// the lab remembers but its supervisor; processes are found by control group, the rest by names that hold the lab's.
import {
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { cgroupProcesses, findCgroup2, listMounts, removeCgroup, unmount } from "../kernel/mount.ts";
import { listNetns, netnsPath, removeNetns } from "../kernel/netns.ts";
import { faults } from "./faults.ts";
import { signalProcess } from "./identity.ts";
import { withLabLock } from "./lock.ts";
import { checkLabName, LABS_DIR, labCgroup, labStateDir, netnsPrefix } from "./plan.ts";
import { readState } from "./state.ts";

/** What `lab down` found and removed. */
export interface Removed {
  processes: number;
  namespaces: number;
  mounts: number;
  /** Whether there was anything at all. */
  found: boolean;
  /** Processes that are not the lab's but sit in one of its namespaces and keep it alive, as `pid (command)`. */
  lingering: string[];
}

/** What of a lab exists on this machine now. */
export interface Remains {
  group: string | undefined;
  namespaces: string[];
  mounts: string[];
  stateDir: string | undefined;
}

/** Looks for everything that a lab of this name may have made. */
export function findRemains(lab: string): Remains {
  const group = join(findCgroup2(), labCgroup(lab));
  const stateDir = labStateDir(lab);
  return {
    group: existsSync(group) ? group : undefined,
    namespaces: listNetns().filter((name) => name.startsWith(netnsPrefix(lab))),
    mounts: listMounts()
      .map((mount) => mount.target)
      .filter((target) => target.startsWith(`${stateDir}/`)),
    stateDir: existsSync(stateDir) ? stateDir : undefined,
  };
}

/** One line per remainder; empty if nothing is left. */
export function listRemains(remains: Remains): string[] {
  return [
    ...(remains.group ? [`control group ${remains.group}`] : []),
    ...remains.namespaces.map((name) => `network namespace ${name}`),
    ...remains.mounts.map((target) => `mount ${target}`),
    ...(remains.stateDir ? [`folder ${remains.stateDir}`] : []),
  ];
}

/** Who runs `lab down` from inside the lab (lab shell) must not end with it. */
function leaveGroup(group: string): void {
  if (!cgroupProcesses(group).includes(process.pid)) return;
  writeFileSync(join(dirname(group), "cgroup.procs"), String(process.pid));
}

function inodeOf(name: string): number | undefined {
  try {
    return statSync(netnsPath(name)).ino;
  } catch {
    return undefined;
  }
}

/** Processes of others in these namespaces, by the inode of nsfs. */
function lingeringIn(inodes: Set<number>): string[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid)
    .flatMap((pid) => {
      try {
        const inode = Number(/\d+/.exec(readlinkSync(`/proc/${pid}/ns/net`))?.[0]);
        return inodes.has(inode) ? [`${pid} (${readFileSync(`/proc/${pid}/comm`, "utf8").trim()})`] : [];
      } catch {
        return [];
      }
    });
}

function removeEmptyFolder(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // Another lab, or an agent of this host, lives there.
  }
}

/**
 * Removes every trace of a lab; no error if there is none. Safe to run twice and after any crash.
 * @throws Fault LAB_NAME, LAB_NEEDS_ROOT, LAB_LEFTOVER
 */
export async function downLab(lab: string): Promise<Removed> {
  if (process.geteuid?.() !== 0) throw faults.LAB_NEEDS_ROOT();
  return withLabLock(checkLabName(lab), () => removeAll(lab));
}

async function removeAll(lab: string): Promise<Removed> {
  const state = readState(lab);
  if (state) signalProcess(state.supervisor, "SIGKILL");
  const { group } = findRemains(lab);
  let processes = 0;
  if (group) {
    leaveGroup(group);
    processes = cgroupProcesses(group).length;
    await removeCgroup(group, { kill: true });
  }
  // Only now: what was being made while it was killed counts, too.
  const before = findRemains(lab);
  const inodes = new Set(before.namespaces.flatMap((name) => inodeOf(name) ?? []));
  const lingering = lingeringIn(inodes);
  // Deepest first; a target that was mounted on twice is listed twice.
  for (const target of before.mounts.sort().reverse()) unmount(target, { lazy: true });
  for (const name of before.namespaces) removeNetns(name);
  if (before.stateDir && findRemains(lab).mounts.length === 0) {
    rmSync(before.stateDir, { recursive: true, force: true });
  }
  removeEmptyFolder(LABS_DIR);
  removeEmptyFolder(dirname(LABS_DIR));
  const left = listRemains(findRemains(lab));
  if (left.length > 0) throw faults.LAB_LEFTOVER({ name: lab, what: left.join(", ") });
  return {
    processes,
    namespaces: before.namespaces.length,
    mounts: before.mounts.length,
    found: group !== undefined || listRemains(before).length > 0,
    lingering,
  };
}
