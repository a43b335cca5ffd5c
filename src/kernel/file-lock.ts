// SPDX-License-Identifier: Apache-2.0
// A lock on a file (flock(2)) that one process holds: the kernel gives it back when the process ends, however it ends.
import { closeSync, openSync } from "node:fs";
import { errno, libc, refused } from "./ffi.ts";

const LOCK_EX = 2;
const LOCK_NB = 4;

/** A lock that is held until it is disposed of, or until the process ends. */
export class FileLock implements Disposable {
  readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}

/** Takes the lock of `path`, a file that is made if need be with mode 0600; undefined if another process holds it. */
export function tryLock(path: string): FileLock | undefined {
  const fd = openSync(path, "a", 0o600);
  if (libc.flock(fd, LOCK_EX | LOCK_NB) === 0) return new FileLock(fd);
  const name = errno();
  closeSync(fd);
  if (name === "EAGAIN" || name === "EWOULDBLOCK") return undefined;
  throw refused("file.lock", name, path);
}
