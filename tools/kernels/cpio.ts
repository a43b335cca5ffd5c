// SPDX-License-Identifier: Apache-2.0
// Writes an initramfs: a cpio archive in the "newc" form (Documentation/driver-api/early-userspace/buffer-format.rst),
// which the kernel unpacks into its first root file system. Uncompressed: unpacking costs more than reading under
// emulation.
import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { dirname } from "node:path";

const KIND = { folder: 0o040000, file: 0o100000, link: 0o120000, device: 0o020000 } as const;

/** What lies at one path: text or bytes, a file of this machine, a symbolic link, or a character device. */
export type Content =
  | { bytes: Uint8Array | string; mode?: number }
  | { from: string; mode?: number }
  | { link: string }
  | { major: number; minor: number };

const CHUNK = 1 << 20;

/** An archive under construction. Folders are made as they are needed. */
export class Initramfs implements Disposable {
  readonly #fd: number;
  readonly #known = new Set<string>(["/"]);
  #at = 0;
  #inode = 0;

  constructor(path: string) {
    this.#fd = openSync(path, "w");
  }

  /** Puts something at an absolute path; what is there already stays. */
  add(path: string, content: Content): void {
    if (this.#known.has(path)) return;
    this.addFolder(dirname(path));
    this.#known.add(path);
    if ("link" in content) this.#entry(path, KIND.link | 0o777, Buffer.from(content.link));
    else if ("major" in content) this.#header(path, KIND.device | 0o600, 0, content);
    else if ("bytes" in content) {
      this.#entry(path, KIND.file | (content.mode ?? 0o644), Buffer.from(content.bytes));
    } else this.#copy(path, KIND.file | (content.mode ?? 0o644), content.from);
  }

  addFolder(path: string): void {
    if (this.#known.has(path)) return;
    this.addFolder(dirname(path));
    this.#known.add(path);
    this.#header(path, KIND.folder | 0o755, 0);
  }

  /** Ends the archive. */
  [Symbol.dispose](): void {
    this.#header("/TRAILER!!!", 0, 0);
    closeSync(this.#fd);
  }

  #write(bytes: Uint8Array): void {
    let done = 0;
    while (done < bytes.length) done += writeSync(this.#fd, bytes, done);
    this.#at += bytes.length;
  }

  #pad(): void {
    this.#write(new Uint8Array(-this.#at & 3));
  }

  #header(path: string, mode: number, size: number, device = { major: 0, minor: 0 }): void {
    const name = Buffer.from(`${path.slice(1)}\0`);
    const inode = ++this.#inode;
    const fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, device.major, device.minor, name.length, 0];
    this.#write(Buffer.from(`070701${fields.map((f) => f.toString(16).padStart(8, "0")).join("")}`));
    this.#write(name);
    this.#pad();
  }

  #entry(path: string, mode: number, bytes: Uint8Array): void {
    this.#header(path, mode, bytes.length);
    this.#write(bytes);
    this.#pad();
  }

  #copy(path: string, mode: number, from: string): void {
    const fd = openSync(from, "r");
    try {
      const { size } = fstatSync(fd);
      this.#header(path, mode, size);
      const buffer = new Uint8Array(CHUNK);
      for (let left = size; left > 0; ) {
        const got = readSync(fd, buffer, 0, Math.min(left, CHUNK), null);
        if (got === 0) throw new Error(`${from} became shorter while it was read`);
        this.#write(buffer.subarray(0, got));
        left -= got;
      }
      this.#pad();
    } finally {
      closeSync(fd);
    }
  }
}
