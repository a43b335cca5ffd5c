// SPDX-License-Identifier: Apache-2.0
// Tells when what stands at a path may have become another: for the agent's configuration files, which people write in
// place, editors rename into place, and Kubernetes mounts behind links that it swaps (..data to ..2026_11_21). inotify
// knows folders, not paths, so every folder that has a say in the path is watched for the one name that matters in it:
// links are followed hop by hop, and what does not exist yet is waited for from the nearest folder that does.
import { type FSWatcher, lstatSync, readlinkSync, statSync, watch } from "node:fs";
import { dirname, join, resolve } from "node:path";

/** As many links as the kernel follows (MAXSYMLINKS). */
const MAX_LINKS = 40;

interface Watched {
  /** Device and inode: a folder that was made anew under an old name is another one. */
  readonly identity: string;
  readonly watcher: FSWatcher;
  names: ReadonlySet<string>;
}

const parts = (path: string): string[] => path.split("/").filter((part) => part !== "" && part !== ".");

/** Names by the folder in which each is looked up on the way to `path`, as far as there is a way. */
export function lookups(path: string): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  const rest = parts(resolve(path));
  let folder = "/";
  for (let links = 0; rest.length > 0 && links <= MAX_LINKS; ) {
    const name = rest.shift() ?? "";
    if (name === "..") {
      folder = dirname(folder);
      continue;
    }
    const names = found.get(folder) ?? new Set();
    found.set(folder, names.add(name));
    const next = join(folder, name);
    try {
      if (lstatSync(next).isSymbolicLink()) {
        const target = readlinkSync(next);
        if (target.startsWith("/")) folder = "/";
        rest.unshift(...parts(target));
        links++;
      } else folder = next;
    } catch {
      return found;
    }
  }
  return found;
}

function identityOf(folder: string): string | undefined {
  try {
    const { dev, ino } = statSync(folder);
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

/** Watches one path. `onChange` may be called without cause, and more than once for one change. */
export class PathWatch {
  readonly #onChange: () => void;
  readonly #watched = new Map<string, Watched>();
  #problem: string | undefined;

  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  /** errno of a folder that cannot be watched: EMFILE and ENOSPC mean that the limits of inotify are reached. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Watches the way to `path` as it is now; to be called again after every change, before the file is read. */
  follow(path: string): void {
    // What changed between the walk and the watch would be missed: the walk must find the same twice.
    for (let before = "", tries = 0; tries < 4; tries++) {
      const wanted = lookups(path);
      const now = JSON.stringify([...wanted].map(([folder, names]) => [folder, [...names]]));
      if (now === before) return;
      before = now;
      this.#watch(wanted);
    }
  }

  #watch(wanted: ReadonlyMap<string, ReadonlySet<string>>): void {
    this.#problem = undefined;
    for (const [folder, { identity, watcher }] of this.#watched) {
      if (wanted.has(folder) && identityOf(folder) === identity) continue;
      watcher.close();
      this.#watched.delete(folder);
    }
    for (const [folder, names] of wanted) {
      const known = this.#watched.get(folder);
      if (known !== undefined) known.names = names;
      else this.#add(folder, names);
    }
  }

  #add(folder: string, names: ReadonlySet<string>): void {
    const identity = identityOf(folder);
    if (identity === undefined) return;
    try {
      const watcher = watch(folder, { persistent: false }, (_, name) => {
        if (name === null || this.#watched.get(folder)?.names.has(name)) this.#onChange();
      });
      watcher.on("error", () => this.#drop(folder, watcher));
      this.#watched.set(folder, { identity, watcher, names });
    } catch (thrown) {
      const { code } = thrown as NodeJS.ErrnoException;
      // A folder that has just gone away is missed by nobody: that above it is watched.
      if (code !== "ENOENT" && code !== "ENOTDIR") this.#problem = code;
    }
  }

  #drop(folder: string, watcher: FSWatcher): void {
    watcher.close();
    if (this.#watched.get(folder)?.watcher === watcher) this.#watched.delete(folder);
    this.#onChange();
  }

  close(): void {
    for (const { watcher } of this.#watched.values()) watcher.close();
    this.#watched.clear();
  }
}
