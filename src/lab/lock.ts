// SPDX-License-Identifier: Apache-2.0
// One at a time for what removes a lab: `lab down` in two terminals, or Ctrl-C in one meanwhile. The lock's file goes
// with its last holder, so that nothing is left of a lab.
import { fstatSync, rmSync, statSync } from "node:fs";
import { waitFor } from "../base/async.ts";
import { type FileLock, tryLock } from "../kernel/file-lock.ts";

const WAIT_MS = 60_000;

/** The lock, or undefined if somebody else holds it, or held the file that we opened and took it away. */
function take(path: string): FileLock | undefined {
  const lock = tryLock(path);
  if (!lock) return undefined;
  try {
    if (fstatSync(lock.fd).ino === statSync(path).ino) return lock;
  } catch {
    // Gone: taken away by the holder before us.
  }
  lock[Symbol.dispose]();
  return undefined;
}

/**
 * Runs `work` while no other process does so for the same lab.
 * @throws Fault TIMEOUT if another one does not end within a minute
 */
export async function withLabLock<T>(lab: string, work: () => Promise<T>): Promise<T> {
  const path = `/run/hookline-lab-${lab}.lock`;
  using _lock = await waitFor(`another command on lab "${lab}" to end`, () => take(path), {
    timeoutMs: WAIT_MS,
    intervalMs: 20,
  });
  try {
    return await work();
  } finally {
    rmSync(path, { force: true });
  }
}
