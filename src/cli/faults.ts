// SPDX-License-Identifier: Apache-2.0
// Codes of the command line and the exit statuses that scripts rely on (docs/reference lists them).
import { defineFaults } from "../base/fault.ts";

/** How a command ends. */
export const EXIT = {
  /** Done. */
  ok: 0,
  /** Something failed; the text on standard error says what. */
  error: 1,
  /** The command line was wrong. */
  usage: 2,
  /** The agent, the lab or its API server is not running or not reachable. */
  notRunning: 3,
} as const;

export const faults = defineFaults({
  NOT_RUNNING: {
    text: (c) =>
      `no agent answers at ${c.socket} (${c.why}): start one with "hookline agent", or name a lab's node with --node, or another directory with --run-dir`,
    exitCode: EXIT.notRunning,
    retriable: true,
  },
  NO_RUN_DIR: {
    text: (c) =>
      `${c.path} does not exist: no agent has run here; name a lab's node with --node, or another directory with --run-dir`,
    exitCode: EXIT.notRunning,
  },
  NO_MAPS: {
    text: (c) => `no maps are pinned under ${c.path}: no agent has loaded the data plane here`,
    exitCode: EXIT.notRunning,
  },
  NO_SUCH: { text: (c) => `no ${c.what} "${c.name}"${c.hint ? `; ${c.hint}` : ""}` },
  USAGE: { text: (c) => `${c.why}`, exitCode: EXIT.usage },
});
