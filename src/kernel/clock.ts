// SPDX-License-Identifier: Apache-2.0
// The kernel's clock tick, for programs that read jiffies because every other clock costs them more.
import { allocate, checked, libc } from "./ffi.ts";

/** include/uapi/linux/time.h. */
const CLOCK_MONOTONIC_COARSE = 6;

/** Length of a jiffy in ns: the coarse clocks advance by one at a time (clock_getres(2)). 4,000,000 at HZ=250. */
export function jiffyNs(): number {
  const time = allocate(16);
  checked("clock.getres", "CLOCK_MONOTONIC_COARSE", libc.clock_getres(CLOCK_MONOTONIC_COARSE, time));
  return Number(new DataView(time.buffer).getBigInt64(8, true));
}
