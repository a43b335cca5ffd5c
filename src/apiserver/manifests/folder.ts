// SPDX-License-Identifier: Apache-2.0
// Follows a folder of manifests: reads it at start, then after each notification of the kernel and every few seconds. A
// changed or missing file counts only when it looks the same twice, so that a half-written file is not taken for a short
// one; files are followed through symbolic links, as mounted ConfigMaps are swapped by one.
import { type FSWatcher, watch } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { SerialQueue } from "../../base/async.ts";
import type { Log } from "../../base/log.ts";
import type { Limits } from "../limits.ts";
import type { AppliedManifests } from "./applied.ts";
import { faultText, type ManifestFault, manifestFault, readManifest } from "./read.ts";

/** Time in which a file must not change to count as written. */
const SETTLE_MS = 100;
const EXTENSION = /\.(ya?ml|json)$/;

export class ManifestFolder {
  readonly #path: string;
  readonly #applied: AppliedManifests;
  readonly #limits: Limits;
  readonly #log: Log;
  readonly #queue = new SerialQueue();
  /** Signature of each file as it was last put in force or refused. */
  readonly #known = new Map<string, string>();
  /** Signature of each file that looked different at the last scan; "" is a missing file. */
  #candidates = new Map<string, string>();
  readonly #told = new Map<string, string>();
  #folderFault: ManifestFault | undefined;
  #watcher: FSWatcher | undefined;
  #watchedInode = 0n;
  #rescan: NodeJS.Timeout | undefined;
  #soon: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(path: string, applied: AppliedManifests, limits: Limits, log: Log) {
    this.#path = path;
    this.#applied = applied;
    this.#limits = limits;
    this.#log = log.child({ manifests: path });
  }

  get faults(): ManifestFault[] {
    return [...(this.#folderFault ? [this.#folderFault] : []), ...this.#applied.faults];
  }

  /** Resolves when all that is in the folder now is in force or refused. */
  async start(): Promise<void> {
    await this.#queue.run(() => this.#scan(true));
    this.#rescan = setInterval(() => this.#scanSoon(0), this.#limits.rescanMs);
    this.#rescan.unref();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#rescan);
    clearTimeout(this.#soon);
    this.#watcher?.close();
    await this.#queue.idle();
  }

  /** Something that documents may wait for has come. */
  retry(): void {
    void this.#queue.run(() => {
      if (this.#closed) return;
      while (this.#applied.retry());
      this.#tell();
    });
  }

  #scanSoon(delayMs: number): void {
    if (this.#closed || this.#soon) return;
    this.#soon = setTimeout(() => {
      this.#soon = undefined;
      void this.#queue.run(() => this.#scan(false));
    }, delayMs);
    this.#soon.unref();
  }

  async #scan(trusting: boolean): Promise<void> {
    if (this.#closed) return;
    const names = await this.#names();
    if (names === undefined) return;
    const seen = new Set(names);
    for (const name of this.#known.keys()) seen.add(name);
    const candidates = new Map<string, string>();
    for (const name of [...seen].sort()) {
      const signature = names.includes(name) ? await this.#signature(name) : "";
      if (signature === (this.#known.get(name) ?? "")) continue;
      if (trusting || this.#candidates.get(name) === signature) await this.#take(name, signature);
      else candidates.set(name, signature);
    }
    this.#candidates = candidates;
    while (this.#applied.retry());
    if (candidates.size === 0) this.#tell();
    if (candidates.size > 0) this.#scanSoon(SETTLE_MS);
  }

  /** The manifest files of the folder; undefined when it cannot be read, which leaves everything in force. */
  async #names(): Promise<string[] | undefined> {
    try {
      const { ino } = await stat(this.#path, { bigint: true });
      this.#follow(ino);
      const names = (await readdir(this.#path)).filter((n) => EXTENSION.test(n) && !n.startsWith(".")).sort();
      const { manifestFiles } = this.#limits;
      const tooMany = `${names.length} files, only the first ${manifestFiles} are read`;
      this.#setFolderFault(names.length > manifestFiles ? tooMany : undefined);
      return names.slice(0, manifestFiles);
    } catch (thrown) {
      this.#setFolderFault(`cannot be read: ${(thrown as Error).message}`);
      return undefined;
    }
  }

  #setFolderFault(why: string | undefined): void {
    if (this.#folderFault?.why === why) return;
    this.#folderFault = why === undefined ? undefined : manifestFault(".", { why });
    if (why !== undefined) this.#log.error({ why }, "manifests folder");
  }

  /** Watches the folder that is there now; a folder that was replaced is watched anew. */
  #follow(inode: bigint): void {
    if (this.#watcher && inode === this.#watchedInode) return;
    this.#watcher?.close();
    try {
      this.#watcher = watch(this.#path, { persistent: false }, () => this.#scanSoon(SETTLE_MS));
      this.#watcher.on("error", () => {
        this.#watcher?.close();
        this.#watcher = undefined;
      });
      this.#watchedInode = inode;
    } catch {
      // No notifications (inotify limits): the regular scan finds changes all the same.
      this.#watcher = undefined;
    }
  }

  /** "" for a file that is not there (any more), as for names that are no files. */
  async #signature(name: string): Promise<string> {
    try {
      const { dev, ino, mtimeNs, size } = await stat(join(this.#path, name), { bigint: true });
      return `${dev}:${ino}:${mtimeNs}:${size}`;
    } catch {
      return "";
    }
  }

  async #take(name: string, signature: string): Promise<void> {
    if (signature === "") {
      this.#known.delete(name);
      this.#applied.remove(name);
      return;
    }
    this.#known.set(name, signature);
    const { documents, faults } = await this.#read(name);
    if (this.#closed) return;
    if (faults.length > 0) this.#applied.refuse(name, faults);
    else this.#applied.apply(name, documents);
  }

  async #read(name: string): Promise<ReturnType<typeof readManifest>> {
    const path = join(this.#path, name);
    const refused = (why: string) => ({ documents: [], faults: [manifestFault(name, { why })] });
    try {
      const { size } = await stat(path);
      // A FIFO would never end, a device might not either.
      if (!(await stat(path)).isFile()) return refused("is not a regular file");
      if (size > this.#limits.manifestBytes) {
        return refused(`${size} bytes, the limit is ${this.#limits.manifestBytes}`);
      }
      return readManifest(name, await readFile(path, "utf8"), this.#limits);
    } catch (thrown) {
      return refused(`cannot be read: ${(thrown as Error).message}`);
    }
  }

  /** Logs each file's faults once, and once that they are gone. */
  #tell(): void {
    const byFile = new Map<string, string[]>();
    for (const fault of this.#applied.faults) {
      byFile.set(fault.file, [...(byFile.get(fault.file) ?? []), faultText(fault)]);
    }
    for (const [file, texts] of byFile) {
      const text = texts.join("; ");
      if (this.#told.get(file) === text) continue;
      this.#told.set(file, text);
      const waiting = this.#applied.faultsOf(file).every((fault) => fault.waiting);
      if (waiting) this.#log.warn({ file, faults: texts }, "manifest waits");
      else this.#log.error({ file, faults: texts }, "manifest refused, its last good state stays in force");
    }
    for (const file of [...this.#told.keys()]) {
      if (byFile.has(file)) continue;
      this.#told.delete(file);
      this.#log.info({ file }, "manifest is good again");
    }
  }
}
