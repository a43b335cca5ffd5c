// SPDX-License-Identifier: Apache-2.0
// Codes of the agent's socket, on both sides.
import { defineFaults } from "../base/fault.ts";

export const faults = defineFaults({
  AGENT_UNREACHABLE: {
    text: (c) =>
      `no agent answers on ${c.socket} (${c.why}): start one with hookline agent, or name its --run-dir`,
    retriable: true,
    exitCode: 3,
  },
  AGENT_REFUSED: { text: (c) => `the agent refused ${c.path}: ${c.why}`, exitCode: 1 },
  REQUEST_TOO_BIG: { text: (c) => `the request has more than ${c.limit} bytes` },
  REQUEST_NOT_JSON: { text: (c) => `the request is not JSON: ${c.why}` },
  CNI_INSTALL: {
    text: (c) => `the CNI plugin is not installed in ${c.binDir} and ${c.conflist}: ${c.why}`,
    retriable: true,
  },
  CNI_BUNDLE: { text: (c) => `${c.path} is missing: npm run build makes it` },
  METRICS_ADDRESS: {
    text: (c) => `prometheus-serve-addr: metrics cannot be served on ${c.host} port ${c.port}: ${c.why}`,
    retriable: true,
  },
  NO_SUCH_PATH: { text: (c) => `${c.method} ${c.path}: there is no such path` },
});
