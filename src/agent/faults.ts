// SPDX-License-Identifier: Apache-2.0
// Codes of the agent: configuration that is refused, a second agent, requests that cannot be served yet.
import { defineFaults } from "../base/fault.ts";

export const faults = defineFaults({
  CONFIG_VALUE: { text: (c) => `${c.path}: "${c.value}": ${c.why}`, exitCode: 2 },
  CONFIG_CONFLICT: { text: (c) => `${c.path}: ${c.why}`, exitCode: 2 },
  FLAG_UNKNOWN: { text: (c) => `--${c.name}: no such option; hookline agent --help lists them`, exitCode: 2 },
  FLAG_VALUE_MISSING: { text: (c) => `--${c.name}: a value must follow`, exitCode: 2 },
  ARGUMENT_UNKNOWN: { text: (c) => `"${c.argument}": not an option; they begin with --`, exitCode: 2 },
  AGENT_RUNNING: {
    text: (c) =>
      `an agent runs in ${c.runDir} already${c.pid === undefined ? "" : ` (process ${c.pid})`}; stop it or choose another --run-dir`,
    exitCode: 3,
  },
  OPTION_IDLE: { text: (c) => `${c.name}: has no effect ${c.where}` },
  INTERFACE_NOT_FOUND: { text: (c) => `egress-masquerade-interfaces: no device is called "${c.pattern}"` },
  MODE_NOT_IN_FORCE: {
    text: (c) => `masquerading by ${c.mode} is not in force, ${c.inForce} does it: ${c.why}`,
    retriable: true,
  },
  AGENT_NOT_READY: { text: (c) => `the agent is not ready: ${c.why}`, retriable: true },
  STATE_FILE: { text: (c) => `${c.file}: ${c.why}` },
  FILE_UNWATCHED: {
    text: (c) =>
      `${c.path}: cannot be watched (${c.why}), so changes are found every few seconds only: raise fs.inotify.max_user_instances and fs.inotify.max_user_watches`,
  },
  FILE_UNUSABLE: { text: (c) => `${c.path}: ${c.why}` },
  NO_BPFFS: {
    text: (c) =>
      `${c.path} is no BPF file system and none can be mounted there (${c.why}): mount -t bpf bpf ${c.path}`,
    exitCode: 3,
  },
  MAP_WRITE: { text: (c) => `${c.error}`, retriable: true },
  NO_ROUTE_SOURCE: {
    text: () =>
      "enable-masquerade-to-route-source has no effect: this kernel does not tell a route's preferred source to BPF programs (Linux 6.7 and later do), so pods get the device's address",
  },
  NOT_FOUND: { text: (c) => `${c.what} not found` },
});
