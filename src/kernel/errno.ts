// SPDX-License-Identifier: Apache-2.0
// Names of errno values (errno(3)), and how the layers above ask which one a fault carries.
import { constants } from "node:os";
import { Fault } from "../base/fault.ts";

/** Internal to the kernel, but seen by user space (include/linux/errno.h). */
const KERNEL_ONLY: [string, number][] = [["ENOTSUPP", 524]];

const names = new Map<number, string>();
for (const [name, number] of [...Object.entries(constants.errno), ...KERNEL_ONLY]) {
  if (!names.has(number)) names.set(number, name);
}
// Two names share a number; these are the ones that kernel people expect.
names.set(constants.errno.EAGAIN, "EAGAIN");
names.set(constants.errno.EOPNOTSUPP, "EOPNOTSUPP");

/** `ENOENT` for 2; `errno 4095` for a number without a name. */
export function errnoName(number: number): string {
  return names.get(number) ?? `errno ${number}`;
}

/** Errors that the same call may not meet again. */
const TRANSIENT = new Set(["EAGAIN", "EBUSY", "EINTR", "ENOBUFS", "ENOMEM"]);

export function isTransient(name: string): boolean {
  return TRANSIENT.has(name);
}

/** Whether `thrown` is a fault of a kernel call, or an error of node:fs, that carries one of these errno names. */
export function isErrno(thrown: unknown, ...wanted: string[]): boolean {
  if (thrown instanceof Fault) return wanted.includes(String(thrown.context.errno));
  return wanted.includes((thrown as NodeJS.ErrnoException | undefined)?.code ?? "");
}
