// SPDX-License-Identifier: Apache-2.0
// Logging: one JSON line per event on standard error, through pino. Libraries of the project take a Log, they do not
// make one; the entry points do.
import pino from "pino";

export type Log = pino.Logger;

/** A logger for one process. `level` is one of pino's names; unknown names are refused by pino. */
export function createLog(name: string, level = "info"): Log {
  return pino(
    {
      name,
      level,
      base: { pid: process.pid },
      serializers: { err: pino.stdSerializers.err },
      formatters: { level: (label) => ({ level: label }) },
      timestamp: pino.stdTimeFunctions.isoTime,
    },
    pino.destination({ fd: 2, sync: true }),
  );
}

/** A logger that says nothing, for tests and for commands that only print. */
export function silentLog(): Log {
  return pino({ level: "silent" });
}
