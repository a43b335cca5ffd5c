// SPDX-License-Identifier: Apache-2.0
// The only importer of the FFI package: the C functions that we call, memory that C may hold on to, and errno.
// Everything above deals in numbers and byte arrays, so that another FFI can replace this file. Both supported
// processors are little-endian: host order is written as such throughout.
import koffi from "koffi";
import { errnoName, isTransient } from "./errno.ts";
import { faults } from "./faults.ts";

/** Memory as C functions take it; null is NULL. */
export type Memory = Uint8Array | DataView | null;

/** SYS_bpf (include/uapi/asm-generic/unistd.h, arch/x86/entry/syscalls/syscall_64.tbl). */
const SYS_BPF: Partial<Record<NodeJS.Architecture, number>> = { x64: 321, arm64: 280 };

/** NULL finds the functions in the C library that node itself runs on, glibc or musl. */
const library = koffi.load(null);

const bpfSyscall = library.func("long syscall(long number, int cmd, void *attr, uint size)");

const send = library.func("long send(int fd, void *data, size_t length, int flags)");

/** libc, section 2 of the manual. All give -1 for failure unless said otherwise. */
export const libc: {
  readonly socket: (domain: number, type: number, protocol: number) => number;
  readonly bind: (fd: number, address: Memory, length: number) => number;
  readonly connect: (fd: number, address: Memory, length: number) => number;
  readonly listen: (fd: number, backlog: number) => number;
  readonly getsockname: (fd: number, address: Memory, length: Memory) => number;
  readonly setsockopt: (fd: number, level: number, option: number, value: Memory, length: number) => number;
  readonly send: (fd: number, data: Memory, length: number, flags: number) => number;
  readonly recv: (fd: number, data: Memory, length: number, flags: number) => number;
  readonly setns: (fd: number, type: number) => number;
  readonly unshare: (flags: number) => number;
  readonly mount: (source: string, target: string, type: string, flags: number, data: string) => number;
  readonly umount2: (target: string, flags: number) => number;
  readonly flock: (fd: number, operation: number) => number;
  readonly prctl: (option: number, a: number, b: number, c: number, d: number) => number;
  readonly capget: (header: Memory, data: Memory) => number;
  readonly capset: (header: Memory, data: Memory) => number;
  readonly mmap: (
    at: null,
    length: number,
    prot: number,
    flags: number,
    fd: number,
    offset: number,
  ) => bigint;
  readonly munmap: (at: bigint, length: number) => number;
  readonly clock_getres: (clock: number, time: Memory) => number;
  readonly fcntl: (fd: number, command: number, argument: number) => number;
} = {
  socket: library.func("int socket(int domain, int type, int protocol)"),
  bind: library.func("int bind(int fd, void *address, uint length)"),
  connect: library.func("int connect(int fd, void *address, uint length)"),
  listen: library.func("int listen(int fd, int backlog)"),
  getsockname: library.func("int getsockname(int fd, void *address, void *length)"),
  setsockopt: library.func("int setsockopt(int fd, int level, int option, void *value, uint length)"),
  send,
  recv: library.func("long recv(int fd, void *data, size_t length, int flags)"),
  setns: library.func("int setns(int fd, int type)"),
  unshare: library.func("int unshare(int flags)"),
  mount: library.func("int mount(str source, str target, str type, ulong flags, str data)"),
  umount2: library.func("int umount2(str target, int flags)"),
  flock: library.func("int flock(int fd, int operation)"),
  prctl: library.func("int prctl(int option, ulong a, ulong b, ulong c, ulong d)"),
  capget: library.func("int capget(void *header, void *data)"),
  capset: library.func("int capset(void *header, void *data)"),
  mmap: library.func("intptr_t mmap(void *at, size_t length, int prot, int flags, int fd, long offset)"),
  munmap: library.func("int munmap(intptr_t at, size_t length)"),
  clock_getres: library.func("int clock_getres(int clock, void *time)"),
  fcntl: library.func("int fcntl(int fd, int command, long argument)"),
};

/** Bytes of a memory page: 4096, on arm64 perhaps 16384 or 65536. */
export const PAGE_BYTES: number = library.func("int getpagesize()")();

/** send(2) on another thread, for what keeps the kernel busy for long; the result is as that of libc.send, with errno. */
export function sendLater(fd: number, data: Uint8Array): Promise<{ result: number; errno: string }> {
  return new Promise((resolve, reject) => {
    send.async(fd, data, data.length, 0, (failed: Error | null, result: number) => {
      if (failed) reject(failed);
      else resolve({ result, errno: errno() });
    });
  });
}

/** errno of the last C call of this thread. */
export function errno(): string {
  return errnoName(koffi.errno());
}

/** The fault for a refused kernel call. `op` is noun.verb, `object` what it was done to. */
export function refused(op: string, errnoText: string, object = "", why = ""): Error {
  const context = { op, errno: errnoText, object, why };
  return isTransient(errnoText) ? faults.KERNEL_BUSY(context) : faults.KERNEL_REFUSED(context);
}

/**
 * Passes on the result of a C call that gives a negative number for failure:
 * `checked("socket.open", "netlink", libc.socket(...))`.
 * @throws Fault KERNEL_REFUSED or KERNEL_BUSY with the errno name
 */
export function checked(op: string, object: string, result: number): number {
  if (result < 0) throw refused(op, errno(), object);
  return result;
}

/** bpf(2). Gives -1 for failure, errno tells why; bytes of `attr` that the command does not use must be 0. */
export function bpf(command: number, attr: Uint8Array): number {
  return bpfSyscall(sysBpf, command, attr, attr.byteLength) as number;
}

/** The same in a thread of its own, for what takes long; errno is that thread's and cannot be had. */
export function bpfAside(command: number, attr: Uint8Array): Promise<number> {
  return new Promise((resolve, reject) => {
    bpfSyscall.async(sysBpf, command, attr, attr.byteLength, (error: Error | null, result: number) => {
      if (error) reject(error);
      else resolve(result);
    });
  });
}

function numberOfBpf(): number {
  const number = SYS_BPF[process.arch];
  if (number === undefined) throw faults.UNSUPPORTED_MACHINE({ arch: process.arch });
  return number;
}

const sysBpf = numberOfBpf();

/** include/uapi/linux/fcntl.h. */
const F_DUPFD_CLOEXEC = 1030;

/** Another fd of the same open file, which children do not inherit. */
export function duplicate(fd: number): number {
  return checked("fd.duplicate", `${fd}`, libc.fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

/** Zeroed memory outside V8's heap: its address stays the same as long as the array is referenced. */
export function allocate(bytes: number): Uint8Array {
  return new Uint8Array(new ArrayBuffer(bytes));
}

/** Address of memory made by `allocate`. The number does not keep the memory alive: hold the array. */
export function addressOf(memory: Uint8Array): bigint {
  return koffi.address(memory);
}

/** `bytes` bytes at an address, without a copy. The caller guarantees that they stay mapped. */
export function viewOf(address: bigint, bytes: number): ArrayBuffer {
  return koffi.view(address, bytes);
}

/** `text` with a closing NUL, in memory that C may point to. */
export function cString(text: string): Uint8Array {
  const bytes = Buffer.from(text, "utf8");
  const memory = allocate(bytes.length + 1);
  memory.set(bytes);
  return memory;
}

/** Declares a C function of a shared library by its prototype; pointers come and go as opaque values. */
export type Declare = <F extends (...args: never[]) => unknown>(prototype: string) => F;

/** Loads a shared library by its soname. Throws the FFI package's error if there is none. */
export function openLibrary(soname: string): Declare {
  const handle = koffi.load(soname);
  return (prototype) => handle.func(prototype) as never;
}

/** A pointer that C gave and only C understands; null is NULL. */
export type Opaque = object | bigint | null;

/**
 * A C callback `int (*)(int level, const char *format, va_list args)` for libraries that print so. It stays valid
 * until the process ends; both supported processors pass va_list as a pointer.
 */
export function printCallback(print: (level: number, format: Opaque, args: Opaque) => void): Opaque {
  const prototype = koffi.proto("int print_callback(int level, void *format, void *args)");
  return koffi.register((level: number, format: Opaque, args: Opaque) => {
    print(level, format, args);
    return 0;
  }, koffi.pointer(prototype)) as Opaque;
}

const vsnprintf = library.func("int vsnprintf(void *out, size_t size, void *format, void *args)");

/** The text that a `print` callback was given, cut at 4096 bytes. */
export function formatPrinted(format: Opaque, args: Opaque): string {
  const out = Buffer.alloc(4096);
  vsnprintf(out, out.length, format, args);
  return out.toString("utf8", 0, out.indexOf(0));
}

/** Handles in use: one that is collected stops watching without a word. */
const watching = new Set<{ close(): void }>();

/** Calls `ready` from the event loop whenever `fd` is readable, until the result is disposed; then `fd` may be closed. */
export function watchReadable(fd: number, ready: () => void): Disposable {
  if (typeof koffi.node?.poll !== "function") throw faults.NO_FD_POLLING();
  const handle = koffi.node.poll(fd, { readable: true }, () => ready());
  watching.add(handle);
  return {
    [Symbol.dispose]: () => {
      if (watching.delete(handle)) handle.close();
    },
  };
}
