// SPDX-License-Identifier: Apache-2.0
// Codes of the lab: what a user asked that cannot be, what is missing on the machine, what did not come up.
import { defineFaults } from "../base/fault.ts";

/** Exit status of a command that found nothing running. */
const NOT_RUNNING = 3;
const USAGE = 2;

export const faults = defineFaults({
  LAB_NAME: {
    text: (c) => `"${c.name}": a lab's name is a letter and up to 11 more letters or digits, all lower case`,
    exitCode: USAGE,
  },
  LAB_SIZE: { text: (c) => `${c.option} ${c.value}: ${c.why}`, exitCode: USAGE },
  LAB_CONFIG: { text: (c) => `--config ${c.text}: expected key=value`, exitCode: USAGE },
  LAB_NEEDS_ROOT: {
    text: () => "the lab makes network namespaces and loads BPF programs: run it as root, with sudo",
  },
  LAB_NO_CGROUP2: {
    text: () => "no cgroup2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup, then try again",
  },
  LAB_NOT_BUILT: { text: (c) => `${c.path} is missing: run "npm run build" first` },
  LAB_EXISTS: {
    text: (c) =>
      `lab "${c.name}" is already up: use "hookline lab status", "hookline lab down" or "hookline lab up --replace"`,
  },
  LAB_NOT_RUNNING: {
    text: (c) =>
      `lab "${c.name}" is not running${c.why ? ` (${c.why})` : ""}: start it with "hookline lab up"`,
    exitCode: NOT_RUNNING,
  },
  LAB_MEMBER: {
    text: (c) => `lab "${c.name}" has no node or pod "${c.member}"; it has ${c.members}`,
    exitCode: USAGE,
  },
  LAB_START: { text: (c) => `lab "${c.name}" did not come up: ${c.why}${c.tail ? `\n${c.tail}` : ""}` },
  AGENT_START: { text: (c) => `the agent of ${c.node} does not start (${c.why}): ${c.last}` },
  LAB_LEFTOVER: { text: (c) => `lab "${c.name}" left something behind: ${c.what}` },
  LAB_COMMAND: { text: (c) => `${c.command}: ${c.why}` },
  SOCKET_SILENT: {
    text: (c) => `nobody answers at ${c.socketPath} (${c.why})`,
    exitCode: NOT_RUNNING,
    retriable: true,
  },
  SOCKET_ANSWER: { text: (c) => `GET ${c.path}: ${c.status} ${c.why}` },
  POD_CNI: { text: (c) => `CNI ${c.command} for pod ${c.pod}: ${c.why}`, retriable: true },
});
