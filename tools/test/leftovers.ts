// SPDX-License-Identifier: Apache-2.0
// What tests may leave on the machine: namespaces, links, mounts, pins, cgroups, folders, processes. Taken before and
// after; what is new is a failure and is named. Only what surely is the run's own (its processes) is removed at once;
// the rest when asked, because another run or lab may be at work on the machine.
import { spawnSync } from "node:child_process";
import { existsSync, lstatSync, readdirSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";

/** Environment variable that every process of a run inherits. */
export const RUN_MARK = "HOOKLINE_TEST_RUN";

/** Kinds in the order of removal: processes hold namespaces, mounts hold folders. */
const KINDS = ["process", "mount", "netns", "link", "pin", "cgroup", "folder"] as const;
type Kind = (typeof KINDS)[number];

/** Things of this project on the machine, as `kind name`. */
export type Inventory = Set<string>;

/** Names that the project and its tests give: hl-lab-node1, hl0123456789, hlt-..., hookline-lab. */
const OURS = /^(hl[-t0-9a-f]|hookline)/;

function entries(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

interface Mount {
  path: string;
  type: string;
}

function mounts(): Mount[] {
  const lines = readFileSync("/proc/self/mountinfo", "utf8").trim().split("\n");
  return lines.map((line) => {
    const [left = "", right = ""] = line.split(" - ");
    return { path: (left.split(" ")[4] ?? "").replaceAll("\\040", " "), type: right.split(" ")[0] ?? "" };
  });
}

/** Folders below `root` whose own name or one of whose parents' names is ours. At most four levels. */
function foldersBelow(root: string, depth = 4, inside = false): string[] {
  return entries(root).flatMap((name) => {
    const path = join(root, name);
    try {
      if (!lstatSync(path).isDirectory()) return inside ? [path] : [];
    } catch {
      return [];
    }
    const here = inside || OURS.test(name);
    return [...(here ? [path] : []), ...(depth > 1 ? foldersBelow(path, depth - 1, here) : [])];
  });
}

/** Processes that carry the mark, but for our own. */
export function markedPids(mark: string): number[] {
  const wanted = `${RUN_MARK}=${mark}`;
  return entries("/proc").flatMap((name) => {
    const pid = Number(name);
    if (!/^\d+$/.test(name) || pid === process.pid) return [];
    try {
      return readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").includes(wanted) ? [pid] : [];
    } catch {
      return [];
    }
  });
}

/** The same with the beginning of their commands; without a mark, none. */
function markedProcesses(mark: string | undefined): string[] {
  if (mark === undefined) return [];
  return markedPids(mark).flatMap((pid) => {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
      return command === "" ? [] : [`process ${pid} ${command.slice(0, 120)}`];
    } catch {
      return [];
    }
  });
}

/** What is there now. `mark` adds the processes of that run. */
export function inventory(mark?: string): Inventory {
  const all = mounts();
  const cgroup2 = all.find((mount) => mount.type === "cgroup2")?.path;
  const temporary = entries("/tmp").filter(
    (name) => /^(hlt-|hookline)/.test(name) && !name.startsWith("hookline-test-"),
  );
  return new Set([
    ...entries("/run/netns")
      .filter((name) => OURS.test(name))
      .map((name) => `netns ${name}`),
    ...entries("/sys/class/net")
      .filter((name) => OURS.test(name))
      .map((name) => `link ${name}`),
    ...all
      .filter((mount) => mount.type === "bpf" || /\/(hlt-|hookline)/.test(mount.path))
      // A namespace is its own item; the standard place is there on most machines and does no harm.
      .filter((mount) => !mount.path.startsWith("/run/netns/") && mount.path !== "/sys/fs/bpf")
      .map((mount) => `mount ${mount.path}`),
    ...all
      .filter((mount) => mount.type === "bpf")
      .flatMap((mount) => foldersBelow(mount.path))
      .map((path) => `pin ${path}`),
    ...(cgroup2 === undefined
      ? []
      : foldersBelow(cgroup2)
          .filter((path) => isFolder(path))
          .map((path) => `cgroup ${path}`)),
    ...entries("/run/hookline").map((name) => `folder /run/hookline/${name}`),
    ...entries("/run/hookline/labs").map((name) => `folder /run/hookline/labs/${name}`),
    ...temporary.map((name) => `folder /tmp/${name}`),
    ...markedProcesses(mark),
  ]);
}

function isFolder(path: string): boolean {
  try {
    return lstatSync(path).isDirectory();
  } catch {
    return false;
  }
}

/** What `after` has and `before` has not, in the order of removal, deepest paths first. */
export function leftovers(before: Inventory, after: Inventory): string[] {
  const kind = (item: string): number => KINDS.indexOf(item.split(" ")[0] as Kind);
  const added = [...after].filter((item) => !before.has(item));
  return added.sort((a, b) => kind(a) - kind(b) || (a < b ? 1 : -1));
}

function removeOne(kind: Kind, name: string): void {
  switch (kind) {
    case "process":
      process.kill(Number(name.split(" ")[0]), "SIGKILL");
      break;
    case "mount":
      spawnSync("umount", ["-l", name]);
      break;
    case "netns":
      spawnSync("ip", ["netns", "delete", name]);
      break;
    case "link":
      spawnSync("ip", ["link", "delete", name]);
      break;
    case "cgroup":
      for (const pid of readFileSync(join(name, "cgroup.procs"), "latin1").split("\n").filter(Boolean)) {
        process.kill(Number(pid), "SIGKILL");
      }
      rmdirSync(name);
      break;
    default:
      rmSync(name, { recursive: true, force: true });
      if (name.startsWith("/run/hookline/") && entries(dirname(name)).length === 0) rmdirSync(dirname(name));
  }
}

/** Kills the processes among the items: they carry the run's mark. */
export function killProcesses(items: readonly string[]): void {
  removeLeftovers(items.filter((item) => item.startsWith("process ")));
}

/** Removes leftovers, as far as it can. Names what stays. */
export function removeLeftovers(items: readonly string[]): string[] {
  for (const item of items) {
    const space = item.indexOf(" ");
    try {
      removeOne(item.slice(0, space) as Kind, item.slice(space + 1));
    } catch {
      // Shown by the next look; a cgroup may need its processes to be gone first.
    }
  }
  const pids = items
    .filter((item) => item.startsWith("process "))
    .map((item) => `/proc/${item.split(" ")[1]}`);
  return [
    ...leftovers(new Set(), inventory()).filter((item) => items.includes(item)),
    ...pids.filter((path) => existsSync(path)),
  ];
}
