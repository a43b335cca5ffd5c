// SPDX-License-Identifier: Apache-2.0
// Loaded before an agent (node --import), moves its wall clock (CLOCK_REALTIME, as Date tells it) by the milliseconds that
// CLOCK_FILE holds, whenever the process gets SIGUSR2: what an administrator or NTP does to a whole machine.
import { readFileSync } from "node:fs";

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
  shiftMs = Number(readFileSync(process.env.CLOCK_FILE ?? "", "utf8"));
});
