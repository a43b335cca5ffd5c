// SPDX-License-Identifier: Apache-2.0
// Loaded before an agent (node --import), moves its wall clock (CLOCK_REALTIME, as Date tells it) by the milliseconds that
// CLOCK_FILE holds, whenever the process gets SIGUSR2: what an administrator or NTP does to a whole machine. That it has
// moved is told by the file's going: a signal may come later than a request that was sent after it.
import { readFileSync, rmSync } from "node:fs";

const RealDate = Date;
let shiftMs = 0;

globalThis.Date = class extends RealDate {
  constructor(...args: [] | [number | string]) {
    if (args.length === 0) super(RealDate.now() + shiftMs);
    else super(...(args as [number]));
  }
  static override now(): number {
    return RealDate.now() + shiftMs;
  }
} as DateConstructor;

process.on("SIGUSR2", () => {
  const { CLOCK_FILE = "" } = process.env;
  shiftMs = Number(readFileSync(CLOCK_FILE, "utf8"));
  rmSync(CLOCK_FILE);
});
