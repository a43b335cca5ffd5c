// SPDX-License-Identifier: Apache-2.0
// Network namespaces (network_namespaces(7)): named ones as `ip netns` keeps them, and running code inside one. What
// runs inside must be synchronous: sockets made there stay there, but promises continue in the namespace outside.
import { closeSync, fstatSync, mkdirSync, openSync, readdirSync, rmSync, stat } from "node:fs";
import { isErrno } from "./errno.ts";
import { faults } from "./faults.ts";
import { checked, errno, libc } from "./ffi.ts";

const NETNS_DIR = "/run/netns";

/** This thread's namespace; a worker's differs from its process's. */
const OWN_NETNS = "/proc/thread-self/ns/net";

/** include/uapi/linux/sched.h. */
const CLONE_NEWNET = 0x4000_0000;

/** include/uapi/linux/mount.h. */
const MS_BIND = 1 << 12;
const MS_REC = 1 << 14;
const MS_SHARED = 1 << 20;
const MNT_DETACH = 2;

/** An open network namespace: it lives at least as long as this is open. */
export class Netns implements Disposable {
  readonly fd: number;
  /** Where it was opened. */
  readonly path: string;

  constructor(path: string) {
    this.path = path;
    this.fd = openSync(path, "r");
  }

  /** Number that the kernel knows it by (inode of nsfs); equal for two handles of one namespace. */
  get inode(): number {
    return fstatSync(this.fd).ino;
  }

  close(): void {
    closeSync(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** `/run/netns/NAME`; a path stays as it is. */
export function netnsPath(nameOrPath: string): string {
  return nameOrPath.startsWith("/") ? nameOrPath : `${NETNS_DIR}/${nameOrPath}`;
}

/** Opens a namespace by its name, by a path, or the calling thread's own. Throws ENOENT of node:fs if there is none. */
export function openNetns(nameOrPath: string = OWN_NETNS): Netns {
  return new Netns(netnsPath(nameOrPath));
}

let poolIsWarm = false;

/**
 * Threads of libuv's pool stay for ever in the namespace in which they were made, and are made when first used. So
 * they are made before the first change of namespace.
 */
function warmThreadPool(): void {
  if (poolIsWarm) return;
  poolIsWarm = true;
  stat("/", () => undefined);
}

/** Comes back to `home` whatever happens; a thread that cannot must not go on. */
function returnTo(home: Netns): void {
  if (libc.setns(home.fd, CLONE_NEWNET) < 0) throw faults.NETNS_STUCK({ why: errno() });
}

/**
 * Runs `inside` in the namespace and comes back; 10-14 us. Sockets, fds and child processes that it makes stay there.
 * `inside` must not return a promise: what comes after an await would run outside.
 */
export function withNetns<T>(netns: Netns | string, inside: () => T extends Promise<unknown> ? never : T): T {
  if (typeof netns === "string") {
    using opened = openNetns(netns);
    return withNetns(opened, inside);
  }
  warmThreadPool();
  using home = openNetns();
  checked("netns.enter", netns.path, libc.setns(netns.fd, CLONE_NEWNET));
  try {
    return inside();
  } finally {
    returnTo(home);
  }
}

/** Makes /run/netns a shared mount, so that names appear in all mount namespaces, as ip-netns(8) does. */
function shareNetnsDir(): void {
  mkdirSync(NETNS_DIR, { recursive: true, mode: 0o755 });
  if (libc.mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, "") === 0) return;
  if (errno() !== "EINVAL") checked("mount.share", NETNS_DIR, -1);
  checked("mount.bind", NETNS_DIR, libc.mount(NETNS_DIR, NETNS_DIR, "none", MS_BIND | MS_REC, ""));
  checked("mount.share", NETNS_DIR, libc.mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, ""));
}

/**
 * Makes a network namespace and its name in /run/netns, as `ip netns add` does; its loopback device is down.
 * Throws EEXIST of node:fs if the name is taken.
 */
export function createNetns(name: string): Netns {
  shareNetnsDir();
  const path = netnsPath(name);
  closeSync(openSync(path, "wx", 0o000));
  try {
    warmThreadPool();
    using home = openNetns();
    checked("netns.create", name, libc.unshare(CLONE_NEWNET));
    try {
      checked("netns.name", name, libc.mount(OWN_NETNS, path, "none", MS_BIND, ""));
    } finally {
      returnTo(home);
    }
    return openNetns(path);
  } catch (thrown) {
    rmSync(path, { force: true });
    throw thrown;
  }
}

/**
 * Takes the name away; the namespace itself goes when the last process, fd and socket in it have gone. False if there
 * was no such name.
 */
export function removeNetns(name: string): boolean {
  const path = netnsPath(name);
  // EINVAL: a file that no namespace is mounted on, left by a crash between its making and the mount.
  if (libc.umount2(path, MNT_DETACH) < 0 && !["EINVAL", "ENOENT"].includes(errno())) {
    checked("netns.remove", name, -1);
  }
  try {
    rmSync(path);
    return true;
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return false;
    throw thrown;
  }
}

/** Names in /run/netns. */
export function listNetns(): string[] {
  try {
    return readdirSync(NETNS_DIR);
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return [];
    throw thrown;
  }
}
