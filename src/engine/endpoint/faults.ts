// SPDX-License-Identifier: Apache-2.0
// Codes of the endpoint engine: pods that cannot be wired, state that cannot be read.
import { defineFaults } from "../../base/fault.ts";

export const faults = defineFaults({
  ENDPOINT_IDS_EXHAUSTED: { text: (c) => `all ${c.count} endpoint ids are in use` },
  ENDPOINT_EXISTS: { text: (c) => `container ${c.containerId} has an interface ${c.ifName} already` },
  ENDPOINT_NETNS: { text: (c) => `network namespace ${c.netns}: ${c.why}` },
  ENDPOINT_WIRING: { text: (c) => `pod ${c.pod}: ${c.why}` },
  ENDPOINT_STATE: { text: (c) => `${c.file}: ${c.why}` },
});
